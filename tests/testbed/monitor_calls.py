"""Helpers for tests of the embedded monitor: one request per connection, and a client of the stream."""

from __future__ import annotations

import http.client
import json
import socket
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from fastmon_daemon.testbed.monitor import MonitorServer, MonitorThread

TOKEN = "0123456789abcdef0123456789abcdef01234567"
DEADLINE_S = 20.0
MOMENT = "2026-11-21T12:00:00"
LONG_S = 600.0


@dataclass
class Response:
    status: int
    headers: http.client.HTTPMessage
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


def call(monitor: MonitorThread | MonitorServer, method: str, path: str, body: Any = None) -> Response:
    with closing(http.client.HTTPConnection("127.0.0.1", monitor.port, timeout=DEADLINE_S)) as connection:
        headers = {"Authorization": f"Token {TOKEN}", "Content-Type": "application/json"}
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        response = connection.getresponse()
        return Response(response.status, response.headers, response.read().decode())


def add_stf(monitor: MonitorThread, number: int = 1) -> str:
    run = call(monitor, "POST", "/api/runs/", {"run_number": number, "start_time": MOMENT}).json
    name = f"swf.{number}.000001.stf"
    assert call(monitor, "POST", "/api/stf-files/", {"run": run["run_id"], "stf_filename": name}).status == 201
    return name


def post_tf(monitor: MonitorThread, name: str = "a.tf", stf: str = "swf.1.000001.stf") -> Response:
    return call(monitor, "POST", "/api/fastmon-files/", {"stf_file": stf, "tf_filename": name})


def accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S).close()
    except ConnectionRefusedError:
        return False
    return True


def is_cut(connection: socket.socket) -> bool:
    connection.settimeout(DEADLINE_S)
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


class Stream:
    """A client of the event stream that reads line by line."""

    def __init__(self, monitor: MonitorThread, query: str = "") -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", monitor.port, timeout=DEADLINE_S)
        self.connection.request("GET", f"/api/messages/stream/{query}", headers={"Authorization": f"Token {TOKEN}"})
        self.response = self.connection.getresponse()
        self.connected = self.event()

    def event(self) -> tuple[str, Any]:
        name, data, blank = (self.response.readline().decode() for _ in range(3))
        assert blank == "\n"
        return name.removeprefix("event: ").rstrip("\n"), json.loads(data.removeprefix("data: "))

    def ends(self) -> bool:
        """Whether the monitor ends the stream."""
        try:
            return not self.response.readline()
        except (ConnectionError, http.client.IncompleteRead):
            return True

    def close(self) -> None:
        self.response.close()
        self.connection.close()
