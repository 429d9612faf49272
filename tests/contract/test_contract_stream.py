"""The event stream: authentication, the first event, relayed messages and filters."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any

import pytest
import requests

STREAM = "messages/stream/"
DEADLINE_S = 45.0
NOT_PROVIDED = {"detail": "Authentication credentials were not provided."}


class Events:
    """A client of the stream, already connected."""

    def __init__(self, api: Any, query: str = "") -> None:
        self.response = api.session.get(f"{api.url}/api/{STREAM}{query}", stream=True, timeout=DEADLINE_S)
        self._lines: Iterator[bytes] = self.response.iter_lines(chunk_size=1)
        self.connected = self.next()

    def next(self) -> tuple[str, Any]:
        """Return name and data of the next event."""
        name = next(line for line in self._lines if line.startswith(b"event: ")).decode()
        data = next(self._lines).decode()
        return name.removeprefix("event: "), json.loads(data.removeprefix("data: "))

    def until(self, marker: str) -> list[Any]:
        """Return the data of all messages up to and including the one with the ``label`` *marker*."""
        seen = []
        while not seen or seen[-1]["label"] != marker:
            name, data = self.next()
            if name != "heartbeat":
                seen.append(data)
        return seen

    def close(self) -> None:
        self.response.close()


@pytest.fixture
def publish(target) -> Callable[[dict[str, Any]], None]:
    if target.publish is None:
        pytest.skip("nothing can be published without --broker")
    return lambda message: target.publish(json.dumps(message))


@pytest.fixture
def read(api) -> Iterator[Callable[[str], Events]]:
    with ExitStack() as stack:
        yield lambda query="": stack.enter_context(closing(Events(api, query)))


def test_the_stream_needs_the_token_in_the_header(anonymous, wrong_token, target):
    responses = [anonymous.get(STREAM), wrong_token.get(STREAM), anonymous.get(f"{STREAM}?token={target.token}")]
    for rejected in responses:
        assert (rejected.status_code, rejected.json()) == (401, NOT_PROVIDED)
    assert anonymous.post(STREAM, {"a": 1}).status_code == 401


def test_the_stream_begins_with_connected(read):
    events = read()
    assert events.response.headers["Content-Type"].startswith("text/event-stream")
    name, data = events.connected
    assert (name, data["status"]) == ("connected", "connected")
    assert data.keys() == {"client_id", "status"}


def test_a_message_is_relayed_with_the_fields_that_the_monitor_adds(read, publish, name):
    events = read(f"?agents={name}")
    sent = {"msg_type": "tf_file_registered", "run_id": 777, "processed_by": name, "sender": name, "label": "one"}
    publish(sent)
    (got,) = events.until("one")
    assert got.pop("sent_at").endswith("+00:00")
    assert got == sent | {
        "sender_agent": name,
        "recipient_agent": None,
        "namespace": None,
        "queue_name": "epictopic",
    }


def test_filters_are_exact_and_combined_and_compare_runs_as_text(read, publish, name):
    queries = {
        "": f"?agents={name}",
        "msg_types": f"?agents={name}&msg_types=stf_ready,tf_file_registered",
        "run_ids": f"?agents={name}&run_ids=777",
    }
    readers = {label: read(query) for label, query in queries.items()}
    base = {"processed_by": name, "msg_type": "tf_file_registered", "run_id": "777"}
    for label, change in (
        ("plain", {}),
        ("run as a number", {"run_id": 777}),
        ("another type", {"msg_type": "never_seen_before"}),
        ("sent by, not processed by", {"processed_by": "x", "sender": name}),
        ("last", {}),
    ):
        publish(base | change | {"label": label})
    labels = {label: [each["label"] for each in events.until("last")] for label, events in readers.items()}
    assert labels == {
        "": ["plain", "run as a number", "another type", "last"],
        "msg_types": ["plain", "run as a number", "last"],
        "run_ids": ["plain", "another type", "last"],
    }


def test_a_message_like_a_heartbeat_or_without_type_is_not_relayed(read, publish, name):
    events = read(f"?agents={name}")
    base = {"processed_by": name, "msg_type": "tf_file_registered", "run_id": "777"}
    publish(base | {"agent_name": name, "status": "registered", "label": "heart-beat"})
    publish({"processed_by": name, "label": "no type"})
    publish(base | {"msg_type": None, "label": "null type"})
    publish(base | {"run_id": "7" * 51, "label": "too long"})
    publish(base | {"msg_type": "x\0", "label": "NUL"})
    publish(base | {"agent_name": name, "label": "last"})
    assert [each["label"] for each in events.until("last")] == ["last"]


def test_a_stored_message_does_not_reach_the_stream(api, read, publish, name):
    events = read(f"?agents={name}")
    content = {"msg_type": "tf_file_registered", "processed_by": name, "label": "stored"}
    row = api.create("workflow-messages/", {"message_type": "tf_file_registered", "message_content": content})
    publish(content | {"label": "last"})
    assert [each["label"] for each in events.until("last")] == ["last"]
    api.call("DELETE", f"workflow-messages/{row['message_id']}/")


def test_a_later_client_gets_no_earlier_messages(read, publish, name):
    first = read(f"?agents={name}")
    message = {"msg_type": "tf_file_registered", "processed_by": name}
    publish(message | {"label": "before"})
    first.until("before")
    second = read(f"?agents={name}")
    publish(message | {"label": "after"})
    assert [each["label"] for each in second.until("after")] == ["after"]


def test_events_have_no_id(api, read, publish, name):
    with requests.get(
        f"{api.url}/api/{STREAM}?agents={name}", headers=api.session.headers, stream=True, timeout=DEADLINE_S
    ) as raw:
        lines = raw.iter_lines(chunk_size=1)
        seen = [next(lines) for _ in range(3)]
        publish({"msg_type": "tf_file_registered", "processed_by": name})
        seen += [next(lines) for _ in range(3)]
    assert [line.split(b":")[0] for line in seen] == [b"event", b"data", b"", b"event", b"data", b""]
