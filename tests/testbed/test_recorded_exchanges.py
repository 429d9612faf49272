"""The embedded monitor compared with recordings of the real one, exchange by exchange, in recorded order."""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from fastmon_daemon.testbed.monitor import MonitorThread
from fastmon_daemon.testbed.monitor.fields import CharField, ChoiceField, Field, IntegerField
from fastmon_daemon.testbed.monitor.tables import RESOURCES

RECORDINGS = Path(__file__).parents[1] / "contract" / "exchanges"
TOKEN = "0123456789abcdef0123456789abcdef01234567"
ALL = sorted(path.stem for path in RECORDINGS.glob("*.json"))
HEADERS = ("Allow", "Connection", "Content-Type", "Location", "WWW-Authenticate")
VARYING = {
    "created_at", "updated_at", "sent_at", "last_heartbeat",  # time of the request
    "agent_id", "sequence", "id", "subscriber_id", "run_id", "file_id", "tf_file_id",  # keys made by the server
    "workflow_id", "stage_id", "message_id", "run", "workflow", "next", "previous",
}  # fmt: skip
OPTIONS = ("required", "read_only", "max_length", "min_value", "max_value")
NAMES = ("tf_filename", "stf_filename", "filename", "run_number", "instance_name", "agent_name", "message_type")
UNRECORDED = {
    "055_stf_negative_size": (
        "POST",
        "/api/stf-files/",
        {"run": 1, "stf_filename": "swf.95294616.000002.stf", "status": "processed", "tf_count": 500,
         "metadata": {"created_by": "x", "substate": "physics"}},
    ),
    "085_fastmon_nulls": (
        "POST",
        "/api/fastmon-files/",
        {"stf_file": "swf.95294616.000001.stf", "tf_filename": "swf.95294616.000001_tf_001.tf.min"},
    ),
    "097_fastmon_wrong_status": (
        "POST",
        "/api/fastmon-files/",
        {"stf_file": "swf.95294616.000001.stf", "tf_filename": "swf.95294616.000001_tf_001.tf.neg2", "tf_first": -1},
    ),
    "239_stage_get": (
        "PATCH",
        "/api/workflow-stages/b0c58bf7-b5c6-4454-8f61-4c5e507c731f/",
        {"status": "fastmon_received"},
    ),
    "242_execution_create_minimal": (
        "POST",
        "/api/workflow-definitions/",
        {"workflow_name": "stf_datataking", "version": "1.0", "workflow_type": "daq", "definition": "pass",
         "created_by": "tester"},
    ),
}  # fmt: skip
"""Unrecorded requests whose rows appear in later responses: next recording -> (method, path, body)."""
LATER = "210_next_run_number_again"
"""From here on the recordings were made on a monitor that others had used, too."""
USED = (
    ("/api/state/next-run-number/", "run_number", 100074),
    ("/api/runs/", "run_id", 141),
    ("/api/systemagents/heartbeat/", "id", 67),
)
"""What others had requested of it: (path, key of the response, last value)."""
SHARED = {
    "230_workflow_list_whole": 2,
    "231_workflow_list_offset_ignored": 2,
    "232_workflow_list_file_id_filter": 2,
    "240_stage_list_whole": 1,
    "249_execution_list": 0,
    "255_agents_filter_namespace": 0,
    "256_agents_filter_type": 0,
    "257_agents_anonymous": 0,
    "260_run_states_list": 0,
    "262_runs_list_whole": 0,
}
"""Lists that contain rows of others -> how many of the recorded requests' rows stand first, in this order."""


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

    def request(self, method: str, path: str, body: Any) -> Any:
        """Send an unrecorded request and return the answer."""
        headers = {"Authorization": f"Token {TOKEN}", "Content-Type": "application/json"}
        response, answer = self.send(method, self.with_our_ids(path), headers, json.dumps(body).encode())
        assert response.status in {200, 201}, answer
        return answer

    def request_until(self, path: str, key: str, last: int) -> None:
        """Send unrecorded requests, each with a new name, until the response's *key* is *last*."""
        for number in count(10**9):
            body = {"run_number": number, "start_time": "2026-11-29T12:00:00", "instance_name": f"other-{number}"}
            if self.request("POST", path, body)[key] >= last:
                return

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


def _header(value: str | None) -> list[str]:
    """Return the parts of a header; the order of ``Allow`` differs between the monitor's processes."""
    return sorted((value or "").split(", "))


def _problems(name: str, theirs: dict[str, Any], response: Any, ours: Any) -> list[str]:
    if response.status != theirs["status"]:
        return [f"status {theirs['status']} != {response.status}: {ours}"]
    headers = [
        (each, theirs["headers"][each], response.getheader(each)) for each in HEADERS if each in theirs["headers"]
    ]
    problems = [
        f"{each}: {recorded!r} != {sent!r}" for each, recorded, sent in headers if _header(recorded) != _header(sent)
    ]
    if name in SHARED:
        for place, (recorded, sent) in enumerate(zip(theirs["body"][: SHARED[name]], ours, strict=False)):
            problems.extend(_differences(recorded, sent, f"body[{place}]"))
        return problems
    if "list_length" in theirs and theirs["list_length"] != len(ours):
        problems.append(f"a list of {theirs['list_length']} != {len(ours)}")
    if theirs["body"] != "(left out)" and not name.partition("_")[2].startswith("options"):
        problems.extend(_differences(theirs["body"], ours))
    return problems


def test_every_recorded_request_gets_the_recorded_response() -> None:
    failures = {}
    with MonitorThread(TOKEN) as monitor:
        replay = Replay(monitor.port)
        for name in ALL:
            if name == LATER:
                for path, key, last in USED:
                    replay.request_until(path, key, last)
            if name in UNRECORDED:
                replay.request(*UNRECORDED[name])
            recorded = json.loads((RECORDINGS / f"{name}.json").read_text())
            response, ours = replay.exchange(recorded)
            if problems := _problems(name, replay.with_our_ids(recorded["response"]), response, ours):
                failures[name] = problems
            replay.learn(recorded["response"]["body"], ours)
    assert not failures
    assert len(ALL) == 217  # all recordings


@pytest.mark.parametrize("name", sorted({*UNRECORDED, *SHARED, LATER}))
def test_what_is_known_of_a_recording_is_said_of_an_existing_one(name: str) -> None:
    assert name in ALL


@pytest.mark.parametrize("name", [name for name in ALL if name.partition("_")[2].startswith("options")])
def test_the_tables_have_the_recorded_fields(name: str) -> None:
    recorded = json.loads((RECORDINGS / f"{name}.json").read_text())
    resource = RESOURCES[recorded["request"]["path"].split("/")[2]]
    ours = {field.name: _field_options(field) for field in resource.fields}
    theirs = {
        field: {option: value for option, value in options.items() if option in OPTIONS}
        | ({"choices": [each["value"] for each in options["choices"]]} if "choices" in options else {})
        for field, options in recorded["response"]["body"]["actions"]["POST"].items()
    }
    assert ours == theirs


def _field_options(field: Field) -> dict[str, Any]:
    options: dict[str, Any] = {"required": field.required, "read_only": field.read_only}
    if isinstance(field, CharField) and field.longest is not None:
        options["max_length"] = field.longest
    if isinstance(field, ChoiceField):
        options["choices"] = list(field.choices)
    if isinstance(field, IntegerField):
        options |= {"min_value": -field.most - 1, "max_value": field.most}
    return options
