"""The bounded queue between the threads that read and the one that shows."""

from __future__ import annotations

import threading
from queue import Empty, SimpleQueue
from typing import Any

import pytest

from fastmon_client.arrivals import ArrivalQueue
from tests.processes import wait_until


def put(queue: ArrivalQueue[str], item: str, size: int) -> SimpleQueue[str]:
    """Put *item* in a thread; returns what tells when that is done."""
    done: SimpleQueue[str] = SimpleQueue()

    def run() -> None:
        queue.put(item, size)
        done.put(item)

    threading.Thread(target=run, daemon=True).start()
    return done


def test_items_come_in_order_with_their_size() -> None:
    queue: ArrivalQueue[str] = ArrivalQueue(limit=10, late_s=60.0)
    assert put(queue, "larger than the limit", 99).get(timeout=20)
    assert queue.get(0.0) == ("larger than the limit", 99, False)
    assert put(queue, "a", 4).get(timeout=20)
    assert put(queue, "b", 6).get(timeout=20)
    queue.put_at_once("c")
    assert [queue.get(20) for _ in range(3)] == [("a", 4, False), ("b", 6, False), ("c", 0, False)]
    for timeout in (0.0, 0.001):
        with pytest.raises(Empty):
            queue.get(timeout)


@pytest.mark.parametrize(("late_s", "is_late"), [(0.0, True), (60.0, False)])
def test_what_does_not_fit_waits_for_room_and_may_be_late(late_s: float, is_late: bool) -> None:
    queue: ArrivalQueue[str] = ArrivalQueue(limit=10, late_s=late_s)
    assert put(queue, "a", 10).get(timeout=20)
    blocked = put(queue, "b", 1)
    with pytest.raises(Empty):
        blocked.get(timeout=0.1)
    assert queue.get(20)[0] == "a"
    assert blocked.get(timeout=20) == "b"
    assert queue.get(20) == ("b", 1, is_late)


def test_a_closed_queue_takes_nothing_and_ends_all_waits() -> None:
    queue: ArrivalQueue[str] = ArrivalQueue(limit=10)
    assert put(queue, "a", 10).get(timeout=20)
    blocked = put(queue, "b", 1)
    queue.close()
    assert blocked.get(timeout=20) == "b"
    assert put(queue, "c", 1).get(timeout=20)
    found: list[Any] = []

    def left() -> bool:
        try:
            found.append(queue.get(0.0)[0])
        except Empty:
            return True
        return False

    wait_until(left, "it is empty")
    assert found == ["a"]
