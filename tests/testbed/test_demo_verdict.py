"""How the verdict of the demo counts."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from fastmon_daemon.outbox import Tf
from fastmon_daemon.testbed.demo_verdict import DemoVerdict, differing, overlapping


def row(name: str, first: int, last: int) -> dict[str, Any]:
    return {"tf_filename": name, "tf_file_id": f"id-{name}", "tf_first": first, "tf_last": last, "tf_count": 10}


def test_ranges_that_share_a_frame_overlap():
    assert overlapping([row("c", 20, 29), row("a", 0, 9), row("b", 10, 19)]) == set()
    assert overlapping([row("c", 19, 28), row("a", 0, 9), row("b", 10, 19)]) == {"c"}
    assert overlapping([row("a", 0, 99), row("b", 5, 6), row("c", 50, 51)]) == {"b", "c"}


def test_a_row_differs_unless_the_outbox_has_the_same_values():
    stored = Tf(sequence=1, filename="a", first=0, last=9, count=10, size_bytes=None, monitor_id="id-a")
    assert differing([row("a", 0, 9)], [stored]) == set()
    assert differing([row("a", 0, 8), row("b", 0, 9)], [stored]) == {"a", "b"}


@pytest.mark.parametrize("change", [{"lost": 1}, {"registered_twice": 1}, {"stf_completed": 5}])
def test_a_verdict_with_a_fault_is_not_good(change):
    flawless = dict.fromkeys((field.name for field in fields(DemoVerdict)), 6) | {"lost": 0, "registered_twice": 0}
    assert DemoVerdict(**flawless).good
    assert not DemoVerdict(**flawless | change).good
