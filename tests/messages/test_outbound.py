"""The messages that a daemon sends have exactly the fields of their schemas, with values that fit."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from tests.messages.schemas import OUTBOUND, is_valid, schema
from tests.processes import LiveTestbed, live_testbed, name, wait_until


@pytest.fixture(scope="module")
def heard(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What a daemon sends in a run, for an STF with all fields and one with as few as possible."""
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
    testbed.publish({"msg_type": "end_run", "run_id": "100014", "total_stf_files": 2})
    for kind in ("fastmon_status", "fastmon_run_summary"):
        wait_until(lambda kind=kind: any(kind in body for body in testbed.heard), kind)  # type: ignore[misc]
    daemon.terminate()
    assert daemon.wait(40) == 0
    yield from map(json.loads, testbed.heard)


def sent(heard: list[dict[str, Any]], msg_type: str) -> list[dict[str, Any]]:
    return [message for message in heard if message["msg_type"] == msg_type]


@pytest.mark.parametrize(("msg_type", "least"), [*zip(OUTBOUND, (14, 2, 1), strict=True)])
def test_a_message_has_the_fields_of_its_schema(heard: list[dict[str, Any]], msg_type: str, least: int) -> None:
    found = sent(heard, msg_type)
    assert len(found) >= least
    for message in found:
        assert message.keys() == schema(msg_type)["properties"].keys()
        assert is_valid(message)
        assert datetime.fromisoformat(message["timestamp"]).tzinfo is not None


@pytest.mark.parametrize("msg_type", OUTBOUND)
def test_a_message_with_a_field_less_or_of_another_type_does_not_fit(
    heard: list[dict[str, Any]], msg_type: str
) -> None:
    message = sent(heard, msg_type)[0]
    for field in message.keys() - {"msg_type"}:
        assert not is_valid({key: value for key, value in message.items() if key != field}), field
        assert not is_valid({**message, field: [message[field]]}), field


def test_a_run_summary_tells_of_latencies_field_by_field(heard: list[dict[str, Any]]) -> None:
    """So that the schema of their objects was tried, too."""
    (summary,) = sent(heard, "fastmon_run_summary")
    assert summary["latencies"]
    assert not is_valid({**summary, "latencies": [{**summary["latencies"][0], "p50_s": "1"}]})
