"""Which message bodies are parsed, rejected with a reason, or ignored."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastmon_daemon.base.errors import MalformedMessage
from fastmon_daemon.messages import (
    IgnoredMessage,
    RunEvent,
    StfReady,
    outbound_message,
    parse,
    run_identity,
    run_number,
    sequence_in,
)

READY = {
    "msg_type": "stf_ready", "namespace": "torre1", "filename": "swf.100014.000001.stf", "run_id": "100014",
    "file_url": None, "checksum": None, "size_bytes": None, "start": None, "end": None, "state": "run",
    "substate": "physics", "sequence": 1, "simulation_tick": 15.2, "processed_by": "data-agent-user-8",
    "sender": "data-agent-user-8",
}  # fmt: skip


def ready(**changes: Any) -> str:
    return json.dumps({**READY, **changes})


def parse_body(body: str | bytes) -> StfReady | RunEvent | IgnoredMessage:
    return parse(body, namespace="torre1", agent_name="fastmon-agent-user-9")


def test_the_message_of_the_example_data_agent_with_its_nulls_is_accepted() -> None:
    message = parse_body(ready())
    assert isinstance(message, StfReady)
    assert (message.run_id, message.filename, message.sequence) == ("100014", "swf.100014.000001.stf", 1)
    assert (message.size_bytes, message.checksum, message.execution_id) == (None, None, None)
    assert json.loads(message.body)["simulation_tick"] == 15.2


def test_the_message_of_the_real_data_agent_has_no_filename() -> None:
    body = '{"namespace": "torre1", "sender": "d", "req_id": 1, "msg_type": "stf_ready", "run_id": 100014}'
    message = parse_body(body)
    assert isinstance(message, StfReady)
    assert message.filename is None
    assert message.run_id == 100014
    assert message.run == "100014"


def test_a_number_beyond_the_range_of_floats_in_a_copied_field_becomes_null() -> None:
    message = parse_body(ready(start="BIG", end=1.5, deep=[{"x": "BIG"}]).replace('"BIG"', "-1e999"))
    assert isinstance(message, StfReady)
    copied = json.loads(message.body, parse_constant=pytest.fail)
    assert (copied["start"], copied["end"], copied["deep"]) == (None, 1.5, [{"x": None}])


@pytest.mark.field("0e")
def test_data_ready_is_parsed_as_stf_ready() -> None:
    assert isinstance(parse_body(ready(msg_type="data_ready")), StfReady)


def test_a_missing_sequence_is_read_from_the_filename() -> None:
    message = parse_body(ready(sequence=None, filename="swf.100014.000042.stf"))
    assert isinstance(message, StfReady)
    assert message.sequence == 42


@pytest.mark.field("8")
@pytest.mark.parametrize(
    ("filename", "run_id", "sequence"),
    [
        ("swf.100014.000042.stf", 100014, 42),
        ("swf.100014.000042.stf", "0100014", 42),
        ("swf.0100014.000042.", "100014", 42),
        ("run100014_0007.stf", "100014", 7),
        ("swf.20261130.100014.0007.stf", 100014, 7),
        ("swf.7.000007.stf", 7, 7),
        ("swf.test-run-A.000003.stf", "test-run-A", 3),
        ("r7a_0003.stf", "r7a", 3),
        ("nonamespace.100023.stf", 100023, None),
        ("nonamespace.100023.stf", "name", None),
        ("data.100023.stf", "a", None),
        ("swf_a_000003.stf", "a", 3),
        ("nonamespace.100023.stf", 100014, None),
        ("swf.100015.000042.stf", 100014, None),
        ("swf.1000140.000042.stf", 100014, None),
        ("swf.000042.stf", 100014, None),
        ("swf.100014.20261130.stf", 100014, None),
        ("swf.100014.stf", 100014, None),
        ("no-number.stf", "", None),
        ("no-number.stf", 7, None),
        ("7." + "0" * 239 + "5.stf", 7, 5),
        ("7." + "0" * 240 + "5.stf", 7, None),
        ("7." + "9" * 230 + ".stf", 7, None),
        ("7." + "9" * 9000 + ".stf", 7, None),
    ],
)
def test_a_name_has_a_sequence_only_after_the_number_of_its_run(
    filename: str, run_id: str | int, sequence: int | None
) -> None:
    assert sequence_in(filename, run_id) == sequence


@pytest.mark.field("12")
@pytest.mark.parametrize("given", [3, 3.0, "3", "3.0", " +03. "])
def test_an_integer_that_an_agent_writes_in_another_form_is_read(given: object) -> None:
    message = parse_body(ready(sequence=given, size_bytes=given, tf_count=given, run_id=100014.0))
    assert isinstance(message, StfReady)
    assert (message.sequence, message.size_bytes, message.tf_count, message.run_id) == (3, 3, 3, 100014)
    assert isinstance(message.run_id, int)
    end = parse_body(json.dumps({"msg_type": "end_run", "run_id": "7", "total_stf_files": given}))
    assert end == RunEvent(kind="end_run", run_id="7", total_stf_files=3)


def test_empty_optional_fields_are_absent() -> None:
    message = parse_body(ready(size_bytes="", tf_count="", checksum="", execution_id=""))
    assert isinstance(message, StfReady)
    assert (message.size_bytes, message.tf_count, message.checksum, message.execution_id) == (None,) * 4


@pytest.mark.field("12")
def test_end_run_has_the_total_number_of_stfs() -> None:
    event = parse_body('{"msg_type": "end_run", "run_id": "7", "execution_id": "e-1", "total_stf_files": 12}')
    assert event == RunEvent(kind="end_run", run_id="7", execution_id="e-1", total_stf_files=12)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (ready(msg_type="tf_file_registered"), "type"),
        (ready(msg_type=None), "type"),
        (ready(msg_type=5), "type"),
        (ready(msg_type="stf_gen", run_id=None), "type"),
        ('{"agent_name": "x", "status": "OK"}', "type"),
        (ready(namespace="other"), "namespace"),
        (ready(sender="fastmon-agent-user-9"), "echo"),
    ],
)
def test_a_message_that_is_not_for_us_is_ignored_with_its_reason(body: str, reason: str) -> None:
    assert parse_body(body) == IgnoredMessage(reason)


def test_an_announcement_is_ignored_by_its_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seven come back for each STF."""
    body, _ = outbound_message("tf_file_registered", "key", "fastmon-agent-ns-1", "2026-11-21T20:00:00+00:00", {})
    assert parse_body(body) == IgnoredMessage("type")
    monkeypatch.setattr("fastmon_daemon.messages.inbound.json_object", None)
    assert parse_body(body.encode()) == IgnoredMessage("type")


