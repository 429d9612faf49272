"""The testbed's broker: selectors on the headers of messages."""

from __future__ import annotations

import pytest

from fastmon_daemon.testbed.stomp_broker.frames import ProtocolError
from fastmon_daemon.testbed.stomp_broker.selector import selector_of
from tests.testbed.stomp_broker.clients import TOPIC, BrokerRig


@pytest.mark.parametrize(
    ("text", "headers", "selected"),
    [
        ("kind = 'stf'", {"kind": "stf"}, True),
        ("kind = 'stf'", {"kind": "STF"}, False),
        ("kind = 'stf'", {}, False),
        ("kind='it''s'", {"kind": "it's"}, True),
        ("kind <> 'stf'", {"kind": "tf"}, True),
        ("kind <> 'stf'", {"kind": "stf"}, False),
        ("kind <> 'stf'", {}, False),
        ("kind IS NULL", {}, True),
        ("kind IS NULL", {"kind": ""}, False),
        ("kind is not null", {"kind": "stf"}, True),
        ("kind is not null", {}, False),
        ("kind IN ('stf', 'tf')", {"kind": "tf"}, True),
        ("kind IN ('stf', 'tf')", {"kind": "run"}, False),
        ("kind IN ('stf')", {}, False),
        ("a = '1' OR b = '1' AND c = '1'", {"a": "1"}, True),
        ("a = '1' OR b = '1' AND c = '1'", {"b": "1"}, False),
        ("a = '1' AND b = '1' OR c = '1'", {"c": "1"}, True),
        ("a = '1' AND b = '1' OR c = '1'", {"a": "1"}, False),
        (" a = '1'  and b = '2' ", {"a": "1", "b": "2"}, True),
    ],
)
def test_a_selector_compares_headers_as_sql_does(text: str, headers: dict[str, str], selected: bool) -> None:
    assert selector_of(text)(headers) is selected


@pytest.mark.parametrize(
    "text",
    ["", "kind", "kind = stf", "kind = 'stf' OR", "kind = 'stf' kind = 'tf'", "kind LIKE 's%'", "kind = ('stf')",
     "kind IN 'stf'", "kind IN ()", "(kind = 'stf')", "NOT kind = 'stf'", "kind ISNULL", "kind = 'stf' ORDER BY kind"],
)  # fmt: skip
def test_a_selector_that_the_broker_does_not_understand_is_rejected_whole(text: str) -> None:
    with pytest.raises(ProtocolError, match="Invalid selector"):
        selector_of(text)


def test_a_subscriber_of_a_topic_gets_what_it_selects(rig: BrokerRig) -> None:
    raw = rig.client()
    raw.subscribe(TOPIC, selector="kind = 'stf'")
    assert raw.send(TOPIC, "a", kind="tf") == []
    assert raw.send(TOPIC, "b") == []
    assert [frame.body for frame in raw.send(TOPIC, "c", kind="stf")] == ["c"]
