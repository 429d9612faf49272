"""The door: what is taken, what is refused with which reason, what is forgotten."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastmon_daemon.base.errors import MalformedMessage
from fastmon_daemon.messages import IgnoredMessage, RunEvent, StfReady, TfFileRegistered, parse, run_number, sequence_in

READY = {
    "msg_type": "stf_ready", "namespace": "torre1", "filename": "swf.100014.000001.stf", "run_id": "100014",
    "file_url": None, "checksum": None, "size_bytes": None, "start": None, "end": None, "state": "run",
    "substate": "physics", "sequence": 1, "simulation_tick": 15.2, "processed_by": "data-agent-user-8",
    "sender": "data-agent-user-8",
}  # fmt: skip


def ready(**changes: Any) -> str:
    return json.dumps({**READY, **changes})


def read(body: str | bytes) -> StfReady | RunEvent | IgnoredMessage:
    return parse(body, namespace="torre1", agent_name="fastmon-agent-user-9")


def test_the_example_data_agents_message_with_its_nulls_is_taken() -> None:
    message = read(ready())
    assert isinstance(message, StfReady)
    assert (message.run_id, message.filename, message.sequence) == ("100014", "swf.100014.000001.stf", 1)
    assert (message.size_bytes, message.checksum, message.execution_id) == (None, None, None)
    assert json.loads(message.body)["simulation_tick"] == 15.2


def test_the_real_data_agents_message_means_look_at_this_run() -> None:
    body = '{"namespace": "torre1", "sender": "d", "req_id": 1, "msg_type": "stf_ready", "run_id": 100014}'
    message = read(body)
    assert isinstance(message, StfReady)
    assert message.filename is None
    assert message.run_id == 100014
    assert message.run == "100014"


def test_a_number_beyond_all_floats_in_a_field_that_we_only_pass_on_is_as_good_as_none() -> None:
    message = read(ready(start="BIG", end=1.5, deep=[{"x": "BIG"}]).replace('"BIG"', "-1e999"))
    assert isinstance(message, StfReady)
    told = json.loads(message.body, parse_constant=pytest.fail)
    assert (told["start"], told["end"], told["deep"]) == (None, 1.5, [{"x": None}])


def test_data_ready_is_the_older_name() -> None:
    assert isinstance(read(ready(msg_type="data_ready")), StfReady)


def test_the_sequence_comes_from_the_name_where_the_message_has_none() -> None:
    message = read(ready(sequence=None, filename="swf.100014.000042.stf"))
    assert isinstance(message, StfReady)
    assert message.sequence == 42
    assert sequence_in("no-number.stf") is None
    assert sequence_in("9" * 30 + ".stf") is None


def test_the_end_of_a_run_says_how_many_stfs_there_were() -> None:
    event = read('{"msg_type": "end_run", "run_id": "7", "execution_id": "e-1", "total_stf_files": 12}')
    assert event == RunEvent(kind="end_run", run_id="7", execution_id="e-1", total_stf_files=12)


@pytest.mark.parametrize(
    ("body", "why"),
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
def test_what_is_not_for_us_is_forgotten_before_any_work(body: str, why: str) -> None:
    assert read(body) == IgnoredMessage(why)


@pytest.mark.parametrize("sender", [7, None, ["x"], "x" * 300, "a\0b"])
def test_a_field_that_is_never_read_refuses_no_message(sender: object) -> None:
    assert isinstance(read(ready(sender=sender)), StfReady)
    assert isinstance(read(json.dumps({"msg_type": "start_run", "run_id": "7", "sender": sender})), RunEvent)


@pytest.mark.parametrize("total", ["unknown", -1, 1.5])
def test_only_the_end_of_a_run_is_asked_for_its_total(total: object) -> None:
    body = {"run_id": "7", "total_stf_files": total}
    assert read(json.dumps(body | {"msg_type": "start_run"})) == RunEvent(kind="start_run", run_id="7")
    with pytest.raises(MalformedMessage, match="total_stf_files"):
        read(json.dumps(body | {"msg_type": "end_run"}))


def test_what_is_said_of_a_file_refuses_no_message_that_names_none() -> None:
    said = {"sequence": "first", "size_bytes": -1, "checksum": [], "tf_count": 0}
    message = read(json.dumps({"msg_type": "stf_ready", "run_id": "7", **said}))
    assert isinstance(message, StfReady)
    assert (message.run, message.filename) == ("7", None)


@pytest.mark.parametrize("namespace", [None, ""])
def test_a_message_without_namespace_is_accepted(namespace: str | None) -> None:
    assert isinstance(read(ready(namespace=namespace)), StfReady)


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
        ("x" * 5_000_000, "5000000 bytes"),
        (ready(size_bytes=float("nan")), "NaN"),
        (ready(run_id=None), "run_id"),
        (ready(run_id=True), "run_id"),
        (ready(run_id=1.5), "run_id"),
        (ready(run_id=""), "run_id"),
        (ready(run_id="x" * 51), "run_id"),
        (ready(run_id=10**30), "run_id"),
        (ready(filename=""), "filename: 0 characters"),
        (ready(filename="x" * 241), "filename: 241 characters"),
        (ready(filename=7), "filename: a number"),
        (ready(filename=" a.stf"), "filename"),
        (ready(filename="a/b.stf"), "filename"),
        (ready(filename="a\0.stf"), "filename"),
        (ready(filename="a\x1b[2J.stf"), "filename"),
        (ready(size_bytes=-1), "size_bytes: out of range"),
        (ready(size_bytes=2**63), "size_bytes: out of range"),
        (ready(size_bytes=7).replace(": 7,", ": 1e999,"), "size_bytes: a number where an integer is needed"),
        ('{"msg_type": "end_run", "run_id": "7", "total_stf_files": -1e999}', "total_stf_files: a number"),
        ('{"msg_type": "end_run", "run_id": 1e999}', "run_id: a number"),
        (ready(size_bytes="7"), "size_bytes: a string"),
        (ready(size_bytes=True), "size_bytes: a boolean"),
        (ready(tf_count=0), "tf_count: out of range"),
        (ready(sequence=-1), "sequence: out of range"),
        (ready(checksum=["x"]), "checksum: a list"),
        (ready(execution_id={}), "execution_id: an object"),
    ],
)
def test_bad_input_is_refused_with_its_reason(body: str | bytes, reason: str) -> None:
    with pytest.raises(MalformedMessage) as refusal:
        read(body)
    assert reason in str(refusal.value)


def nested(depth: int, deepest: str = "1") -> str:
    """An `stf_ready` with so many lists and objects inside one another."""
    return ready(x="DEEP").replace('"DEEP"', "[" * (depth - 1) + deepest + "]" * (depth - 1))


@pytest.mark.parametrize("deepest", ["1", "1e999"])
def test_whatever_the_depth_nothing_but_bad_message_is_raised(deepest: str) -> None:
    assert isinstance(read(nested(50, deepest)), StfReady)
    for depth in range(51, 1050):  # near the interpreter's limit, what can be read cannot always be written
        with pytest.raises(MalformedMessage):
            read(nested(depth, deepest))


def test_a_name_of_240_characters_is_taken() -> None:
    assert isinstance(read(ready(filename="x" * 236 + ".stf")), StfReady)


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
def test_whatever_comes_nothing_but_bad_message_is_raised(body: str | bytes) -> None:
    with suppress(MalformedMessage):
        read(body)


def test_the_announcement_has_the_fields_that_its_readers_need_and_never_an_agent_name() -> None:
    message = TfFileRegistered(
        namespace="torre1", run_id=100014, execution_id=None, processed_by="a", sender="a", tf_file_id="id-1",
        tf_filename="t.tf", tf_first=0, tf_last=9, tf_count=10, file_size_bytes=None, stf_filename="s.stf",
        run_number=100014, timestamp="2026-11-21T20:20:00.000+00:00", tf_sequence=1, tf_total=7, stf_sequence=1,
        selection_fraction=0.1, previous_selected=None, late=False,
    )  # fmt: skip
    body = json.loads(message.as_json())
    assert body["msg_type"] == "tf_file_registered"
    assert body["status"] == "registered"
    assert body["run_id"] == 100014
    assert body["event_id"] == message.event_id
    assert "agent_name" not in body


@pytest.mark.parametrize(("run_id", "number"), [("100014", 100014), (100014, 100014), ("r7", None), ("-1", None)])
def test_a_run_number_is_a_run_id_of_digits(run_id: str | int, number: int | None) -> None:
    assert run_number(run_id) == number
