"""A run beside its reference run: profiles from the tables, minute by minute, and the comparison in words."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from fastmon_client.profile import MAX_READ, Profile, compare
from fastmon_client.reference import CALLS_AT_ONCE, ProfileReader
from fastmon_client.snapshot import ProfileRow
from tests.client.client_process import QUICK, Client, Experiment
from tests.client.state_driver import T0, stf


def profile(
    minutes: int, *, hz: float = 0.5, files: int = 2, lag_s: float = 0.4, fraction: float = 1.0, lost: set[int] = frozenset(),  # type: ignore[assignment]  # noqa: E501
    size: int = 10, ended: bool = True,
) -> tuple[Profile, int]:  # fmt: skip
    """The profile of a run of regular STFs, and how many of them were read."""
    found = Profile("7")
    end = (T0 + timedelta(minutes=minutes)).isoformat()
    found.record_row({"start_time": T0.isoformat(), "end_time": end if ended else None})
    count = int(minutes * 60 * hz)
    times = {stf(n): T0 + timedelta(seconds=(n - 1) / hz) for n in range(1, count + 1)}
    found.record_listing(times.items(), T0 + timedelta(minutes=minutes, seconds=40))
    reads = 0
    while left := found.to_read():
        name = left[0]
        number = int(name.split(".")[2])
        reads += 1
        is_selected = -(-number * fraction // 1) > -(-(number - 1) * fraction // 1)
        row = {"created_at": (times[name] + timedelta(seconds=lag_s)).isoformat(), "file_size_bytes": size,
               "metadata": {"selection_fraction": fraction}}  # fmt: skip
        found.record_tf_files(name, [row] * files if is_selected and number not in lost else [])
    return found, reads


def test_a_minute_has_its_rate_lag_missing_fraction_and_size() -> None:
    found = profile(3, lost={31, 32, 33})[0].row()
    assert (found["stfs"], found["read"], found["one_of"], found["to_read"]) == (90, 90, 1, 0)
    assert found["points"] == [
        {"rate_hz": 1.0, "lag_s": 0.4, "missing": 0.0, "size_bytes": 20},
        {"rate_hz": 0.9, "lag_s": 0.4, "missing": 0.1, "size_bytes": 20},
        {"rate_hz": 1.0, "lag_s": 0.4, "missing": 0.0, "size_bytes": 20},
    ]


def test_skipped_stfs_are_neither_missing_nor_read() -> None:
    found, reads = profile(10, fraction=0.1)
    row = found.row()
    assert (row["stfs"], reads) == (30, 30)
    assert {point["missing"] for point in row["points"]} == {0.0}
    assert row["points"][0]["rate_hz"] == pytest.approx(0.1)


def test_of_a_long_run_a_part_is_read_and_the_rate_is_right_all_the_same() -> None:
    found, reads = profile(200)
    row = found.row()
    assert (row["stfs"], row["one_of"], reads) == (6000, 4, 1500)
    assert reads <= MAX_READ
    assert {point["rate_hz"] for point in row["points"]} == {1.0}


def test_what_was_read_stays_of_use_when_the_run_grows() -> None:
    found, _ = profile(60)
    times = [(stf(n), T0 + timedelta(seconds=2 * n - 2)) for n in range(1, 6001)]
    found.record_listing(times, T0 + timedelta(hours=5))
    assert found.row()["one_of"] == 4
    assert len(found.to_read()) == 1050  # 450 of the 1800 that were read are still of use


def test_the_minute_that_has_begun_is_not_compared() -> None:
    assert len(profile(3, ended=False)[0].row()["points"]) == 3
    running = Profile("7")
    running.record_row({"start_time": T0.isoformat()})
    running.record_listing([(stf(1), T0), (stf(2), T0 + timedelta(seconds=80))], T0 + timedelta(seconds=130))
    assert len(running.row()["points"]) == 1


def test_the_minute_in_which_a_run_ended_is_not_compared_unless_it_is_the_only_one() -> None:
    for seconds, count in ((190, 3), (179, 2), (20, 1)):
        found = Profile("7")
        found.record_row({"start_time": T0.isoformat(), "end_time": (T0 + timedelta(seconds=seconds)).isoformat()})
        times = [(stf(n), T0 + timedelta(seconds=n)) for n in range(seconds)]
        found.record_listing(times, T0 + timedelta(hours=1))
        assert len(found.row()["points"]) == count


def test_a_run_of_unknown_selection_has_no_missing_fraction() -> None:
    found, _ = profile(2, lost=set(range(1, 61)))
    assert [point["missing"] for point in found.row()["points"]] == [None, None]
    assert [point["rate_hz"] for point in found.row()["points"]] == [0.0, 0.0]


def test_the_comparison_is_of_the_same_minute_and_judges_nothing() -> None:
    good = profile(5, size=20)[0].row()
    found = compare(profile(2, lost={40})[0].row(), good)
    assert found["since_start_s"] == 120
    assert found["text"] == (
        "run 7 after 2 min 0 s, in brackets reference run 7: rate 1.0 TF files/s (1.0 TF files/s), "
        "lag 0.40 s (0.40 s), missing 3.3 % (0.0 %), size 20 B an STF (40 B an STF)"
    )
    shorter = compare(good, profile(2)[0].row())
    assert shorter["then"] is None
    assert "which was shorter: rate 1.0 TF files/s (?)" in shorter["text"]


@pytest.mark.parametrize(
    ("now", "good", "problem", "said"),
    [(1, 1, "the monitor has no run 7", "not to be had: the monitor has no run 7"),
     (1, 0, "", "not to be had: the monitor has no STFs of it"), (None, 1, "", "no minute of a run to compare yet"),
     (0, 1, "", "no minute of a run to compare yet")],
)  # fmt: skip
def test_what_is_not_to_be_had_is_said(now: int | None, good: int, problem: str, said: str) -> None:
    current: ProfileRow | None = None if now is None else profile(now)[0].row()
    found = compare(current, profile(good)[0].row(), problem)
    assert said in found["text"]
    assert (found["now"], found["then"]) == (None, None)


class FakeTables:
    """Run 7 with *count* old STFs."""

    def __init__(self, count: int) -> None:
        self._stfs = [(stf(n), T0 + timedelta(seconds=n)) for n in range(count)]
        self.calls = 0

    def runs(self) -> list[dict[str, Any]]:
        return [{"run_number": 7, "start_time": T0.isoformat(), "end_time": T0.isoformat()}]

    def stfs(self, _run: int) -> list[tuple[str, Any]]:
        return self._stfs

    def tf_files(self, _stf: str) -> list[dict[str, Any]]:
        self.calls += 1
        return [{"created_at": T0.isoformat(), "metadata": {"selection_fraction": 1.0}}]


def test_calls_are_made_some_at_a_time_and_a_run_that_was_read_costs_none() -> None:
    tables = FakeTables(150)
    reader = ProfileReader(tables, lambda: T0 + timedelta(hours=1))  # type: ignore[arg-type]
    assert (reader.read("7")["to_read"], tables.calls) == (50, CALLS_AT_ONCE)
    assert (reader.read("7")["to_read"], tables.calls) == (0, 150)
    tables.runs = tables.stfs = None  # type: ignore[assignment, method-assign]
    assert reader.read("7")["read"] == 150


@pytest.mark.parametrize("run", ["8", "cosmic", "²"])
def test_a_run_that_is_not_there_is_an_error(run: str) -> None:
    with pytest.raises(LookupError, match="the monitor has no run"):
        ProfileReader(FakeTables(1), lambda: T0).read(run)  # type: ignore[arg-type]


# `start --reference`


@pytest.fixture
def experiment() -> Iterator[Experiment]:
    with Experiment(per_stf=2, age_s=120.0) as running:
        running.publish(1, 2, 3)
        running.end_in_table()
        yield running


def lines(experiment: Experiment, *options: str) -> list[str]:
    """What a client prints until it says how the run compares."""
    experiment.begin_run(100015)
    experiment.publish(1, 2)
    experiment.register_stfs(3)
    with Client(experiment.monitor.url, *options, **QUICK) as client:
        found = [client.line()]
        while "reference" not in found[-1] or "no minute" in found[-1]:
            found.append(client.line())
        client.signal(15)
        client.ended()
        assert "reference run" in client.log_lines[-1]
    return found


def test_start_compares_the_current_run_with_the_reference(experiment: Experiment) -> None:
    said = lines(experiment, "--plain", "--reference", "0100014")[-1]
    assert "run 100015 after 1 min 0 s, in brackets reference run 100014: " in said
    assert "missing 33.3 % (0.0 %), size 100.8 MB an STF (100.8 MB an STF)" in said


def test_json_has_the_comparison_as_numbers(experiment: Experiment) -> None:
    found = json.loads(lines(experiment, "--json", "--reference", "100014")[-1])
    assert (found["kind"], found["run"], found["current"], found["since_start_s"]) == (
        "reference", "100014", "100015", 60.0,
    )  # fmt: skip
    assert (found["now"]["missing"], found["then"]["missing"]) == (0.3333, 0.0)


def test_a_reference_that_is_not_there_is_named_and_spoils_nothing(experiment: Experiment) -> None:
    found = lines(experiment, "--plain", "--reference", "9")
    assert found[-1].endswith("reference run 9: not to be had: the monitor has no run 9")
    assert threading.active_count() < 50
