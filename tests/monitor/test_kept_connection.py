"""A request over a kept connection has the outcome that it has over a new one, which the libraries read."""

from __future__ import annotations

import gzip
import json
import socket
import time
from pathlib import Path

import pytest
import trustme

from fastmon_daemon.base.errors import FastmonError
from fastmon_daemon.monitor import AgentClient, MonitorClient, OutcomeUnknown
from tests.monitor.scripted_monitor import ROW, TF, TOKEN, Action, Server, drips, hangs, says

BODY = json.dumps(ROW).encode()
LENGTH = b"Content-Length: %d\r\n" % len(BODY)
ZIPPED = gzip.compress(BODY)
GZIP = b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)

RESPONSES = {
    "plain": b"HTTP/1.1 201 Created\r\n" + LENGTH + b"\r\n" + BODY,
    "no reason": b"HTTP/1.1 201\r\n" + LENGTH + b"\r\n" + BODY,
    "names in lower case": b"HTTP/1.1 201 Created\r\n" + LENGTH.lower() + b"\r\n" + BODY,
    "names in upper case": b"HTTP/1.1 201 Created\r\n" + LENGTH.upper() + b"\r\n" + BODY,
    "spaces": b"HTTP/1.1 201 Created\r\nDate:\r\nContent-Length:  %d \r\n\r\n" % len(BODY) + BODY,
    "repeated headers": b"HTTP/1.1 201 Created\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n" + LENGTH + b"\r\n" + BODY,
    "ends of lines without CR": b"HTTP/1.1 201 Created\n" + LENGTH.replace(b"\r", b"") + b"\n" + BODY,
    "a folded header": b"HTTP/1.1 201 Created\r\nServer: a\r\n b\r\n" + LENGTH + b"\r\n" + BODY,
    "HTTP/1.0": b"HTTP/1.0 201 Created\r\n" + LENGTH + b"\r\n" + BODY,
    "HTTP/1.2": b"HTTP/1.2 201 Created\r\n" + LENGTH + b"\r\n" + BODY,
    "HTTP/2": b"HTTP/2 201 Created\r\n" + LENGTH + b"\r\n" + BODY,
    "to be closed": b"HTTP/1.1 201 Created\r\nConnection: Close\r\n" + LENGTH + b"\r\n" + BODY,
    "until it closes": b"HTTP/1.1 201 Created\r\n\r\n" + BODY,
    "informational first": b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 201 Created\r\n" + LENGTH + b"\r\n" + BODY,
    "chunked": b"HTTP/1.1 201 Created\r\n" + CHUNKED,
    "chunked and of a length": b"HTTP/1.1 201 Created\r\nContent-Length: 3\r\n" + CHUNKED,
    "compressed": b"HTTP/1.1 201 Created\r\n" + GZIP % len(ZIPPED) + ZIPPED,
    "compressed nonsense": b"HTTP/1.1 201 Created\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nabcd",
    "more than its length": b"HTTP/1.1 201 Created\r\n" + LENGTH + b"\r\n" + BODY + b"HTTP/1.1 500 No\r\n\r\n",
    "less than its length": b"HTTP/1.1 201 Created\r\nContent-Length: 9999\r\n\r\n" + BODY,
    "two lengths": b"HTTP/1.1 201 Created\r\nContent-Length: 3\r\n" + LENGTH + b"\r\n" + BODY,
    "a length below zero": b"HTTP/1.1 201 Created\r\nContent-Length: -1\r\n\r\n" + BODY,
    "a length that is no number": b"HTTP/1.1 201 Created\r\nContent-Length: many\r\n\r\n" + BODY,
    "no content": b"HTTP/1.1 204 No Content\r\n\r\n",
    "no content, of a length": b"HTTP/1.1 204 No Content\r\n" + LENGTH + b"\r\n",
    "an empty body": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "too long": b"HTTP/1.1 201 Created\r\nContent-Length: 70000\r\n\r\n" + b" " * 70_000,
    "an endless head": b"HTTP/1.1 201 Created\r\n" + b"A: b\r\n" * 20_000,
    "a header without a colon": b"HTTP/1.1 201 Created\r\nnonsense\r\n" + LENGTH + b"\r\n" + BODY,
    "a head that is cut": b"HTTP/1.1 201 Created\r\nContent-Le",
    "nonsense": b"\x00\x01\x02\r\n\r\n",
    "a status of two digits": b"HTTP/1.1 99 Odd\r\n" + LENGTH + b"\r\n" + BODY,
    "a login page": b"HTTP/1.1 302 Found\r\nLOCATION: /login\r\nContent-Length: 0\r\n\r\n",
    "an error": b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy",
    "too many requests": b"HTTP/1.1 429 No\r\nretry-after: 7\r\nContent-Length: 0\r\n\r\n",
}  # fmt: skip


