"""The engine goes on with STFs in memory, without reading them again: they are as the outbox stores them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from fastmon_daemon.base.clock import format_timestamp
from fastmon_daemon.engine.sampling import draw_sample
from fastmon_daemon.outbox import Announced, Registered, Sampled, StepResult, Stf
from fastmon_daemon.outbox.models import SamplePlan
from tests.builders import FakeTestbed, named


def sampled(stf: Stf, planned: int, **fields: int) -> Sampled:
    plan = SamplePlan(seed="seed", tf_count=planned, tf_files=3, size_fraction=0.15, sequence_start=1)
    ranges = draw_sample(plan, stf.filename)
    return Sampled(plan=plan, ranges=ranges, sizes=tuple(each.count * 10 for each in ranges), **fields)


def test_an_stf_in_memory_follows_what_is_stored(tmp_path: Path) -> None:
    testbed = FakeTestbed(tmp_path)
    outbox, now = testbed.outbox(), testbed.time.at
    at, name = format_timestamp(now), testbed.receive(outbox)
    stf = named(outbox, name)
    first, again = sampled(stf, 1000), sampled(stf, 300, tf_count=300, size_bytes=3000)
    adopted = [
        replace(tf, monitor_id=f"id-{tf.sequence}", first=7, last=8, count=2, adopted="range") for tf in again.tfs
    ]
    steps: list[tuple[str, str, list[StepResult]]] = [
        ("sample_tfs", "sampled", [first]),
        ("register_tfs", "tf_registered",
         [Registered(tf=adopted[0], sample=again), *(Registered(tf=tf) for tf in adopted[1:])]),
        ("notify_clients", "notified", [Announced(sequence=tf.sequence) for tf in adopted]),
        ("close_stf", "completed", []),
    ]  # fmt: skip
    for trigger, dest, results in steps:
        finalized = dest == "completed"
        with outbox.transaction():
            outbox.save_progress(stf.id, results, now)
            stf = stf.with_results(results, at)
            assert replace(outbox.get(stf.id), remark=None) == stf
            outbox.move(stf, trigger, dest, now, finalized=finalized)
            stf = stf.moved_to(dest, at, finalized=finalized)
            assert replace(outbox.get(stf.id), remark=None) == stf
    assert (stf.tf_count, stf.size_bytes, stf.due_at) == (300, 3000, None)
