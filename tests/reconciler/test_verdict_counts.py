"""The counts and sequence numbers of a verdict."""

from __future__ import annotations

import pytest

from tests.reconciler.harness import Harness


@pytest.mark.field("8")
def test_gaps_below_the_last_stf_of_an_open_run_are_missing(harness: Harness) -> None:
    harness.stf_ready(1, 2, 6, 8)
    assert (harness.verdict.missing, harness.verdict.missing_sequences) == (4, "3-5, 7")
    assert harness.verdict.incomplete_reasons[0] == "not ended"


def test_a_run_that_counts_from_zero_misses_no_number_that_it_never_had(harness: Harness) -> None:
    harness.stf_ready(0, 1)
    assert harness.verdict.missing == 0
    harness.process("end_run", total_stf_files=3)
    assert harness.verdict.missing_sequences == "2"


@pytest.mark.field("8")
def test_a_run_that_does_not_count_from_1_misses_only_numbers_between_known_ones(harness: Harness) -> None:
    harness.stf_ready(101, 102, 104)
    harness.process("end_run", total_stf_files=4)
    assert (harness.verdict.missing, harness.verdict.missing_sequences) == (1, "103")
    harness.process("end_run", total_stf_files=6)
    assert (harness.verdict.missing, harness.verdict.missing_sequences) == (3, "103"), "the others are before or after"


def test_latencies_follow_the_order_of_the_charts_transitions(harness: Harness) -> None:
    harness.broker_is(harness.live_engine, up=False)
    harness.stf_ready(1, 2)
    harness.pass_time(4)
    harness.broker_is(harness.live_engine, up=True)
    harness.tick()
    arrows = [(each.source, each.dest, each.count) for each in harness.verdict.latencies]
    assert arrows == [
        (None, "received", 2), ("received", "sampled", 2), ("sampled", "tf_registered", 2),
        ("tf_registered", "notified", 2), ("notified", "completed", 2),
    ]  # fmt: skip
    announcing = harness.verdict.latencies[3]
    assert announcing.p50_s == pytest.approx(4, abs=0.01)
    assert announcing.max_s == pytest.approx(4, abs=0.01)


def test_the_verdict_of_a_run_with_pruned_stfs_is_the_saved_one(harness: Harness) -> None:
    harness.register(1)
    harness.stf_ready(1)
    harness.process("end_run", total_stf_files=1)
    harness.pass_time(3)
    before = harness.verdict
    with harness.live_outbox.transaction():
        harness.live_outbox.retention.prune("ns", "100014", harness.time.at, 1000)
    after = harness.verdict
    assert (after.complete, after.completed, after.tf_files) == (True, 1, before.tf_files)
    assert after.latencies == before.latencies
