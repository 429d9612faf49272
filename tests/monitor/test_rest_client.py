"""Requests to the monitor: hosts, TLS, proxies, tokens, and the deadline of each call."""

from __future__ import annotations

import gzip
import itertools
import json
import socket
import threading
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

import pytest
import requests
import trustme

from fastmon_daemon.base.errors import LinkBlocked, LinkDown, PermanentError, TransientError
from fastmon_daemon.base.failpoints import set_hook
from fastmon_daemon.monitor import MonitorClient, RequestRejected
from fastmon_daemon.monitor.transport import TrustStore, proxies
from tests.base.test_network import silent_address
from tests.monitor.scripted_monitor import (
    EXISTS,
    REQUIRED,
    ROW,
    SHORT,
    TF,
    Action,
    Server,
    client,
    closed_port,
    dripping,
    hangs,
    resets,
    says,
    sends,
)


@pytest.mark.parametrize("password", ["hush-hush", "hush@hush"])
def test_no_error_shows_a_password_of_a_url(password: str) -> None:
    proxy = {"http_proxy": f"http://me:{password}@127.0.0.1:{closed_port()}"}
    monitor = client(f"http://me:{password}@monitor.invalid", environ=proxy)

    with pytest.raises(LinkDown) as caught:
        monitor.register_tf(TF)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "monitor.invalid"])
def test_a_refused_connection_and_an_unknown_host_are_link_down(host: str) -> None:
    monitor = client(f"http://{host}:{closed_port()}")

    with pytest.raises(LinkDown) as caught:
        monitor.register_tf(TF)
    assert not isinstance(caught.value, LinkBlocked)


def test_a_host_that_does_not_accept_the_connection_is_link_down() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(0)
        port = silent.getsockname()[1]
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
        with pytest.raises(LinkDown):
            client(f"http://127.0.0.1:{port}", timeout_s=(0.3, 0.3)).register_tf(TF)
        for one in waiting:
            one.close()


def test_a_certificate_of_a_private_ca_is_accepted(tls_server: tuple[Server, trustme.CA], tmp_path: Path) -> None:
    server, ca = tls_server
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    server.script = [says(201, ROW)]
    monitor = server.client(ca=tmp_path / "ca.pem")

    assert monitor.register_tf(TF)[1] is None


def test_an_untrusted_certificate_blocks_the_link_before_a_token_is_sent(tls_server: tuple[Server, trustme.CA]) -> None:
    server, _ = tls_server

    with pytest.raises(LinkBlocked, match="FASTMON_MONITOR_CA"):
        server.client().register_tf(TF)
    assert server.request_lines == []


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_an_unusable_ca_file_blocks_the_link(
    content: str | None, tls_server: tuple[Server, trustme.CA], tmp_path: Path
) -> None:
    server, _ = tls_server
    if content:
        (tmp_path / "ca.pem").write_text(content)

    with pytest.raises(LinkBlocked, match="FASTMON_MONITOR_CA"):
        server.client(ca=tmp_path / "ca.pem").probe()


