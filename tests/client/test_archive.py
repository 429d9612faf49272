"""The rows of runs that are no longer kept with their STFs, and the totals over all."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from fastmon_client import archive as module
from fastmon_client.archive import RunArchive
from fastmon_client.intervals import Intervals
from fastmon_client.runs import Run
from fastmon_client.tffile import TfFile
from tests.client.snapshots import run as run_row
from tests.client.state_driver import T0, announcement

NUMBERS = {"stfs_seen": 3, "tf_files": 5, "bytes": 70, "tf_files_without_size": 1, "backfilled": 2, "duplicates": 4}
ONE = {"runs": 1, "stfs": 3, "tf_files": 5, "bytes": 70, "tf_files_without_size": 1, "backfilled": 2, "duplicates": 4}
NONE = dict.fromkeys(ONE, 0)


def add(archive: RunArchive, name: str, **changes: Any) -> None:
    row = run_row(name, **{**NUMBERS, **changes})
    archive.add(Run(name, T0 + timedelta(seconds=len(name)), Intervals()), row)  # type: ignore[arg-type]


def totals(archive: RunArchive, *runs: Run) -> dict[str, Any]:
    return dict(archive.totals(runs))


def times(count: int) -> dict[str, int]:
    return {name: count * number for name, number in ONE.items()}


def test_totals_are_those_of_all_rows_and_runs() -> None:
    archive = RunArchive()
    assert totals(archive) == NONE
    add(archive, "1")
    add(archive, "22", bytes=None)
    assert (totals(archive), archive.count) == (times(2) | {"bytes": 70}, 2)
    run = Run("7", T0, Intervals())
    for number, changes in ((1, {}), (2, {"file_size_bytes": None}), (1, {})):
        run.ingest(TfFile.of(announcement(1, number) | changes), T0, backfilled=False)
    run.ingest(TfFile.of(announcement(1, 3)), T0, backfilled=True)
    assert totals(archive, run) == {
        "runs": 3, "stfs": 7, "tf_files": 13, "bytes": 90, "tf_files_without_size": 3, "backfilled": 5,
        "duplicates": 9,
    }  # fmt: skip


def test_the_volume_is_unknown_if_no_size_is_known() -> None:
    archive = RunArchive()
    add(archive, "1", bytes=None, tf_files_without_size=5)
    assert totals(archive)["bytes"] is None
    add(archive, "22")
    assert totals(archive)["bytes"] == 70


def test_the_oldest_rows_are_only_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ROWS", 2)
    archive = RunArchive()
    for name in ("333", "1", "22"):  # by their own time, not as they came
        add(archive, name)
    assert ([row["run"] for _, row in archive.rows(T0)], archive.count) == (["333", "22"], 2)
    assert (totals(archive), archive.contains("1"), archive.contains("22")) == (times(3), False, True)


@pytest.mark.parametrize("is_dropped", [False, True])
def test_a_run_that_returns_and_is_read_again_is_counted_anew(
    is_dropped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_ROWS", 0 if is_dropped else 2)
    archive = RunArchive()
    add(archive, "1")
    add(archive, "22")
    assert archive.take("1", is_read_again=True)
    assert totals(archive) == times(1)
    assert not archive.take("1", is_read_again=True)
    assert totals(archive) == times(1)


@pytest.mark.parametrize("is_dropped", [False, True])
def test_of_a_run_that_returns_and_is_not_read_again_the_numbers_stay(
    is_dropped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_ROWS", 0 if is_dropped else 2)
    archive = RunArchive()
    add(archive, "1")
    assert archive.take("1", is_read_again=False) is not is_dropped
    assert totals(archive) == ONE | {"runs": 0}
    add(archive, "1")
    assert totals(archive) == times(2) | {"runs": 1}
    assert not archive.take("new", is_read_again=False)


def test_few_dropped_runs_are_known_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ROWS", 0)
    monkeypatch.setattr(module, "MAX_DROPPED", 2)
    archive = RunArchive()
    for name in ("1", "22", "333"):
        add(archive, name)
    assert [archive.take(name, is_read_again=True) for name in ("1", "22", "333")] == [False, True, True]
    assert totals(archive) == ONE


def test_a_row_has_its_age_at_the_time_asked_for() -> None:
    archive = RunArchive()
    add(archive, "1", last_at=T0.isoformat())
    add(archive, "22", last_at=None)
    ages = {row["run"]: row["last_age_s"] for _, row in archive.rows(T0 + timedelta(seconds=5))}
    assert ages == {"1": 5.0, "22": None}
    assert next(archive.rows(T0 - timedelta(seconds=5)))[1]["last_age_s"] == 0.0
