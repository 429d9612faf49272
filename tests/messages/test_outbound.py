"""The messages that a daemon sends have exactly the declared fields, with values of the declared types."""

from __future__ import annotations

import json
from collections.abc import Iterator
from types import UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest

from fastmon_daemon.messages import CommonFields, FastmonStatus, TfFileRegistered
from tests.processes import LiveTestbed, live_testbed, name, wait_until

TYPES = {"tf_file_registered": TfFileRegistered, "fastmon_status": FastmonStatus}


@pytest.fixture(scope="module")
def heard(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What a daemon sends, for an STF with all fields and one with as few as possible."""
    with live_testbed(tmp_path_factory.mktemp("outbound")) as testbed:
        return list(messages(testbed))


def messages(testbed: LiveTestbed) -> Iterator[dict[str, Any]]:
    testbed.register(1, 2)
    daemon = testbed.daemon()
    testbed.publish({"msg_type": "run_imminent", "run_id": "100014", "execution_id": "e-1"})
    testbed.publish({"msg_type": "stf_ready", "run_id": "100014", "filename": name(1), "sequence": 1,
                     "size_bytes": 10**9, "tf_count": 1000})  # fmt: skip
    testbed.publish({"msg_type": "stf_ready", "run_id": 100014, "filename": name(2)})
    testbed.wait_for(completed=2)
    wait_until(lambda: any("fastmon_status" in body for body in testbed.heard), "it has said that it started")
    daemon.terminate()
    assert daemon.wait(40) == 0
    yield from map(json.loads, testbed.heard)


def fits(value: object, declared: Any) -> bool:
    if isinstance(declared, UnionType):
        return any(fits(value, each) for each in get_args(declared))
    if get_origin(declared) is Literal:
        return value in get_args(declared)
    return type(value) is declared or (declared is float and type(value) is int)


@pytest.mark.parametrize("msg_type", TYPES)
def test_a_message_has_the_declared_fields(heard: list[dict[str, Any]], msg_type: str) -> None:
    declared = get_type_hints(CommonFields) | get_type_hints(TYPES[msg_type])
    found = [message for message in heard if message["msg_type"] == msg_type]
    assert len(found) >= 2
    for message in found:
        assert message.keys() == declared.keys()
        assert {key: value for key, value in message.items() if not fits(value, declared[key])} == {}
