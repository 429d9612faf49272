"""The embedded monitor compared with recordings of the real one, exchange by exchange, in recorded order."""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastmon_daemon.testbed.monitor import MonitorThread

RECORDINGS = Path(__file__).parents[1] / "contract" / "exchanges"
TOKEN = "0123456789abcdef0123456789abcdef01234567"
ALL = sorted(path.stem for path in RECORDINGS.glob("*.json"))
HEADERS = ("Allow", "Connection", "Content-Type", "Location", "WWW-Authenticate")
VARYING = {
    "created_at", "updated_at", "sent_at", "last_heartbeat",  # time of the request
    "agent_id", "sequence", "id", "subscriber_id", "run_id", "file_id", "tf_file_id",  # keys made by the server
    "workflow_id", "stage_id", "message_id", "run", "workflow", "next", "previous",
}  # fmt: skip
NAMES = ("tf_filename", "stf_filename", "filename", "run_number", "instance_name", "agent_name", "message_type")
UNRECORDED = {
    "055_stf_negative_size": (
        "/api/stf-files/",
        {"run": 1, "stf_filename": "swf.95294616.000002.stf", "status": "processed", "tf_count": 500,
         "metadata": {"created_by": "x", "substate": "physics"}},
    ),
    "085_fastmon_nulls": (
        "/api/fastmon-files/",
        {"stf_file": "swf.95294616.000001.stf", "tf_filename": "swf.95294616.000001_tf_001.tf.min"},
    ),
    "097_fastmon_wrong_status": (
        "/api/fastmon-files/",
        {"stf_file": "swf.95294616.000001.stf", "tf_filename": "swf.95294616.000001_tf_001.tf.neg2", "tf_first": -1},
    ),
}  # fmt: skip
"""Unrecorded requests whose rows appear in later responses: next recording -> (path, body)."""


class Replay:
    """Sends recorded requests; replaces each recorded id by the embedded monitor's id."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._ids: dict[str, str] = {}

    def send(self, method: str, path: str, headers: dict[str, str], body: bytes | None) -> tuple[Any, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        raw = response.read().decode()
        connection.close()
        is_json = (response.getheader("Content-Type") or "").startswith("application/json")
        return response, json.loads(raw) if is_json and raw else raw

    def exchange(self, recorded: dict[str, Any]) -> tuple[Any, Any]:
        request = recorded["request"]
        headers = {name: value for name, value in request["headers"].items() if value is not None}
        body = self.with_our_ids(request["body"])
        if isinstance(body, str):
            sent: bytes | None = _raw(body).encode("latin-1")
        else:
            sent = None if body is None else json.dumps(body).encode()
        return self.send(request["method"], self.with_our_ids(request["path"]), headers, sent)

    def learn(self, theirs: Any, ours: Any) -> None:
        if isinstance(theirs, dict) and isinstance(ours, dict):
            for name in theirs.keys() & ours.keys():
                self.learn(theirs[name], ours[name])
        elif isinstance(theirs, str) and isinstance(ours, str) and re.fullmatch(r"[0-9a-f-]{36}", theirs):
            self._ids.setdefault(theirs, ours)

    def with_our_ids(self, value: Any) -> Any:
        """Replace the recorded ids in *value*."""
        text = json.dumps(value)
        for theirs, ours in self._ids.items():
            text = text.replace(theirs, ours)
        return json.loads(text)


def _raw(body: str) -> str:
    """Return a recorded text body; one that was too large to record is rebuilt with its size."""
    size = re.search(r"(\d{7,}) char", body)
    if not size:
        return body
    start = f'{{"stf_file": "swf.95294616.000001.stf", "tf_filename": "{size[1]}.tf", "metadata": {{"b": "'
    return start + "x" * (int(size[1]) - len(start) - 3) + '"}}'


def _differences(theirs: Any, ours: Any, where: str = "body") -> Iterator[str]:
    """Yield the differences between recorded and actual values; ids and times may differ, unless one is null."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        if theirs.keys() != ours.keys():
            yield f"{where}: keys {sorted(theirs)} != {sorted(ours)}"
        for name in theirs.keys() & ours.keys():
            if name not in VARYING or (theirs[name] is None) != (ours[name] is None):
                yield from _differences(theirs[name], ours[name], f"{where}.{name}")
    elif isinstance(theirs, list) and isinstance(ours, list) and theirs and isinstance(theirs[0], dict):
        mine = {_name(row): row for row in ours}
        for row in theirs:
            if isinstance(row, dict):
                yield from _differences(row, mine.get(_name(row), "no such row"), f"{where}[{_name(row)}]")
    elif theirs != ours:
        yield f"{where}: {theirs!r} != {ours!r}"


def _name(row: dict[str, Any]) -> Any:
    return next((row[name] for name in NAMES if name in row), None)


def _problems(theirs: dict[str, Any], response: Any, ours: Any) -> list[str]:
    if response.status != theirs["status"]:
        return [f"status {theirs['status']} != {response.status}: {ours}"]
    headers = [
        (name, theirs["headers"][name], response.getheader(name)) for name in HEADERS if name in theirs["headers"]
    ]
    problems = [f"{name}: {recorded!r} != {sent!r}" for name, recorded, sent in headers if recorded != sent]
    if "list_length" in theirs and theirs["list_length"] != len(ours):
        problems.append(f"a list of {theirs['list_length']} != {len(ours)}")
    if theirs["body"] != "(left out)":
        problems.extend(_differences(theirs["body"], ours))
    return problems


def test_every_recorded_request_gets_the_recorded_response() -> None:
    failures = {}
    with MonitorThread(TOKEN) as monitor:
        replay = Replay(monitor.port)
        for name in ALL:
            if name in UNRECORDED:
                path, body = UNRECORDED[name]
                headers = {"Authorization": f"Token {TOKEN}", "Content-Type": "application/json"}
                response, answer = replay.send("POST", path, headers, json.dumps(body).encode())
                assert response.status == 201, answer
            recorded = json.loads((RECORDINGS / f"{name}.json").read_text())
            response, ours = replay.exchange(recorded)
            if problems := _problems(replay.with_our_ids(recorded["response"]), response, ours):
                failures[name] = problems
            replay.learn(recorded["response"]["body"], ours)
    assert not failures
    assert len(ALL) == 159  # all recordings


@pytest.mark.parametrize("name", sorted(UNRECORDED))
def test_an_unrecorded_request_precedes_an_existing_recording(name: str) -> None:
    assert name in ALL