@pytest.mark.field("32")
@pytest.mark.parametrize("sender", [7, None, ["x"], "x" * 300, "a\0b"])
def test_a_field_that_is_never_used_rejects_no_message(sender: object) -> None:
    assert isinstance(parse_body(ready(sender=sender)), StfReady)
    assert isinstance(parse_body(json.dumps({"msg_type": "start_run", "run_id": "7", "sender": sender})), RunEvent)


@pytest.mark.field("12")
@pytest.mark.parametrize("total", ["unknown", -1, 1.5, True, [], 1e300, 10**30, "1e3"])
def test_an_optional_field_that_cannot_be_read_loses_no_run_message(total: object) -> None:
    body = {"run_id": "7", "total_stf_files": total, "execution_id": {}}
    for kind in ("run_imminent", "start_run", "pause_run", "resume_run", "stf_ready"):
        event = parse_body(json.dumps(body | {"msg_type": kind}))
        assert isinstance(event, RunEvent | StfReady)
        assert event.unreadable == ("execution_id: expected a string, got an object",)
    end = parse_body(json.dumps(body | {"msg_type": "end_run", "execution_id": "e-1"}))
    assert isinstance(end, RunEvent)
    assert (end.kind, end.execution_id, end.total_stf_files) == ("end_run", "e-1", None)
    assert [reason.partition(":")[0] for reason in end.unreadable] == ["total_stf_files"]


def test_invalid_file_fields_reject_no_message_without_a_filename() -> None:
    file_fields = {"sequence": "first", "size_bytes": -1, "checksum": [], "tf_count": 0}
    message = parse_body(json.dumps({"msg_type": "stf_ready", "run_id": "7", **file_fields}))
    assert isinstance(message, StfReady)
    assert (message.run, message.filename) == ("7", None)