@contextmanager
def answering(raw: bytes, host: str = "127.0.0.1") -> Iterator[int]:
    """A port that answers the first bytes of each connection with *raw*, and closes it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as listening:

        def answer() -> None:
            with suppress(OSError):  # the test has ended
                while True:
                    connection, _ = listening.accept()
                    with connection:
                        connection.recv(65536)
                        connection.sendall(raw)

        thread = threading.Thread(target=answer)
        thread.start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)
        thread.join(20)


@pytest.mark.field("19")
@pytest.mark.parametrize(
    ("scheme", "raw", "reason"),
    [
        (
            "https",
            b"HTTP/1.1 400 Bad Request\r\n\r\n",
            "does not use TLS at this port: write http:// in SWF_MONITOR_URL",
        ),
        ("http", b"\x15\x03\x03\x00\x02\x02\x46", "uses TLS at this port: write https:// in SWF_MONITOR_URL"),
    ],
)
def test_tls_on_one_side_only_blocks_the_link_with_the_remedy(scheme: str, raw: bytes, reason: str) -> None:
    with answering(raw) as port, pytest.raises(LinkBlocked, match=reason):
        client(f"{scheme}://127.0.0.1:{port}").register_tf(TF)


@pytest.mark.field("19")
@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "the connection was closed without a response"),
        (b"\x00\x01\x02\r\n\r\n", "not an HTTP response"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "the response was cut short"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n[", "the response was cut short"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nContent-Length: 2\r\n\r\n[]",
            "content-Length contained multiple unmatching values (9, 2)",
        ),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\nnonsense", "the response cannot be decompressed"),
    ],
)
def test_a_broken_response_is_described_in_words(raw: bytes, reason: str) -> None:
    with answering(raw) as port, pytest.raises(LinkDown) as caught:
        client(f"http://127.0.0.1:{port}").tf_files("a.stf")
    assert str(caught.value) == f"GET http://127.0.0.1:{port}/api/fastmon-files/: {reason}"


def test_an_unreachable_host_is_described_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    port = closed_port()
    with pytest.raises(LinkDown, match=r": connection refused$"):
        client(f"http://127.0.0.1:{port}").tf_files("a.stf")
    with pytest.raises(LinkDown, match=r": through the proxy: connection refused$"):
        client("http://monitor.invalid", environ={"http_proxy": f"http://127.0.0.1:{port}"}).tf_files("a.stf")
    with pytest.raises(LinkDown, match=r"fastmon-files/: (name or service not known|temporary failure in)"):
        client("http://monitor.invalid").tf_files("a.stf")
    never = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: never.wait() and [])
    with pytest.raises(LinkDown, match=r": the lookup of slow.invalid took longer than 0\.\d+ s$"):
        client("http://slow.invalid", timeout_s=(0.1, 0.1)).tf_files("a.stf")
    never.set()


@pytest.mark.field("14")
def test_a_host_name_is_reached_though_its_first_addresses_answer_nothing(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.script = [says(200, [ROW])]
    with silent_address() as first, silent_address() as second:
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", a) for a in (first, second, ("127.0.0.1", server.port))]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_: found)
        assert client("http://monitor.example.org").tf_files("a.stf")


@pytest.mark.field("24")
@pytest.mark.parametrize("body", ['[{"n": "gr\u00fc\u00dfe"}]'])
@pytest.mark.parametrize(
    ("encoding", "compress"),
    [
        ("gzip", gzip.compress),
        ("deflate", zlib.compress),
        ("gzip, gzip", lambda data: gzip.compress(gzip.compress(data))),
    ],
)
@pytest.mark.parametrize("charset", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_compressed_response_and_one_with_a_byte_order_mark_are_read(
    charset: str, encoding: str, compress: Callable[[bytes], bytes], body: str
) -> None:
    """As some web servers send them, though we ask for neither."""
    data = compress(body.encode(charset))
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: {encoding}\r\nContent-Length: {len(data)}\r\n\r\n"
    with answering(head.encode() + data) as port:
        assert client(f"http://127.0.0.1:{port}").get("runs/", {}, lambda answer: answer) == json.loads(body)
    plain = body.encode(charset)
    with answering(f"HTTP/1.1 200 OK\r\nContent-Length: {len(plain)}\r\n\r\n".encode() + plain) as port:
        assert client(f"http://127.0.0.1:{port}").get("runs/", {}, lambda answer: answer) == json.loads(body)


@pytest.mark.field("15")
@pytest.mark.skipif(not socket.has_ipv6, reason="this host has no IPv6")
def test_an_ipv6_address_is_reached_and_needs_no_proxy() -> None:
    proxy = {"http_proxy": f"http://127.0.0.1:{closed_port()}"}
    with answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", "::1") as port:
        assert client(f"http://[::1]:{port}", environ=proxy).tf_files("a.stf") == []


def test_a_response_that_is_too_long_when_decompressed_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastmon_daemon.monitor.row_stream.MAX_LIST_BYTES", 100_000)
    monkeypatch.setattr("fastmon_daemon.monitor.row_stream._MAX_HEAD_CHARS", 1_000_000)
    data = gzip.compress(b" " * 1_000_000)
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(data)}\r\n\r\n"
    with answering(head.encode() + data) as port, pytest.raises(LinkDown, match="longer than 100000 bytes"):
        client(f"http://127.0.0.1:{port}").tf_files("a.stf")


@pytest.mark.field("24")
def test_informational_responses_are_skipped(server: Server, monitor: MonitorClient) -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n"
    early = [hints, b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 102 Processing\r\n\r\n", hints]

    def act(connection: socket.socket) -> None:
        for each in early:
            connection.sendall(each)
        says(201, ROW)(connection)

    server.script = [act, act]
    assert monitor.register_tf(TF)[1] is None
    assert monitor.register_tf(TF)[1] is None
    assert server.connections == 1


@pytest.mark.field("24")
@pytest.mark.parametrize("ends", [sends(""), resets])
def test_a_read_is_repeated_once_if_a_kept_connection_ends_without_a_response(
    ends: Action, server: Server, monitor: MonitorClient
) -> None:
    server.script = [says(200, []), ends, says(200, [ROW]), says(200, [])]
    assert monitor.tf_files("a.stf") == []
    assert len(monitor.tf_files("a.stf")) == 1
    assert server.connections == 2
    server.script = [ends, says(200, [])]
    with pytest.raises(LinkDown, match=r"closed|reset"):
        monitor.tf_files("a.stf")  # a new connection: the failure is the server's
    assert len(server.script) == 1


@pytest.mark.field("24")
def test_with_a_server_that_closes_each_connection_at_its_second_request_every_tf_is_registered_once(
    server: Server, monitor: MonitorClient
) -> None:
    """A POST may have been carried out: it is looked up before it is repeated, and then on a new connection."""
    server.script = [says(201, ROW), sends(""), says(200, []), *[says(201, ROW)] * 3]
    monitor.register_tf(TF)
    with pytest.raises(TransientError):
        monitor.register_tf(TF)
    for _ in range(3):
        monitor.register_tf(TF)
    assert [line.split()[0] for line in server.request_lines] == ["POST", "POST", "GET", "POST", "POST", "POST"]
    assert server.connections == 5, "no connection got a second request after the first loss"


@pytest.mark.field("24")
@pytest.mark.parametrize("ends", [sends(""), resets])
def test_a_kept_connection_that_ends_does_not_make_a_probe_fail(
    ends: Action, server: Server, monitor: MonitorClient
) -> None:
    """A probe reads, and writes what is never accepted: that may be sent twice."""
    server.script = [says(200, []), ends, says(400, REQUIRED)]
    monitor.probe()
    assert [line.split()[0] for line in server.request_lines] == ["GET", "POST", "POST"]
    assert server.connections == 2
    server.script = [says(200, []), ends, ends]
    with pytest.raises(LinkDown, match=r"closed|reset"):
        monitor.probe()


@pytest.mark.field("23")
@pytest.mark.parametrize(
    ("url", "no_proxy", "is_direct"),
    [
        ("http://10.1.2.3:8002", "10.0.0.0/8", True),
        ("http://10.1.2.3:8002", "11.0.0.0/8", False),
        ("http://monitor.example.org:8002", "monitor.example.org:8002", True),
        ("http://monitor.example.org:8002", "monitor.example.org:8003", False),
        ("http://monitor.example.org", ".example.org", True),
        ("http://monitor.example.org", "example.org", True),
        ("http://monitor.example.org", "*", True),
        ("http://monitor.example.org", "other.org, example.net", False),
        ("http://[::1]:8002", "", True),
    ],
)
def test_no_proxy_is_read_as_requests_reads_it(url: str, no_proxy: str, is_direct: bool) -> None:
    for name in ("http_proxy", "ALL_PROXY"):
        found = proxies(url, {name: "http://proxy.example.org:3128", "no_proxy": no_proxy})
        assert found == ({} if is_direct else {"http": "http://proxy.example.org:3128"})


@pytest.mark.field("25")
def test_the_trusted_certificates_are_the_settings_then_the_systems(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ca.pem", str(tmp_path / "system.pem")
    assert str(TrustStore.of(ours, {"SSL_CERT_FILE": theirs})) == f"FASTMON_MONITOR_CA: {ours}"
    assert str(TrustStore.of(None, {"SSL_CERT_FILE": theirs})) == f"SSL_CERT_FILE: {theirs}"
    assert str(TrustStore.of(None, {"SSL_CERT_DIR": theirs})) == f"SSL_CERT_DIR: {theirs}"
    default = TrustStore.of(None, {})
    assert Path(default.path).exists()
    assert default.name in {"the system's CAs", "CAs of the Python package certifi"}


@pytest.mark.field("25")
def test_a_certificate_that_the_system_trusts_is_accepted_and_the_error_names_what_is_trusted(
    tls_server: tuple[Server, trustme.CA], tmp_path: Path
) -> None:
    server, ca = tls_server
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
    server.script = [says(201, ROW)]

    assert server.client(environ={"SSL_CERT_FILE": str(tmp_path / "ca.pem")}).register_tf(TF)[1] is None
    with pytest.raises(LinkBlocked, match=r"certificate not trusted .*\(trusted now: SSL_CERT_FILE: .*other\.pem\)"):
        server.client(environ={"SSL_CERT_FILE": str(tmp_path / "other.pem")}).register_tf(TF)


def test_a_connection_is_reused(server: Server, monitor: MonitorClient) -> None:
    server.script = [says(201, ROW), says(400, EXISTS), says(200, [ROW])]

    monitor.register_tf(TF)
    monitor.register_tf(TF)

    assert server.connections == 1


def test_a_request_over_a_kept_connection_is_the_same_as_over_a_new_one(server: Server) -> None:
    server.script = [*[says(201, ROW)] * 2, *[says(200, [ROW])] * 2]
    monitor = client(f"{server.url.replace('//', '//me:hush@')}/swf-monitor/")
    for _ in range(2):
        monitor.register_tf(TF)
    assert server.connections == 1
    monitor.close()
    for _ in range(2):
        monitor.tf_files("a b&\N{GREEK SMALL LETTER MU}.stf")
    monitor.close()

    assert server.connections == 2
    assert server.requests[0] == server.requests[1]
    assert server.requests[2] == server.requests[3]
    assert server.request_lines[3] == "GET /swf-monitor/api/fastmon-files/?stf_filename=a+b%26%CE%BC.stf"
    assert server.requests[1][1] == {
        "host": f"127.0.0.1:{server.port}", "user-agent": requests.utils.default_user_agent(),
        "connection": "keep-alive", "accept": "application/json", "accept-encoding": "identity",
        "content-type": "application/json", "authorization": "Basic bWU6aHVzaA==",
        "content-length": str(len(server.requests[1][2])),
    }  # fmt: skip


_BEGIN = "HTTP/1.1 201 Created\r\n"
_TEXT = json.dumps(ROW)
_CHUNKS = f"{len(_TEXT):x}\r\n{_TEXT}\r\n0\r\n"
_WHOLE = f"Content-Length: {len(_TEXT)}\r\n\r\n{_TEXT}"


@pytest.mark.parametrize(
    ("raw", "stays_open"),
    [
        (f"{_BEGIN}{_WHOLE}", True),
        (f"{_BEGIN}X-One: 1\r\nX-One: 2\r\nX-Folded: a\r\n b\r\n{_WHOLE}", True),
        (f"{_BEGIN}no header\r\n{_WHOLE}", False),
        (f"{_BEGIN}Connection: close\r\n{_WHOLE}", False),
        (f"HTTP/1.0 201 Created\r\n{_WHOLE}", False),
        (f"HTTP/1.0 201 Created\r\n\r\n{_TEXT}", False),
        (f"HTTP/1.1 201\r\n{_WHOLE}", True),
        (f"{_BEGIN}Transfer-Encoding: chunked\r\n\r\n{_CHUNKS}\r\n", True),
        (f"{_BEGIN}Transfer-Encoding: chunked\r\n\r\n{_CHUNKS}X-Trailer: 1\r\n\r\n", True),
        (f"{_BEGIN}Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n{_CHUNKS}\r\n", True),
        (f"{_BEGIN}Transfer-Encoding: chunked\r\n\r\n{_CHUNKS[:40]}", False),
        (f"{_BEGIN}Transfer-Encoding: chunked\r\n\r\nzz\r\n{_TEXT}", False),
        (f"{_BEGIN}Content-Length: {len(_TEXT) + 1}\r\n\r\n{_TEXT}", False),
        (f"{_BEGIN}Content-Length: 9\r\nContent-Length: 2\r\n\r\n{_TEXT}", False),
        (f"{_BEGIN}Content-Length: nine\r\n\r\n{_TEXT}", False),
        (f"{_BEGIN}Content-Encoding: gzip\r\n{_WHOLE}", False),
        (f"{_BEGIN}Content-Length: 0\r\n\r\n", True),
        ("HTTP/1.1 204 No Content\r\n\r\n", True),
        ("HTTP/1.1 304 Not Modified\r\n\r\n", True),
        ("HTTP/1.1 302 Found\r\nLocation: /login\r\nContent-Length: 0\r\n\r\n", True),
        ("HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\n\r\n{}", True),
        ("HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\n{}", True),
        ("HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n", True),
        ("HTTP/1.1 999 Odd\r\nContent-Length: 0\r\n\r\n", True),
        ("HTTP/1.1 nope\r\n\r\n", False),
        ("\x00\x01\x02\r\n\r\n", False),
        (f"{_BEGIN}X: {'x' * 70_000}\r\n{_WHOLE}", False),
        (f"{_BEGIN}{''.join(f'X-{n}: 1{chr(13)}{chr(10)}' for n in range(120))}{_WHOLE}", False),
        (_BEGIN, False),
    ],
)
def test_an_answer_means_the_same_on_a_kept_connection_as_on_a_new_one(
    raw: str, stays_open: bool, server: Server
) -> None:
    def act(connection: socket.socket) -> None:
        connection.sendall(raw.encode())
        if not stays_open:
            sends("")(connection)

    outcomes = []
    for before in ([], [says(201, ROW)]):
        server.script = [*before, act, says(200, [])]
        monitor = client(server.url, max_retry_after_s=0.0)
        for _ in before:
            monitor.register_tf(TF)
        try:
            outcomes.append(monitor.request("POST", "fastmon-files/", lambda row: row, body="{}", may_repeat=False))
        except (LinkDown, TransientError, PermanentError) as exc:
            outcomes.append((type(exc), str(exc), getattr(exc, "retry_after_s", None)))
        connections = server.connections
        assert monitor.tf_files("a.stf") == []
        assert server.connections - connections == (not stays_open), "a connection is kept if its answer was whole"
        monitor.close()
    assert outcomes[0] == outcomes[1]


_ROWS = json.dumps([ROW])


@pytest.mark.parametrize(
    ("raw", "rows"),
    [
        (f"HTTP/1.1 200 OK\r\nContent-Length: {len(_ROWS)}\r\n\r\n{_ROWS}", 1),
        (f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{len(_ROWS):x}\r\n{_ROWS}\r\n0\r\n\r\n", 1),
        (f"HTTP/1.1 200 OK\r\nContent-Length: {len(_ROWS)}\r\n\r\n{_ROWS[:-1]}", 1),
        (f"HTTP/1.1 200 OK\r\nContent-Length: {len(_ROWS)}\r\nContent-Encoding: gzip\r\n\r\n{_ROWS}", 0),
        ("HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n", 0),
    ],
)
def test_a_list_is_the_same_on_a_kept_connection_as_on_a_new_one(raw: str, rows: int, server: Server) -> None:
    def read(monitor: MonitorClient) -> tuple[int, str]:
        taken: list[object] = []
        try:
            monitor.get_rows("fastmon-files/", {}, taken.append)
        except LinkDown as exc:
            return len(taken), str(exc)
        return len(taken), ""

    outcomes = []
    for before in ([], [says(201, ROW)]):
        server.script = [*before, sends(raw)]
        monitor = client(server.url)
        for _ in before:
            monitor.register_tf(TF)
        outcomes.append(read(monitor))
        monitor.close()
    assert outcomes[0] == outcomes[1]
    assert outcomes[0][0] == rows


def test_a_kept_connection_with_tls_is_used_again(tls_server: tuple[Server, trustme.CA], tmp_path: Path) -> None:
    server, ca = tls_server
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    server.script = [says(201, ROW)] * 3
    monitor = server.client(ca=tmp_path / "ca.pem")
    for _ in range(3):
        assert monitor.register_tf(TF)[1] is None
    assert server.connections == 1
    assert server.requests[0] == server.requests[2]


def test_a_changed_token_is_used_at_the_next_call_and_an_empty_one_sends_no_header(server: Server) -> None:
    tokens = ["first\n", "second", ""]
    server.script = [says(201, ROW)] * 3
    monitor = server.client(token=lambda: tokens.pop(0))

    for _ in range(3):
        monitor.register_tf(TF)

    assert [headers.get("authorization") for _, headers, _ in server.requests] == ["Token first", "Token second", None]


def test_an_invalid_token_is_an_error_that_does_not_show_it(server: Server) -> None:
    monitor = server.client(token=lambda: "gar\nbled")

    with pytest.raises(LinkBlocked, match="SWF_API_TOKEN") as caught:
        monitor.probe()
    assert "bled" not in str(caught.value)


def test_a_response_that_is_too_long_is_an_error(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastmon_daemon.monitor.transport.MAX_ANSWER_BYTES", 1000)
    server.script = [says(200, " " * 2000)]

    with pytest.raises(LinkDown, match="longer than 1000 bytes"):
        server.client(timeout_s=SHORT).run_ended_at(77)


def test_of_a_long_error_only_the_beginning_is_read(server: Server) -> None:
    server.script = [says(400, {"tf_count": ["no"], "more": "x" * 1_000_000})]

    with pytest.raises(RequestRejected, match="tf_count"):
        server.client(timeout_s=SHORT).announce("{}", "")


def test_endless_headers_are_not_collected(server: Server) -> None:
    server.script = [sends("HTTP/1.1 200 OK\r\n" + "".join(f"X-{n}: {'x' * 60_000}\r\n" for n in range(90)))]

    with pytest.raises(LinkDown, match="not an HTTP response"):
        server.client(timeout_s=SHORT).run_ended_at(77)


def test_a_proxy_is_used_except_for_loopback_and_the_hosts_in_no_proxy(server: Server) -> None:
    proxy = {"HTTP_PROXY": f"http://127.0.0.1:{server.port}"}
    server.script = [says(201, ROW)]

    client("http://monitor.invalid", environ=proxy).register_tf(TF)
    assert server.request_lines == ["POST http://monitor.invalid/api/fastmon-files/"]

    excluded = proxy | {"no_proxy": "example.org, .invalid"}
    for url in (f"http://127.0.0.1:{closed_port()}", f"http://localhost:{closed_port()}", "http://monitor.invalid"):
        with pytest.raises(LinkDown):
            client(url, environ=excluded).register_tf(TF)
    assert len(server.request_lines) == 1


def test_an_unreachable_proxy_is_link_down() -> None:
    proxy = {"http_proxy": f"http://127.0.0.1:{closed_port()}"}

    with pytest.raises(LinkDown):
        client("http://monitor.invalid", environ=proxy).register_tf(TF)


@pytest.mark.parametrize("url", ["monitor:8002", "ftp://monitor", "http://"])
def test_an_invalid_base_url_blocks_the_link(url: str) -> None:
    with pytest.raises(LinkBlocked, match="SWF_MONITOR_URL"):
        client(url).probe()


@pytest.mark.parametrize(
    "proxy", ["http://me:hush/hush@proxy:80", "http://me:hush@", "http://m[e:hush@proxy", "me:hush@:80"]
)
def test_an_invalid_proxy_blocks_the_link_and_its_password_is_not_shown(proxy: str) -> None:
    monitor = client("http://monitor.invalid", environ={"http_proxy": proxy})
    with pytest.raises(LinkBlocked, match="the proxy variables") as caught:
        monitor.register_tf(TF)
    assert "hush" not in str(caught.value)


def test_a_password_in_the_base_url_is_not_shown() -> None:
    with pytest.raises(LinkDown) as caught:
        client(f"http://me:hush@127.0.0.1:{closed_port()}").probe()
    assert "hush" not in str(caught.value)


def test_every_call_passes_its_failpoints(server: Server, monitor: MonitorClient) -> None:
    passed: list[str] = []
    server.script = [says(201, ROW)]
    set_hook(passed.append)
    try:
        monitor.register_tf(TF)
    finally:
        set_hook(None)
    assert passed == ["before_http", "after_http"]


@pytest.mark.parametrize("begin", [b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n"])
def test_an_endlessly_slow_response_ends_at_the_deadline(begin: bytes, server: Server) -> None:
    """Each byte arrives before the read timeout: only a deadline for the whole response ends it."""
    server.script = [dripping(begin)]
    monitor = server.client(deadline_s=0.4)

    with pytest.raises(LinkDown):
        monitor.probe()


def test_an_endlessly_slow_response_through_a_proxy_ends_at_the_deadline(server: Server) -> None:
    server.script = [dripping(b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n")]
    environ = {"http_proxy": f"http://127.0.0.1:{server.port}"}
    with pytest.raises(LinkDown, match="no response in time"):
        client("http://monitor.invalid", environ=environ, deadline_s=0.4).probe()
    assert server.request_lines[0].startswith("GET http://monitor.invalid/api/")


def test_the_deadline_of_one_request_does_not_shorten_the_next(server: Server) -> None:
    seconds = itertools.count(0.0, 0.09)
    monitor = server.client(deadline_s=1.0, monotonic=lambda: next(seconds))
    server.script = [says(201, ROW)] * 20

    for _ in range(20):
        monitor.register_tf(TF)
    assert server.connections == 1


EMPTY_PAGE = {"count": 0, "next": None, "previous": None, "results": []}


@contextmanager
def all_connections_busy(server: Server, monitor: MonitorClient, then: list[Action]) -> Iterator[Future[object]]:
    """A call in flight on the only connection of *monitor*, answered at the end; *then* follows in the script."""
    requested, go_on = threading.Event(), threading.Event()

    def respond_late(connection: socket.socket) -> None:
        requested.set()
        go_on.wait(20)
        says(200, EMPTY_PAGE)(connection)

    server.script = [respond_late, *then]
    with ThreadPoolExecutor(1) as pool:
        call: Future[object] = pool.submit(monitor.stf_files, 7)  # a list, which has 5 s more than other calls
        try:
            assert requested.wait(20)
            yield call
        finally:
            go_on.set()
            call.exception(20)


def test_waiting_for_a_connection_ends_at_the_deadline_of_the_call(server: Server) -> None:
    monitor = server.client(deadline_s=0.2)
    with all_connections_busy(server, monitor, []) as call:
        with pytest.raises(LinkDown, match="not sent"):
            monitor.register_tf(TF)
        assert not call.done()
    assert len(server.request_lines) == 1


def test_a_waiting_call_is_sent_when_a_connection_is_free(server: Server) -> None:
    monitor = server.client()
    with ThreadPoolExecutor(1) as pool:
        with all_connections_busy(server, monitor, [says(201, ROW)]):
            waiting = pool.submit(monitor.register_tf, TF)
        assert waiting.result(20)[1] is None


def test_the_deadline_includes_the_time_spent_waiting_for_a_connection(server: Server) -> None:
    now, begun = [0.0], threading.Event()

    def monotonic() -> float:
        seconds = now[0]
        if threading.current_thread().name.startswith("waiting"):
            begun.set()
        return seconds

    monitor = server.client(timeout_s=(3.0, 900.0), deadline_s=1000.0,
        monotonic=monotonic,
    )  # fmt: skip
    with ThreadPoolExecutor(1, thread_name_prefix="waiting") as pool:
        with all_connections_busy(server, monitor, [hangs]):
            waiting = pool.submit(monitor.tf_files, "a.stf")
            assert begun.wait(20)
            now[0] = 999.5
        assert isinstance(waiting.exception(20), LinkDown)


def test_the_probe_does_not_wait_for_a_busy_connection(server: Server) -> None:
    """The probe must find out that the monitor is back even if all earlier calls hang."""
    monitor = server.client(deadline_s=20.0)
    with all_connections_busy(server, monitor, [says(200, EMPTY_PAGE), says(400, REQUIRED)]) as call:
        monitor.probe()
        assert not call.done()


@pytest.mark.field("23")
def test_a_socks_proxy_without_pysocks_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_args: object, **_options: object) -> NoReturn:
        raise requests.exceptions.InvalidSchema("Missing dependencies for SOCKS support.")

    monkeypatch.setattr("requests.adapters.SOCKSProxyManager", missing)
    monitor = client("http://monitor.invalid", environ={"all_proxy": "socks5h://127.0.0.1:1"})
    with pytest.raises(LinkBlocked, match=r"needs PySocks: pip install 'requests\[socks\]'"):
        monitor.register_tf(TF)
