"""What stands between client and monitor: compressed answers, interim answers, closed connections, and the words."""

from __future__ import annotations

import gc
import gzip
import json
import shutil
import socket
import ssl
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from click.testing import CliRunner, Result

from fastmon_client.cli import cli
from fastmon_client.intervals import Intervals
from fastmon_client.monitor_session import MonitorSession
from fastmon_client.monitor_tables import MonitorUnavailable, Tables
from fastmon_client.stream import Disconnected, Stream
from fastmon_client.trust import TrustStore
from tests.client.scripted_server import (
    CHUNKED,
    OPEN,
    Answer,
    ScriptedServer,
    certified,
    event,
    notices_of,
    response,
    status_response,
)  # fmt: skip

ROWS = [{"run_number": 7}]
BODY = json.dumps(ROWS).encode()
LIBRARY_WORDS = ("Max retries", "Caused by", "HTTPConnection", "invalid literal", "object at 0x", "Errno", "_ssl.c")


def ok(body: bytes, *headers: str) -> bytes:
    lines = "".join(f"{header}\r\n" for header in headers)
    return f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n{lines}\r\n".encode() + body


def tables_at(url: str, trust: TrustStore | None = None) -> Tables:
    return Tables(MonitorSession(url=url, token=str, **({"trust": trust} if trust else {})))


@pytest.mark.field("24")
@pytest.mark.parametrize(
    "answer",
    [
        ok(gzip.compress(BODY), "Content-Encoding: gzip"),
        ok(b"\xef\xbb\xbf" + BODY),
        b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n" + ok(BODY),
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n" + ok(BODY),
    ],
    ids=["gzip", "bom", "103", "100 and 102"],
)
def test_answer_of_a_front_is_read(answer: bytes) -> None:
    with ScriptedServer([answer]) as server:
        assert tables_at(server.url).runs() == ROWS


@pytest.mark.field("24")
def test_compressed_stream_is_read() -> None:
    body = gzip.compress(event('{"a": 1}'))
    head = OPEN.replace(b"Connection", b"Content-Encoding: gzip\r\nConnection")
    with ScriptedServer([b"HTTP/1.1 103 Early Hints\r\n\r\n", head, body]) as server:
        stream = Stream(monitor=MonitorSession(url=server.url, token=str), intervals=Intervals())
        with closing(notices_of(stream)) as notices:
            assert next(notice for notice in notices if isinstance(notice, dict)) == {"a": 1}


@pytest.mark.field("24")
def test_connection_that_ends_at_the_second_request_is_replaced_once() -> None:
    def answer_once_then_close(connection: socket.socket) -> None:
        connection.sendall(ok(BODY))
        connection.recv(65536)  # the second request

    with ScriptedServer(*[answer_once_then_close] * 3) as server:
        tables = tables_at(server.url)
        assert [tables.runs() for _ in range(3)] == [ROWS] * 3
        tables.close()
        gc.collect()  # urllib3 closes the connections of a pool with the pool, which the repeated requests still hold


def test_new_connection_that_ends_is_not_repeated() -> None:
    with ScriptedServer([], [ok(BODY)]) as server:
        with pytest.raises(MonitorUnavailable, match="the monitor closed the connection"):
            tables_at(server.url).runs()
        assert len(server.requests) == 1


@pytest.mark.field("19")
@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ([CHUNKED, b"zz\r\n"], "the response was cut short"),
        ([CHUNKED], "the response was cut short"),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n[]"], "the response was cut short"),
        ([b"SSH-2.0-OpenSSH\r\n"], "the monitor does not answer in HTTP"),
        ([b"\x15\x03\x03\x00\x02\x02\x46"], "the monitor uses TLS: write https:// in SWF_MONITOR_URL"),
        ([ok(b"no gzip", "Content-Encoding: gzip")], "the monitor sent compressed data that cannot be read"),
        ([b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 200 + b"\r\n"], "the monitor sent an invalid response"),
    ],
)
def test_reason_is_in_words_for_people(answer: Answer, reason: str) -> None:
    with ScriptedServer(answer) as server, pytest.raises(MonitorUnavailable) as failure:
        tables_at(server.url).runs()
    assert reason in str(failure.value)
    assert not [word for word in LIBRARY_WORDS if word in str(failure.value)]


