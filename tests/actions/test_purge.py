"""A purge of a large run takes several transactions: polls that fall between two of them restore nothing."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from fastmon_daemon.actions.operator_actions import BATCH_SIZE, ActionRequest, ActionResult, OperatorActions
from fastmon_daemon.intake.handler import MessageHandler
from fastmon_daemon.monitor import StfFile, StfListing, TfFile
from fastmon_daemon.outbox import NewStf
from fastmon_daemon.reconciler.config import ReconcilerConfig
from fastmon_daemon.reconciler.reconciler import Reconciler
from fastmon_daemon.runs.tracked_runs import TrackedRuns
from fastmon_daemon.statechart import load_statechart
from tests.builders import START, FakeMonitor, FakeTestbed, Inline, NewOf, handle, listing_of

CHARTS = (load_statechart("stf"), load_statechart("run"))


class ListingMonitor(FakeMonitor):
    """Lists the STFs of one run."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.polls = 0
        self.stfs = [
            StfFile(stf_filename=f"swf.100014.{n:06d}.stf", file_size_bytes=None, checksum=None, tf_count=500,
                    created_at=START.isoformat(), body="{}", run_key=77)
            for n in range(1, count + 1)
        ]  # fmt: skip

    def stf_files(self, _run_number: int, *, at_least: int, new_of: NewOf, most: int) -> StfListing:
        self.polls += 1
        return listing_of(self.stfs, new_of, most)

    def run_ended_at(self, _run_key: int) -> str | None:
        return None

    def run_numbers(self) -> list[int]:
        return []

    def tf_files(self, _stf_filename: str) -> list[TfFile]:
        return []


class DelayingPool(Inline):
    """A pool that runs the first call only when the test asks for it."""

    def __init__(self) -> None:
        self.delayed: list[Callable[[], Any]] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        if self.delayed:
            return super().submit(fn, *args, **kwargs)
        self.delayed.append(partial(fn, *args, **kwargs))
        return Future()


@pytest.mark.parametrize(("count", "batches"), [(BATCH_SIZE, 1), (BATCH_SIZE + 1, 2)])
def test_polls_between_two_batches_of_a_purge_restore_nothing(tmp_path: Path, count: int, batches: int) -> None:
    monitor: Any = ListingMonitor(count)
    testbed, pool, runs = FakeTestbed(tmp_path, monitor=monitor), DelayingPool(), TrackedRuns()
    outbox = testbed.outbox()
    with outbox.transaction():
        for stf in monitor.stfs:
            outbox.receive(NewStf(namespace="ns", run_id="100014", filename=stf.stf_filename), "received", START)
        for stf in outbox.find():
            outbox.move(stf, "skip", "skipped", testbed.time.at, finalized=True)
    intake = MessageHandler(outbox.path, "ns", "", CHARTS, runs=runs, clock=testbed.time.clock())
    handle(intake, '{"msg_type": "stf_ready", "namespace": "ns", "run_id": "100014"}')
    config = ReconcilerConfig(monitor=monitor, database=outbox.path, charts=CHARTS, clock=testbed.time.clock())
    reconciler = Reconciler(config, runs)
    engine = testbed.engine(outbox, pool=pool, background_tasks=reconciler.tasks)
    actions = OperatorActions(CHARTS[0], intake, alone=False)

    def purge() -> ActionResult:
        request = ActionRequest(action="purge", by="bob", run="100014")
        answer: Future[ActionResult] = engine.inbox.submit(partial(actions.perform, request))
        engine.tick(0)
        return answer.result(0)

    def let_a_minute_pass() -> None:
        for _ in range(60):
            testbed.time.pass_(seconds=1)
            engine.tick(0)

    engine.tick(0)
    assert pool.delayed, "a poll is in flight"
    results = [purge()]
    pool.delayed[0]()
    let_a_minute_pass()
    while results[-1].more:
        results.append(purge())
        let_a_minute_pass()
    assert monitor.polls == 1
    assert (len(results), results[-1].done) == (batches, ["100014"])
    assert (outbox.find(), outbox.runs.latest()) == ([], [])
