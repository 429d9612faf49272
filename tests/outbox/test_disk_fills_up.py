"""The disk fills up within one turn of the engine, between the transactions of two STFs."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import partial
from pathlib import Path
from typing import Any

from sqlite_utils import Database

from tests.builders import Inline, World, named, settle


class FillsTheDisk(Executor):
    """A pool that keeps its first call for later, and fills the disk while the engine goes on with its turn."""

    def __init__(self, connection: Database) -> None:
        self._connection = connection
        self._inline = Inline()
        self.kept: Callable[[], object] | None = None

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        if self.kept is not None:
            return self._inline.submit(fn, *args, **kwargs)
        self.kept = partial(fn, *args, **kwargs)
        self._connection.execute("pragma query_only = on")  # any write fails now
        return Future()


def test_a_disk_that_fills_up_within_a_turn_forgets_no_stf_whose_call_is_under_way(tmp_path: Path) -> None:
    small = World(tmp_path)
    outbox, connection = small.outbox_and_connection()
    names = [small.receive(outbox, n) for n in range(1, 4)]
    pool = FillsTheDisk(connection)
    engine = small.engine(outbox, pool=pool)
    engine.tick(0)
    assert pool.kept is not None
    pool.kept()
    connection.execute("pragma query_only = off")
    small.time.pass_(seconds=2)
    settle(engine)
    assert {named(outbox, each).state for each in names} == {"completed"}
    assert (small.monitor.posts.total(), len(small.announced)) == (21, 21)