@pytest.mark.parametrize("cut", [[CHUNKED, b"zz\r\n"], [CHUNKED, b"20\r\ndata"], [OPEN]])
def test_cut_stream_was_closed_by_the_monitor(cut: list[bytes]) -> None:
    with ScriptedServer(cut) as server:
        stream = Stream(monitor=MonitorSession(url=server.url, token=str), intervals=Intervals())
        with closing(notices_of(stream)) as notices:
            lost = next(notice for notice in notices if isinstance(notice, Disconnected))
    assert lost.reason == "the monitor closed the stream"


def run(*words: str, **environ: str) -> Result:
    return CliRunner(env={"SWF_API_TOKEN": "t" * 40, **environ}).invoke(cli, words)


@pytest.mark.field("19")
@pytest.mark.parametrize("words", [("status",), ("summary", "--run", "1"), ("start", "--quiet", "--for", "2s")])
def test_no_command_shows_the_words_of_the_libraries(words: tuple[str, ...]) -> None:
    refused = run(*words, SWF_MONITOR_URL="http://127.0.0.1:1")
    assert "connection refused" in refused.output
    with ScriptedServer(*[[b"HTTP/1.0 400 Bad\r\n\r\n"]] * 9, waits_for_request=False) as server:
        plain = run(*words, SWF_MONITOR_URL=server.url.replace("http://", "https://"))
    assert "write http:// in SWF_MONITOR_URL" in plain.output
    for output in (refused.output, plain.output):
        assert not [word for word in LIBRARY_WORDS if word in output]


@pytest.mark.field("20")
@pytest.mark.parametrize("words", [("status",), ("summary", "--run", "1"), ("start", "--quiet", "--for", "1s")])
def test_what_the_monitor_sent_is_escaped_once(words: tuple[str, ...]) -> None:
    evil = "\x1b]0;title\x07\x00\x9b\u2028"
    page = response(f"<h1>502{evil}</h1>".encode(), "text/html; charset=utf-8")
    away = status_response("302 Found", f"Location: /login{evil}".replace("\u2028", "").replace("\x00", ""))
    for answer in (page, away):
        with ScriptedServer(*[answer] * 9) as server:
            output = run(*words, SWF_MONITOR_URL=server.url).output
        assert all(char.isprintable() or char == "\n" for char in output), output
        assert "\\\\x1b" not in output


@pytest.mark.parametrize(
    "proxy",
    ["http://me:hush-hush@a..b:3128", "http://me:hush-hush@[::1", "http://me:hush-hush@h:port", "nothing://x",
     "http://me:hush/hush@h:1", "me:hush-hush@h..x:1", "http://me:hush-hush@"],
)  # fmt: skip
@pytest.mark.parametrize("words", [("status",), ("summary", "--run", "1"), ("start", "--quiet")])
def test_invalid_proxy_is_a_usage_error_that_does_not_show_it(words: tuple[str, ...], proxy: str) -> None:
    done = run(*words, SWF_MONITOR_URL="http://monitor.example", http_proxy=proxy, no_proxy="", NO_PROXY="")
    assert done.exit_code == 2
    assert "the proxy variable for the monitor is not a URL" in done.output
    assert "hush" not in done.output


@pytest.mark.field("23")
def test_socks_proxy_without_pysocks_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "socks", None)
    environ = {"SWF_MONITOR_URL": "http://monitor.example", "http_proxy": "socks5h://127.0.0.1:1", "no_proxy": ""}
    done = run("status", **environ, NO_PROXY="")
    assert done.exit_code == 2
    assert "needs PySocks: pip install 'requests[socks]'" in " ".join(done.output.split())


