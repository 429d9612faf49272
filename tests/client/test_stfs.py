"""The STFs of a run at the edges of their rules: ages, limits, and about how many bytes they take."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from fastmon_client import stfs as module
from fastmon_client.stfs import Missing, Stfs
from fastmon_client.tffile import TfFile
from tests.client.state_driver import T0, announcement, row, stf

GRACE = timedelta(seconds=30)
MIN_AGE = timedelta(seconds=3)
JUST_BEFORE = timedelta(microseconds=1)


def after(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def ingest(
    stfs: Stfs, sequence: int, number: int = 1, at: datetime = T0, *, backfilled: bool = False, **changes: Any
) -> bool | None:
    return stfs.ingest(TfFile.of(announcement(sequence, number) | changes), at, backfilled=backfilled)


def listing(stfs: Stfs, *numbers: int, since: datetime = T0, at: datetime = T0) -> list[str]:
    return stfs.record_listing([(stf(number), since) for number in numbers], at, MIN_AGE, GRACE)


def strip(stfs: Stfs, at: datetime) -> dict[int, str]:
    return {cell["sequence"]: cell["kind"] for cell in stfs.strip(at, GRACE)}


def whole_stfs(*numbers: int, **changes: Any) -> Stfs:
    found = Stfs()
    for number in numbers:
        ingest(found, number, 1, **changes)
        ingest(found, number, 2, **changes)
    return found


def test_an_stf_is_queried_from_its_least_age_and_missing_from_the_grace_time_on() -> None:
    stfs = whole_stfs(1)
    assert listing(stfs, 1, 2, at=after(3) - JUST_BEFORE) == []
    assert listing(stfs, 1, 2, at=after(3)) == [stf(2)]
    stfs.record_answer(stf(2), after(3), GRACE)
    assert stfs.is_pending(after(30) - JUST_BEFORE, GRACE)
    assert not stfs.is_pending(after(30), GRACE)
    early, late = after(30) - JUST_BEFORE, after(30)
    assert (stfs.missing(early, GRACE), stfs.missing(late, GRACE)) == (Missing(0, []), Missing(1, [2]))
    assert (strip(stfs, early), strip(stfs, late)) == ({1: "present"}, {1: "present", 2: "missing"})


def test_a_skipped_stf_is_queried_only_from_the_grace_time_on() -> None:
    stfs = whole_stfs(1, selection_fraction=0.1)
    assert listing(stfs, 1, 2, at=after(30) - JUST_BEFORE) == []
    assert listing(stfs, 1, 2, at=after(30)) == [stf(2)]
    stfs.record_answer(stf(2), after(30), GRACE)
    assert listing(stfs, 1, 2, at=after(60)) == []
    assert (stfs.skipped(), stfs.missing(after(60), GRACE)) == (1, Missing(0, []))


def test_a_gap_is_missing_from_the_grace_time_on() -> None:
    stfs = whole_stfs(1, 3)
    listing(stfs, 1, 3, at=after(5))  # the newest is of T0, so number 2 should be registered since then
    early, late = after(30) - JUST_BEFORE, after(30)
    assert (stfs.is_pending(early, GRACE), stfs.is_pending(late, GRACE)) == (True, False)
    assert (stfs.missing(early, GRACE), stfs.missing(late, GRACE)) == (Missing(0, []), Missing(1, [2]))
    assert (strip(stfs, early).get(2), strip(stfs, late).get(2)) == (None, "missing")
    assert (stfs.expected(), stfs.skipped(), stfs.tf_expected()) == (3, 0, 6)
    assert ingest(stfs, 2)
    assert (stfs.missing(late, GRACE), stfs.expected()) == (Missing(0, []), 3)


def test_an_stf_with_too_few_tf_files_is_incomplete_from_the_grace_time_on() -> None:
    stfs = Stfs()
    ingest(stfs, 1)
    early, late = after(30) - JUST_BEFORE, after(30)
    assert stfs.incomplete(late, GRACE) == []  # not queried
    stfs.record_answer(stf(1), after(4), GRACE)
    listing(stfs, 1, at=after(4))
    assert (stfs.is_pending(early, GRACE), stfs.is_pending(late, GRACE)) == (True, False)
    assert [len(stfs.incomplete(at, GRACE)) for at in (early, late)] == [0, 1]
    assert (strip(stfs, early), strip(stfs, late)) == ({1: "present"}, {1: "incomplete"})
    ingest(stfs, 1, 2, after(31))
    assert stfs.incomplete(after(99), GRACE) == []


@pytest.mark.parametrize(("age_s", "is_queried"), [(2.999999, False), (3, True)])
def test_an_incomplete_stf_is_queried_from_its_least_age_on(age_s: float, is_queried: bool) -> None:
    stfs = Stfs()
    ingest(stfs, 1)
    assert listing(stfs, 1, at=after(age_s)) == ([stf(1)] if is_queried else [])


@pytest.mark.parametrize(("age_s", "unconfirmed"), [(2.999999, 0), (3, 1)])
def test_an_announced_stf_that_is_not_listed_is_unconfirmed_from_its_least_age_on(
    age_s: float, unconfirmed: int
) -> None:
    stfs = whole_stfs(1, 2)
    listing(stfs, 1, at=after(age_s))
    assert stfs.unconfirmed == unconfirmed


def test_without_a_total_the_monitor_s_tf_files_are_all_from_the_grace_time_on() -> None:
    for age_s, is_asked_again in ((29.999999, True), (30, False)):
        stfs = Stfs()
        ingest(stfs, 1, tf_total=None)
        assert listing(stfs, 1, at=after(4)) == [stf(1)]
        stfs.record_answer(stf(1), after(age_s), GRACE)
        assert listing(stfs, 1, at=after(age_s)) == ([stf(1)] if is_asked_again else [])
        assert stfs.tf_expected() is None
        ingest(stfs, 1, 2, after(age_s))
        assert (listing(stfs, 1, at=after(age_s + 3)), stfs.tf_expected()) == ([], 2)


def test_only_stfs_registered_strictly_within_the_time_heard_are_skipped_without_a_query() -> None:
    heard = (after(10), after(20))
    for since_s, is_queried in ((10, True), (10.001, False), (19.999, False), (20, True)):
        stfs = whole_stfs(1, selection_fraction=0.1)
        found = stfs.record_listing([(stf(2), after(since_s))], after(60), MIN_AGE, GRACE, heard)
        assert found == ([stf(2)] if is_queried else []), since_s
    stfs = whole_stfs(1)
    assert stfs.record_listing([(stf(2), after(15))], after(60), MIN_AGE, GRACE, heard) == [stf(2)]  # is selected


def test_what_is_queried_is_in_order_incomplete_ones_then_the_newest() -> None:
    stfs = Stfs()
    ingest(stfs, 1)
    named = [(stf(number), after(-number)) for number in (4, 2, 3)]
    assert stfs.record_listing(named, after(10), MIN_AGE, GRACE) == [stf(1), stf(2), stf(3), stf(4)]
    assert stfs.still_to_query([stf(9), stf(4), stf(1)]) == [stf(4), stf(1)]


def settled_stfs(count: int, fraction: float = 1.0) -> Stfs:
    """STF 1 with all its TF files, and 2 to *count* that the monitor answered to have none."""
    stfs = whole_stfs(1, selection_fraction=fraction)
    for name in listing(stfs, *range(1, count + 1), at=after(60)):
        stfs.record_answer(name, after(60), GRACE)
    return stfs


def test_settled_stfs_are_queried_in_turn_and_after_a_loss_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_REREAD", 2)
    stfs = settled_stfs(6)
    numbers = range(1, 7)
    turns = [sorted(listing(stfs, *numbers, at=after(90))) for _ in range(4)]
    assert turns == [[stf(2), stf(3)], [stf(4), stf(5)], [stf(6)], [stf(2), stf(3)]]
    stfs.read_again()
    assert sorted(listing(stfs, *numbers, at=after(90))) == [stf(number) for number in range(2, 7)]
    stfs.record_answer(stf(2), after(90), GRACE)
    assert stfs.still_to_query([stf(2), stf(3)]) == [stf(3)]
    assert ingest(stfs, 4, backfilled=True)
    assert (stfs.missing(after(99), GRACE), strip(stfs, after(99))[4]) == (Missing(4, [2, 3, 5, 6]), "recovered")


def test_skipped_stfs_are_queried_again_after_a_loss_the_highest_numbers_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_REREAD", 2)
    stfs = settled_stfs(6, fraction=0.1)
    assert listing(stfs, *range(1, 7), at=after(90)) == []
    stfs.read_again()
    assert sorted(listing(stfs, *range(1, 7), at=after(90))) == [stf(5), stf(6)]
    stfs.read_all_again()
    assert sorted(listing(stfs, *range(1, 7), at=after(90))) == [stf(number) for number in range(2, 7)]


def test_the_lowest_missing_numbers_are_named() -> None:
    stfs = settled_stfs(6)
    ingest(stfs, 8)
    ingest(stfs, 8, 2)
    listing(stfs, *range(1, 7), 8, at=after(90))
    assert stfs.missing(after(130), GRACE) == Missing(6, [2, 3, 4, 5, 6, 7])
    assert [stfs.missing(after(130), GRACE, named) for named in (0, 1, 5)] == [
        Missing(6, []), Missing(6, [2]), Missing(6, [2, 3, 4, 5, 6]),
    ]  # fmt: skip


def test_a_new_fraction_makes_missing_stfs_unclear_and_the_summary_skipped() -> None:
    stfs = settled_stfs(12)
    assert stfs.missing(after(99), GRACE) == Missing(11, list(range(2, 13)))
    ingest(stfs, 13, selection_fraction=0.5)
    ingest(stfs, 13, 2, selection_fraction=0.5)
    listing(stfs, *range(1, 14), at=after(99))
    assert stfs.missing(after(99), GRACE) == Missing(5, [3, 5, 7, 9, 11])
    assert (stfs.unclear(), stfs.expected(), stfs.skipped(), stfs.tf_expected()) == (6, None, None, None)
    found = strip(stfs, after(99))
    assert {number for number, kind in found.items() if kind == "missing"} == {3, 5, 7, 9, 11}
    assert {number for number, kind in found.items() if kind == "unknown"} == {2, 4, 6, 8, 10, 12}
    stfs.unclear_are_skipped = True
    assert (stfs.unclear(), stfs.expected(), stfs.skipped(), stfs.tf_expected()) == (0, 7, 6, 14)
    assert strip(stfs, after(99))[2] == "skipped"


def test_without_a_fraction_nothing_is_known_until_all_have_tf_files() -> None:
    stfs = whole_stfs(1, 2, selection_fraction=None)
    assert (stfs.expected(), stfs.skipped(), stfs.missing(after(99), GRACE)) == (None, None, None)
    listing(stfs, 1, 2, at=after(60))
    assert (stfs.expected(), stfs.skipped(), stfs.missing(after(99), GRACE)) == (2, 0, Missing(0, []))
    listing(stfs, 1, 2, 3, at=after(60))
    assert (stfs.expected(), stfs.missing(after(99), GRACE)) == (None, None)
    assert strip(stfs, after(99)) == {1: "present", 2: "present", 3: "unknown"}


def test_a_run_without_stfs_expects_none() -> None:
    stfs = Stfs()
    assert (stfs.expected(), stfs.skipped(), stfs.tf_expected(), strip(stfs, T0)) == (None, None, None, {})
    assert (stfs.seen, stfs.unread, stfs.unconfirmed, stfs.has_listing) == (0, 0, 0, False)
    listing(stfs)
    assert (stfs.expected(), stfs.skipped(), stfs.tf_expected(), stfs.unclear()) == (0, 0, 0, 0)


# What counts


def test_a_tf_file_counts_once_whether_its_name_its_id_or_both_are_known() -> None:
    known = row(1, 1)
    for backfilled in (True, False):
        stfs = Stfs()
        assert ingest(stfs, 1, tf_file_id=known["tf_file_id"], tf_filename=None)
        assert ingest(stfs, 1, backfilled=True) is False
        assert ingest(stfs, 1, 2, backfilled=backfilled) is True
        assert ingest(stfs, 1, 2, backfilled=True) is False
        assert ingest(stfs, 1, 2) is (None if backfilled else False)  # the first announcement
        assert ingest(stfs, 1, 2) is False


def test_late_and_backfilled_tf_files_make_an_stf_recovered() -> None:
    stfs = whole_stfs(1)
    ingest(stfs, 2, late=True)
    ingest(stfs, 3, backfilled=True)
    assert strip(stfs, T0) == {1: "present", 2: "recovered", 3: "recovered"}


def test_a_backfilled_tf_file_is_as_old_as_the_monitor_says() -> None:
    for made_s, is_pending in ((-30, False), (-29, True), (99, True)):
        stfs = Stfs()
        listing(stfs, 1, since=after(-99))
        ingest(stfs, 1, backfilled=True, timestamp=after(made_s).isoformat())
        stfs.record_answer(stf(1), T0, GRACE)
        assert stfs.is_pending(T0, GRACE) is is_pending, made_s


def test_an_stf_has_as_many_tf_files_as_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_TF_FILES_PER_STF", 2)
    stfs = Stfs()
    assert [ingest(stfs, 1, number, tf_total=9) for number in (1, 2, 3)] == [True, True, False]
    stfs = Stfs()
    nameless: dict[str, Any] = {"tf_filename": None, "tf_file_id": None}
    assert [ingest(stfs, 1, tf_total=9, **nameless) for _ in range(3)] == [True, True, False]


# Memory


def test_what_grows_is_what_is_counted_as_memory() -> None:
    stfs = Stfs()
    assert (stfs.memory, stfs.grown) == (1, 0)
    ingest(stfs, 1)
    assert (stfs.memory, stfs.grown) == (1 + 1000 + 1200 + 150, 1000 + 1200 + 150)
    ingest(stfs, 1, 2)
    ingest(stfs, 2)
    assert stfs.grown == stfs.memory - 1 == 1000 + 2 * 1200 + 3 * 150
    ingest(stfs, 1001)
    assert stfs.grown == stfs.memory - 1 == 2000 + 3 * 1200 + 4 * 150
    ingest(stfs, 5000)
    assert stfs.grown == stfs.memory - 1 == 5000 + 4 * 1200 + 5 * 150
    before = stfs.memory
    listing(stfs, 1, 2, 3, 4, 5, 1001, 5000, at=after(9))
    absent, gaps = 3, 5000 - 7
    assert stfs.memory - before == absent * 1200 + gaps * 150


def test_settled_stfs_take_one_byte_and_nameless_ones_their_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_OPEN_STFS", 2)
    stfs = whole_stfs(1, 2, 3)
    assert stfs.grown == stfs.memory - 1 == 1000 + 2 * 1200 + 4 * 150
    assert ingest(stfs, 1) is False
    assert (stfs.seen, strip(stfs, T0)) == (3, {1: "present", 2: "present", 3: "present"})
    unnumbered = Stfs()
    for name in ("a", "b", "c"):
        ingest(unnumbered, 0, stf_filename=name, stf_sequence=None, tf_total=1)
    assert unnumbered.memory == 1 + 2 * 1200 + 2 * 150 + 150
    assert ingest(unnumbered, 0, stf_filename="a", stf_sequence=None) is False
    assert unnumbered.seen == 3


def test_incomplete_stfs_stay_open_ten_times_as_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_OPEN_STFS", 2)
    stfs = Stfs()
    for number in range(1, 21):
        ingest(stfs, number)
    assert stfs.memory == 1 + 1000 + 20 * (1200 + 150)
    ingest(stfs, 21)
    assert stfs.memory == 1 + 1000 + 20 * (1200 + 150)
    assert len([number for number in range(1, 22) if not ingest(stfs, number, 2)]) == 1


def test_too_many_tf_files_close_the_oldest_stf(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_TF_FILES", 3)
    stfs = whole_stfs(1, tf_total=9)
    ingest(stfs, 2)
    ingest(stfs, 3)
    assert ingest(stfs, 1, 3, tf_total=9)  # three were not too many when STF 3 was opened
    ingest(stfs, 4)
    assert ingest(stfs, 1, 4, tf_total=9) is False
    assert stfs.memory == 1 + 1000 + 3 * 1200 + 3 * 150


def test_the_lowest_gaps_are_known_if_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_GAPS", 2)
    stfs = whole_stfs(5)
    listing(stfs, 5)
    assert stfs.missing(after(99), GRACE) == Missing(2, [1, 2])
