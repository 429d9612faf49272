"""The event stream of the embedded monitor, compared with recordings of the real one."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from fastmon_daemon.testbed.monitor.sse import (
    Client,
    encode_event,
    is_heartbeat,
    is_relayed,
    parse_filters,
    parse_message,
    relayed,
)

RECORDINGS = Path(__file__).parents[1] / "contract" / "sse"
ADDED = ("sender_agent", "recipient_agent", "queue_name", "sent_at")
AGENT = "fastmon-agent-x-1"
QUERIES = {
    "mt": "msg_types=tf_file_registered",
    "ag": f"agents={AGENT}",
    "run": "run_ids=777",
    "combo": f"msg_types=tf_file_registered&agents={AGENT}&run_ids=777",
}
SENT = datetime(2026, 11, 21, 21, 4, 20, tzinfo=UTC)
PLAIN = {"msg_type": "tf_file_registered", "namespace": "torre1", "run_id": "777", "processed_by": AGENT}


def recorded_events() -> list[tuple[str, dict[str, Any]]]:
    """(text, data) of each complete event in the raw recording."""
    raw = (RECORDINGS / "sse_raw_no_filter.txt").read_text()
    bodies = re.findall(r"b'[0-9a-f]+\\r\\n(event: .*\\n\\n)\\r\\n'$", raw, flags=re.MULTILINE)
    frames = [body.encode().decode("unicode_escape") for body in bodies]
    return [(text, json.loads(text.partition("\ndata: ")[2])) for text in frames if "event: connected" not in text]


def as_sent(data: dict[str, Any]) -> dict[str, Any]:
    """The message as its sender sent it."""
    if data["label"].startswith("26 "):
        return {name: value for name, value in data.items() if name not in ("recipient_agent", "queue_name")}
    sent = {name: value for name, value in data.items() if name not in ADDED}
    return {name: value for name, value in sent.items() if (name, value) != ("namespace", None)}


def sent_messages() -> list[dict[str, Any]]:
    messages = [as_sent(data) for _, data in recorded_events()]
    big = {**PLAIN, "blob": "x" * 300_000, "label": "25 big 300KB"}
    place = next(index for index, each in enumerate(messages) if each["label"].startswith("26 "))
    return [*messages[:place], big, *messages[place:]]


def test_each_recorded_event_is_encoded_byte_for_byte():
    for text, data in recorded_events():
        message = parse_message(json.dumps(as_sent(data)))
        assert message is not None
        assert is_relayed(message)
        ours = relayed(message, SENT)
        ours["sent_at"] = data["sent_at"]
        assert encode_event(ours["msg_type"], ours).decode() == text


@pytest.mark.parametrize("name", sorted(QUERIES))
def test_each_filter_passes_the_recorded_events(name):
    labels = (RECORDINGS / f"sse_filter_{name}_labels.txt").read_text().splitlines()
    client = Client(parse_filters(QUERIES[name]))
    for message in sent_messages():
        client.offer(message, message["label"].encode())
    got = [client.queue.get_nowait().decode() for _ in range(client.queue.qsize())]
    assert got == labels


@pytest.mark.parametrize(
    "body",
    [
        "not json", "[1]", '"text"', "null", "", "[" * 100_000, '{"msg_type": "a", "x": NaN}',
        '{"msg_type": "a", "x": "\\u0000"}', '{"msg_type": "a", "x": [{"y\\u0000": 1}]}',
    ],
)  # fmt: skip
def test_the_listener_drops_anything_but_a_json_object_without_nul(body):
    assert parse_message(body) is None


@pytest.mark.parametrize(
    "change",
    [
        {"msg_type": None}, {"msg_type": "m" * 51}, {"sender": "s" * 101}, {"namespace": "n" * 101},
        {"run_id": "7" * 51}, {"agent_name": AGENT, "status": "registered"},
    ],
)  # fmt: skip
def test_the_listener_relays_no_message_that_is_too_long_untyped_or_a_heartbeat(change):
    assert not is_relayed(PLAIN | change)


def test_a_message_without_type_is_not_relayed():
    assert not is_relayed({name: value for name, value in PLAIN.items() if name != "msg_type"})


def test_agent_name_alone_is_no_heartbeat():
    assert not is_heartbeat(PLAIN | {"agent_name": AGENT})
    assert is_relayed(PLAIN | {"agent_name": AGENT})