def cut(data: bytes, size: int) -> Action:
    """Send *data* in parts of *size* bytes, and no more."""

    def act(connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for begin in range(0, len(data), size):
            connection.sendall(data[begin : begin + size])
            time.sleep(0.001 if size < 1000 else 0)
        connection.shutdown(socket.SHUT_WR)

    return act


def outcome(client: MonitorClient) -> object:
    """What one call returns, or the error that it raises."""
    try:
        return client.request("POST", "fastmon-files/", lambda row: row, body="{}", may_repeat=False)
    except FastmonError as exc:
        return type(exc), str(exc), getattr(exc, "retry_after_s", None), getattr(exc, "is_meaningless", None)


@pytest.mark.parametrize("size", [7, 100_000])
@pytest.mark.parametrize("name", RESPONSES)
def test_a_response_means_the_same_as_over_a_new_connection(name: str, size: int, server: Server) -> None:
    if size < 1000 < len(RESPONSES[name]):
        size = 20_000
    act = cut(RESPONSES[name], size)
    server.script = [act, says(200, {}), act]
    new, kept = server.client(timeout_s=(5, 2)), server.client(timeout_s=(5, 2))

    expected = outcome(new)
    assert outcome(kept) == {}
    before = server.connections
    assert outcome(kept) == expected
    assert server.connections == before, "it was no kept connection"


@pytest.fixture
def kept(server: Server) -> MonitorClient:
    """A client with one kept connection."""
    found = server.client(timeout_s=(5, 0.3), deadline_s=0.6)
    server.script = [says(200, {})]
    outcome(found)
    return found


@pytest.mark.parametrize("act", [hangs, drips])
def test_a_slow_response_ends_at_the_deadline(act: Action, server: Server, kept: MonitorClient) -> None:
    server.script = [act, says(200, {})]
    begun = time.monotonic()
    with pytest.raises(OutcomeUnknown, match="no response in time"):
        kept.request("POST", "fastmon-files/", lambda row: row, body="{}", may_repeat=False)
    assert time.monotonic() - begun < 5
    assert outcome(kept) == {}
    assert server.connections == 2, "the response of the first might still come"


@pytest.mark.parametrize("name", ["more than its length", "to be closed", "HTTP/1.0"])
def test_a_connection_is_not_used_again_after_a_response_that_leaves_it_in_doubt(
    name: str, server: Server, kept: MonitorClient
) -> None:
    server.script = [cut(RESPONSES[name], 100_000), says(200, {})]
    assert outcome(kept) == ROW
    assert outcome(kept) == {}
    assert server.connections == 2


@pytest.mark.parametrize("name", ["plain", "chunked", "compressed", "informational first", "names in upper case"])
def test_a_connection_is_used_again_after_any_whole_response(name: str, server: Server, kept: MonitorClient) -> None:
    server.script = [lambda connection: connection.sendall(RESPONSES[name]), says(200, {})]
    assert outcome(kept) == ROW
    assert outcome(kept) == {}
    assert server.connections == 1


def test_a_request_is_the_same_as_over_a_new_connection(server: Server) -> None:
    server.script = [says(200, {})] * 4
    client = AgentClient(f"{server.url}/swf-monitor/", lambda: TOKEN, connections=1)
    for _ in range(2):
        client.request("PATCH", "workflows/a b%/", lambda row: row, body='{"gr\u00fc\u00dfe": 1}')
    for _ in range(2):
        client.request("GET", "runs/", lambda row: row, query={"run_number": "7", "name": "a&b/c d"})
    client.close()
    first, second, third, fourth = server.requests
    assert first == second
    assert third == fourth
    assert server.connections == 1
    assert first[1]["host"] == f"127.0.0.1:{server.port}"
    assert first[1]["authorization"] == f"Token {TOKEN}"


def test_a_long_list_is_read_row_by_row(server: Server) -> None:
    rows = [{"n": n, "text": "x" * 1000} for n in range(200)]
    server.script = [says(200, {}), says(200, rows), says(200, {})]
    client = AgentClient(server.url, lambda: TOKEN, connections=1)
    found: list[object] = []
    outcome(client)
    client.get_rows("workflows/", {}, found.append)
    outcome(client)
    client.close()
    assert found == rows
    assert server.connections == 1


def test_a_kept_connection_with_tls_is_used_again(tls_server: tuple[Server, trustme.CA], tmp_path: Path) -> None:
    server, ca = tls_server
    ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    server.script = [says(201, ROW), says(201, ROW), cut(RESPONSES["chunked"], 7)]
    client = server.client(ca=tmp_path / "ca.pem")
    for _ in range(3):
        assert client.register_tf(TF)[1] is None
    assert server.connections == 1


def test_a_connection_that_its_server_closed_meanwhile_is_not_used(
    server: Server, kept: MonitorClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a server closes idle connections: else the outcome of the next request would be unknown."""
    monkeypatch.setattr("fastmon_daemon.monitor.kept_connection._FRESH_S", 0.0)
    server.script = [cut(RESPONSES["plain"], 100_000), says(200, {})]
    assert outcome(kept) == ROW
    time.sleep(0.05)
    assert outcome(kept) == {}
    assert server.connections == 2
