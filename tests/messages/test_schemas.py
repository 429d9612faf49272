"""Inbound messages: what fits its schema is accepted; recorded messages and those of the simulated DAQ fit."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmon_daemon.messages import RunEvent, StfReady, parse
from fastmon_daemon.testbed.daq_messages import RunMessages
from tests.messages.schemas import FOLDER, INBOUND, OUTBOUND, is_valid, schema
from tests.processes import run_in_process

RECORDED = Path(__file__).parents[1] / "contract" / "messages"
BEGAN = datetime(2026, 11, 21, tzinfo=UTC)
DAQ = RunMessages(namespace="ns", run=100014, size=None, began=BEGAN, now=lambda: BEGAN)
EXAMPLES: dict[str, Any] = {
    "run_imminent": {}, "start_run": {}, "pause_run": {}, "resume_run": {}, "end_run": {"total_stf_files": 12},
    "stf_gen": {}, "stf_ready": {"filename": "swf.100014.000001.stf", "sequence": 1, "tf_count": 1000},
}  # fmt: skip


def recorded(name: str) -> dict[str, Any]:
    return dict(json.loads((RECORDED / f"{name}.json").read_text()))


def values(declared: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values that fit one field of a schema."""
    if fixed := declared.get("enum") or ([declared["const"]] if "const" in declared else None):
        return st.sampled_from(fixed)
    # `$` of JSON Schema is the end of the text; that of Python may stand before a line end
    pattern = declared.get("pattern", "^[ -~]*$").replace("$", r"\Z")
    limit = declared.get("maxLength", 100)
    kinds: dict[str, st.SearchStrategy[Any]] = {
        "string": st.from_regex(pattern).filter(lambda text: len(text) <= limit),
        "integer": st.integers(declared.get("minimum"), declared.get("maximum")),
        "null": st.none(),
    }
    types = declared.get("type", [*kinds])
    return st.one_of([kinds[each] for each in ([types] if isinstance(types, str) else types)])


def fitting(msg_type: str) -> st.SearchStrategy[dict[str, Any]]:
    found = {key: values(declared) for key, declared in schema(msg_type)["properties"].items()}
    found["namespace"] = st.sampled_from([None, "", "ns"])  # others are ignored
    required = schema(msg_type)["required"]
    return st.fixed_dictionaries(
        {key: found[key] for key in required}, optional={key: found[key] for key in found.keys() - set(required)}
    )


@given(message=st.sampled_from(INBOUND).flatmap(fitting))
def test_a_message_that_fits_is_accepted(message: dict[str, Any]) -> None:
    assert is_valid(message)
    parsed = parse(json.dumps(message), namespace="ns")
    assert isinstance(parsed, StfReady | RunEvent)
    assert parsed.unreadable == ()


@pytest.mark.parametrize("msg_type", INBOUND)
@pytest.mark.parametrize("broken", [{"run_id": None}, {"run_id": ""}, {"run_id": 1.5}, {"execution_id": 7}])
def test_a_broken_message_does_not_fit(msg_type: str, broken: dict[str, Any]) -> None:
    message = {"msg_type": msg_type, "run_id": "100014", **EXAMPLES[msg_type]}
    assert is_valid(message)
    assert not is_valid({**message, **broken})
    assert not is_valid({key: value for key, value in message.items() if key != "run_id"})


@pytest.mark.parametrize(
    "broken", [{"filename": "a/b"}, {"filename": ""}, {"sequence": -1}, {"size_bytes": "big"}, {"tf_count": 0},
               {"checksum": "x" * 65}]
)  # fmt: skip
def test_an_stf_ready_with_a_broken_field_neither_fits_nor_is_accepted(broken: dict[str, Any]) -> None:
    message = {"msg_type": "stf_ready", "run_id": "100014", "filename": "a.stf"}
    assert is_valid(message)
    assert not is_valid({**message, **broken})


@pytest.mark.parametrize("path", sorted(RECORDED.glob("*.json")), ids=lambda path: path.stem)
def test_a_recorded_message_fits(path: Path) -> None:
    message = recorded(path.stem)
    if message["msg_type"] in INBOUND:
        assert is_valid(message)
    else:  # of an agent that knows no event ids
        assert not is_valid(message)


def test_the_messages_of_the_simulated_daq_fit() -> None:
    sent = [
        DAQ.run_imminent(), DAQ.start_run(), DAQ.pause_run(), DAQ.resume_run(), DAQ.end_run(3), DAQ.stf_gen(1),
        DAQ.stf_ready(1), DAQ.run_ready(),
    ]  # fmt: skip
    assert {message["msg_type"] for message in sent} == set(INBOUND)
    assert all(map(is_valid, sent))


def test_the_example_in_the_document_fits() -> None:
    text = (FOLDER.parent / "messages.md").read_text(encoding="utf-8")
    (example,) = (json.loads(block) for block in re.findall(r"```json\n(.*?)```", text, re.DOTALL))
    assert is_valid(example)
    assert list(example) == list(schema("tf_file_registered")["properties"])


def test_an_announcement_has_every_field_of_the_old_agent() -> None:
    old = recorded("tf_file_registered.old_agent")
    new = schema("tf_file_registered")["properties"]
    assert old.keys() <= new.keys()
    text = (FOLDER.parent / "messages.md").read_text(encoding="utf-8")
    (row,) = (line for line in text.splitlines() if line.startswith("| new fields |"))
    assert [each for each in new if each not in old] == [word.strip(" `") for word in row.split("|")[3].split(",")]


def test_the_command_prints_each_schema() -> None:
    listed = run_in_process(("schema", "--list"), {}).stdout.splitlines()
    assert {line.split()[0] for line in listed} == {*INBOUND, *OUTBOUND}
    for name in (*INBOUND, *OUTBOUND):
        assert json.loads(run_in_process(("schema", name), {}).stdout) == schema(name)


@pytest.mark.parametrize("words", [(), ("nonsense",), ("stf_ready", "--list")])
def test_the_command_wants_one_name_or_the_list(words: tuple[str, ...]) -> None:
    done = run_in_process(("schema", *words), {})
    assert (done.returncode, done.stdout) == (2, "")
