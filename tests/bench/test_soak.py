"""The soak: it knows every fault, it finds what is lost and what grows, and a short one passes."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

import pytest

from bench.soak import FAULTS, NOT_OF_THE_DAEMON, RESOURCES, Plan, Result, Sample, document, soak, table, write_plots
from bench.testbed import measured_testbed
from fastmon_daemon.testbed.monitor.faults import NAMES, Faults

GOOD = {"published": 10, "lost": 0, "registered_twice": 0, "announced_twice": 1, "unfinished": 0, "failed": 0}


def test_every_fault_of_the_testbed_is_used():
    assert {*FAULTS, *NOT_OF_THE_DAEMON, "error_status"} == set(NAMES)


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_valid_and_in_force(fault):
    faults = Faults(lambda: 0.0, Random(1))
    for seed in range(10):
        assert fault in faults.set(FAULTS[fault](Random(seed), 5.0))


def result_of(growth: float = 0.0, **account: int) -> Result:
    plan = Plan(minutes=30, seed=1)
    samples = [
        Sample(at=minute, rss_mb=50 + growth * minute, descriptors=round(20 + growth * minute), threads=15,
               database_mb=5, wal_mb=4)
        for minute in range(30)
    ]  # fmt: skip
    return Result(plan=plan, samples=samples, faults=["down_s"], account={**GOOD, **account})


def test_what_is_lost_or_repeated_or_left_is_a_problem():
    assert list(result_of().problems()) == []
    assert list(result_of(lost=1, failed=2).problems()) == ["lost: 1", "failed: 2"]
    assert list(result_of(registered_twice=1, unfinished=3).problems()) == ["registered_twice: 1", "unfinished: 3"]
    ended = replace(result_of(), has_ended=True)
    assert list(ended.problems()) == ["the daemon ended"]


@pytest.mark.parametrize("samples", [0, 3, 11])
def test_a_daemon_that_ends_before_the_warm_up_is_over_is_told(samples, tmp_path):
    result = replace(result_of(lost=5), samples=result_of().samples[:samples], has_ended=True)
    lost, ended, few = result.problems()
    assert (lost, ended) == ("lost: 5", "the daemon ended")
    assert few.startswith("too few samples")
    assert "| lost | 5 |" in table(result)
    write_plots(result, tmp_path)


def test_what_grows_is_a_problem():
    found = list(result_of(growth=1.0).problems())
    assert [problem.partition(" grow")[0] for problem in found] == ["resident memory", "file descriptors"]


def test_growth_before_the_warm_up_is_none():
    result = result_of()
    result.samples[:10] = [replace(sample, rss_mb=20) for sample in result.samples[:10]]
    assert list(result.problems()) == []


def test_an_stf_without_a_tf_file_or_an_announcement_is_lost():
    with measured_testbed() as testbed:
        testbed.play(100_001, 2, 100.0)
        assert testbed.account() == {"published": 2, "lost": 2, "registered_twice": 0, "announced_twice": 0}


def test_the_document_shows_the_account_and_has_a_plot_of_each_resource(tmp_path):
    write_plots(result_of(), tmp_path)
    assert len(list(tmp_path.glob("*.svg"))) == len(RESOURCES)
    text = document(result_of())
    assert "| lost | 0 |" in text
    assert "nothing was lost" in text
    assert "**lost: 1**" in document(result_of(lost=1))
    for plot in tmp_path.glob("*.svg"):
        assert f"images/{plot.name}" in text


def test_a_short_soak_loses_nothing():
    plan = Plan(minutes=0.25, seed=3)
    result: Any = soak(plan)
    assert result.faults
    assert result.account["published"] > 20, table(result)
    assert [result.account[what] for what in ("lost", "unfinished", "failed", "registered_twice")] == [0, 0, 0, 0]
    assert len(result.samples) > 10