def test_socks_proxy_that_refuses_is_no_traceback() -> None:
    environ = {"SWF_MONITOR_URL": "http://monitor.example", "http_proxy": "socks5h://127.0.0.1:1", "no_proxy": ""}
    done = run("summary", "--run", "1", **environ, NO_PROXY="")
    assert done.exit_code in (1, 4)  # 1 without PySocks
    assert "Traceback" not in done.output
    assert not isinstance(done.exception, Exception)


@pytest.mark.parametrize(
    "answer", [ok(b"no gzip", "Content-Encoding: gzip"), ok(b"[" * 100_000), ok(b'{"count": "many"}'), ok(b"\xff")]
)
def test_status_stands_any_body(answer: bytes) -> None:
    with ScriptedServer(*[[answer]] * 9) as server:
        done = run("status", SWF_MONITOR_URL=server.url)
    assert "FAILED REST" in done.output
    assert not isinstance(done.exception, Exception)


@pytest.mark.field("25")
def test_status_and_requests_trust_the_same(tmp_path: Path) -> None:
    tls, ca = certified(tmp_path)
    trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
    answer = [ok(b'{"count": 1}')]
    cases: tuple[tuple[dict[str, str], str, bool], ...] = (
        ({"SSL_CERT_FILE": ca}, "SSL_CERT_FILE", True),
        ({"SSL_CERT_FILE": str(tmp_path / "other.pem"), "FASTMON_MONITOR_CA": ca}, "FASTMON_MONITOR_CA", True),
        ({"SSL_CERT_FILE": ca, "FASTMON_MONITOR_CA": str(tmp_path / "other.pem")}, "FASTMON_MONITOR_CA", False),
        ({"SSL_CERT_FILE": "", "SSL_CERT_DIR": ""}, "the system's CAs", False),
    )
    for variables, name, is_trusted in cases:
        with ScriptedServer(*[answer] * 9, tls=tls) as server:
            output = run("status", SWF_MONITOR_URL=server.url, **variables).output
        assert f"({name})" in output
        assert ("certificate valid" in output) is is_trusted
        assert ("1 STFs registered" in output) is is_trusted
        assert ("set FASTMON_MONITOR_CA to the PEM file of the monitor's CA" in output) is not is_trusted


@pytest.mark.field("25")
@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl names the files by their hash")
def test_hashed_folder_of_certificates_is_trusted(tmp_path: Path) -> None:
    tls, ca = certified(tmp_path)
    folder = tmp_path / "certs"
    folder.mkdir()
    words = ["openssl", "x509", "-noout", "-hash", "-in", ca]
    name = subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
    (folder / f"{name}.0").write_bytes(Path(ca).read_bytes())
    with ScriptedServer(*[[ok(b'{"count": 1}')]] * 9, tls=tls) as server:
        output = run("status", SWF_MONITOR_URL=server.url, SSL_CERT_FILE="", SSL_CERT_DIR=str(folder)).output
    assert f"certificate valid (SSL_CERT_DIR: {folder})" in output
    assert "1 STFs registered" in output


def test_certificate_of_another_name_or_time_has_another_hint(tmp_path: Path) -> None:
    ca = trustme.CA()
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    yesterday = datetime.now(UTC) - timedelta(days=1)
    cases = (
        (ca.issue_cert("other.example"), "set SWF_MONITOR_URL to a host name in the monitor's certificate"),
        (ca.issue_cert("localhost", not_after=yesterday), "check the clock of this host"),
    )
    for certificate, hint in cases:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(tls)
        with ScriptedServer(*[[]] * 9, tls=tls) as server:
            environ = {"SWF_MONITOR_URL": server.url, "FASTMON_MONITOR_CA": str(tmp_path / "ca.pem")}
            outputs = [run("status", **environ).output, run("summary", "--run", "1", **environ).output]
        assert [hint in output for output in outputs] == [True, True], outputs