@pytest.mark.parametrize(("namespace", "has_namespace"), [(None, False), ("", False), ("torre1", True)])
def test_a_message_without_namespace_is_accepted_and_recognized(namespace: str | None, has_namespace: bool) -> None:
    stf, event = parse_body(ready(namespace=namespace)), parse_body(ready(namespace=namespace, msg_type="start_run"))
    assert isinstance(stf, StfReady)
    assert isinstance(event, RunEvent)
    assert (stf.has_namespace, event.has_namespace) == (has_namespace, has_namespace)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        ("[1]", "a list"),
        ('"text"', "a string"),
        ("null", "null"),
        ("3", "a number"),
        ("[" * 100_000, "not JSON"),
        ("x" * 5_000_000, "more than 1048576 bytes"),
        (ready(size_bytes=float("nan")), "NaN"),
        (ready(run_id=None), "run_id"),
        (ready(run_id=True), "run_id"),
        (ready(run_id=1.5), "run_id"),
        (ready(run_id=""), "run_id"),
        (ready(run_id="x" * 51), "run_id"),
        (ready(run_id=10**30), "run_id"),
        (ready(filename=""), "filename: 0 characters"),
        (ready(filename="x" * 241), "filename: 241 characters"),
        (ready(filename=7), "filename: expected a string, got a number"),
        (ready(filename=" a.stf"), "filename"),
        (ready(filename="a/b.stf"), "filename"),
        (ready(filename="a\0.stf"), "filename"),
        (ready(filename="a\x1b[2J.stf"), "filename"),
        (ready(size_bytes=-1), "size_bytes: out of range"),
        (ready(size_bytes=2**63), "size_bytes: out of range"),
        (ready(size_bytes=7).replace(": 7,", ": 1e999,"), "size_bytes: expected an integer, got a number"),
        ('{"msg_type": "end_run", "run_id": 1e999}', "run_id: expected a string or an integer, got a number"),
        (ready(size_bytes="7 MB"), "size_bytes: expected an integer, got a string"),
        (ready(size_bytes=7.5), "size_bytes: expected an integer, got a number"),
        (ready(size_bytes="-7"), "size_bytes: out of range"),
        (ready(size_bytes=True), "size_bytes: expected an integer, got a boolean"),
        (ready(tf_count=0), "tf_count: out of range"),
        (ready(sequence=-1), "sequence: out of range"),
        (ready(checksum=["x"]), "checksum: expected a string, got a list"),
        (ready(execution_id={}), "execution_id: expected a string, got an object"),
    ],
)
def test_malformed_input_is_rejected_with_its_reason(body: str | bytes, reason: str) -> None:
    with pytest.raises(MalformedMessage) as rejection:
        parse_body(body)
    assert reason in str(rejection.value)


def nested(depth: int, deepest: str = "1") -> str:
    """An `stf_ready` with *depth* nested objects and lists."""
    return ready(x="DEEP").replace('"DEEP"', "[" * (depth - 1) + deepest + "]" * (depth - 1))


@pytest.mark.parametrize("deepest", ["1", "1e999"])
def test_at_any_depth_only_malformed_message_is_raised(deepest: str) -> None:
    assert isinstance(parse_body(nested(50, deepest)), StfReady)
    for depth in range(51, 1050):  # near the interpreter's limit, a body that can be read cannot always be written
        with pytest.raises(MalformedMessage):
            parse_body(nested(depth, deepest))


def test_a_filename_of_240_characters_is_accepted() -> None:
    assert isinstance(parse_body(ready(filename="x" * 236 + ".stf")), StfReady)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
near_misses = st.dictionaries(st.sampled_from(sorted(READY)), json_values, max_size=6).map(
    lambda changes: json.dumps({**READY, **changes})
)


@settings(max_examples=int(os.environ.get("FASTMON_TEST_FUZZ", "600")))
@given(st.one_of(near_misses, json_values.map(json.dumps), st.text(), st.binary()))
def test_any_input_raises_only_malformed_message(body: str | bytes) -> None:
    with suppress(MalformedMessage):
        parse_body(body)


@pytest.mark.parametrize(("run_id", "number"), [("100014", 100014), (100014, 100014), ("r7", None), ("-1", None)])
def test_a_run_id_of_digits_is_a_run_number(run_id: str | int, number: int | None) -> None:
    assert run_number(run_id) == number


@pytest.mark.field("3")
@pytest.mark.parametrize(
    ("run_id", "run"),
    [
        (100014, "100014"), ("100014", "100014"), ("0100014", "100014"), (0, "0"), ("000", "0"), ("0" * 50, "0"),
        ("1" * 50, "1" * 50),
        ("r007", "r007"), ("-01", "-01"), (-1, "-1"), ("\u0660\u0667", "\u0660\u0667"), ("7.0", "7.0"),
    ],
)  # fmt: skip
def test_a_run_is_its_number_where_it_is_one(run_id: str | int, run: str) -> None:
    assert run_identity(run_id) == run
    assert RunEvent(kind="start_run", run_id=run_id).run == run
