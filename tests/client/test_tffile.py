"""One TF file, from an announcement or a row of the monitor, whatever their fields are."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from fastmon_client.selection import MAX_FRACTIONS, MAX_SEQUENCE, Selection, sequence_of
from fastmon_client.tffile import (
    MAX_TEXT,
    TfFile,
    as_announced,
    cut_text,
    cut_texts,
    file_size,
    parse_timestamp,
    run_name,
    run_of,
)  # fmt: skip

AT = "2026-11-26T12:00:00+00:00"
MESSAGE = {
    "msg_type": "tf_file_registered", "run_id": "0100014", "stf_filename": "swf.100014.000012.stf",
    "tf_filename": "a.tf", "tf_file_id": 7, "event_id": "e7", "stf_sequence": 13, "tf_total": 3, "file_size_bytes": 5,
    "selection_fraction": 0.1, "late": 1, "timestamp": AT, "sent_at": "2026-11-26T12:00:05+00:00",
}  # fmt: skip
FOUND = {
    "run": "100014", "stf_filename": "swf.100014.000012.stf", "tf_filename": "a.tf", "identity": "a.tf",
    "tf_file_id": "7", "sequence": 13, "total": 3, "size": 5, "fraction": 0.1, "late": True,
    "timestamp": datetime(2026, 11, 26, 12, tzinfo=UTC),
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {}),
        ({"run_id": None, "run_number": 9}, {"run": "9"}),
        ({"run_id": None}, {"run": "-"}),
        ({"stf_filename": None}, {"stf_filename": "?"}),
        ({"tf_filename": None}, {"tf_filename": "None", "identity": "7"}),
        ({"tf_filename": None, "tf_file_id": None}, {"tf_filename": "None", "tf_file_id": None, "identity": "e7"}),
        ({"tf_filename": "", "tf_file_id": None, "event_id": None},
         {"tf_filename": "", "tf_file_id": None, "identity": None}),
        *[({"stf_sequence": bad}, {"sequence": 12}) for bad in (None, "13", 13.0, True)],
        *[({"stf_sequence": bad}, {"sequence": None}) for bad in (0, -1, MAX_SEQUENCE + 1)],
        *[({"stf_sequence": good}, {"sequence": good}) for good in (1, MAX_SEQUENCE)],
        *[({"tf_total": bad}, {"total": None}) for bad in (0, -1, 100_001, "3", True, None)],
        *[({"tf_total": good}, {"total": good}) for good in (1, 100_000)],
        *[({"file_size_bytes": bad}, {"size": None}) for bad in (-1, 2**63, "5", 5.0, True, None)],
        *[({"file_size_bytes": good}, {"size": good}) for good in (0, 1, 2**63 - 1)],
        ({"late": None}, {"late": False}),
        ({"timestamp": "soon"}, {"timestamp": datetime(2026, 11, 26, 12, 0, 5, tzinfo=UTC)}),
        ({"timestamp": None, "sent_at": 5}, {"timestamp": None}),
    ],
)  # fmt: skip
def test_fields_of_an_announcement(changes: dict[str, Any], expected: dict[str, Any]) -> None:
    assert asdict(TfFile.of(MESSAGE | changes)) == FOUND | expected


def test_a_row_of_the_monitor_as_an_announcement() -> None:
    metadata = {
        "tf_files_per_stf": 7,
        "tf_count_per_stf": 3,
        "namespace": "epic",
        "agent_name": "a",
        "selection_fraction": 1,
    }
    row = {"tf_file_id": 7, "tf_filename": "a.tf", "tf_first": 1, "tf_last": 2, "tf_count": 2, "file_size_bytes": 5,
           "status": "ok", "stf_file": "swf.100014.000012.stf", "created_at": AT, "metadata": metadata}  # fmt: skip
    same = ("tf_file_id", "tf_filename", "tf_first", "tf_last", "tf_count", "file_size_bytes", "status")
    expected = {name: row[name] for name in same} | {
        "msg_type": "tf_file_registered", "run_id": "100014", "namespace": "epic", "processed_by": "a",
        "stf_filename": "swf.100014.000012.stf", "stf_sequence": 12, "tf_total": 3, "selection_fraction": 1,
        "timestamp": AT,
    }  # fmt: skip
    assert as_announced("100014", row) == expected
    assert as_announced("100014", row | {"metadata": metadata | {"tf_count_per_stf": 9}})["tf_total"] == 7
    for nothing in ({"tf_files_per_stf": None}, {"tf_count_per_stf": 0}):
        assert as_announced("100014", row | {"metadata": metadata | nothing})["tf_total"] is None
    bare = as_announced("100014", row | {"metadata": "x", "tf_filename": "y" * 400})
    assert (bare["namespace"], bare["tf_total"], len(bare["tf_filename"])) == (None, None, MAX_TEXT)


def test_long_and_nested_texts_are_cut_and_nothing_else() -> None:
    long, whole = "x" * (MAX_TEXT + 1), "x" * MAX_TEXT
    assert cut_texts({"a": whole, "status": "ok", "n": 5}) is None
    found = cut_texts({"a": long, "b": whole, "status": ["ok"], "sender": {"a": 1}, "missing": [1, 2], "n": 5})
    assert found == {"a": "x" * (MAX_TEXT - 1) + "…", "b": whole, "status": "['ok']", "sender": "{'a': 1}",
                     "missing": [1, 2], "n": 5}  # fmt: skip
    assert cut_texts({"status": [long]}) == {"status": "['" + "x" * (MAX_TEXT - 3) + "…"}
    assert cut_texts({"run_id": 5, "missing": []}) == {"run_id": 5, "missing": []}
    assert [cut_text(each) for each in (5, None, whole)] == [5, None, whole]


@pytest.mark.parametrize(
    ("run", "name"),
    [("0100014", "100014"), (100014, "100014"), ("0", "0"), ("000", "0"), ("0x1", "0x1"), ("", ""),
     ("\u0660\u0661", "\u0660\u0661")],
)  # fmt: skip
def test_a_run_has_one_name(run: object, name: str) -> None:
    assert run_name(run) == name
    assert run_of({"run_number": run}) == name


@pytest.mark.parametrize(
    ("text", "expected"),
    [(AT, datetime(2026, 11, 26, 12, tzinfo=UTC)), ("2026-11-26T12:00:00", None), ("", None), (5, None), (None, None),
     ("2026-11-26T14:00:00+02:00", datetime(2026, 11, 26, 12, tzinfo=UTC)), ("0001-01-01T00:00:00+14:00", None)],
)  # fmt: skip
def test_times_are_utc_or_unknown(text: Any, expected: datetime | None) -> None:
    found = parse_timestamp(text)
    assert found == expected
    assert found is None or (found.tzinfo is UTC and found.tzinfo is not timezone(timedelta(0), "other"))


def test_a_size_is_a_whole_number() -> None:
    assert [file_size({"file_size_bytes": each}) for each in (5, "5", None)] == [5, None, None]


# Sequence numbers and fractions


@pytest.mark.parametrize(
    ("stated", "name", "expected"),
    [(5, "swf.7.000012.stf", 5), (None, "swf.7.000012.stf", 12), (None, "swf.stf", None), (None, "12", None),
     (None, "a.0.stf", None), (None, "a.1.stf", 1), (None, f"a.{MAX_SEQUENCE}.stf", MAX_SEQUENCE),
     (None, f"a.{MAX_SEQUENCE + 1}.stf", None), (0, "a.12.stf", None), (None, "a.12.", 12), (None, "12.stf.gz", None)],
)  # fmt: skip
def test_an_stf_has_the_number_that_is_stated_or_that_of_its_name(
    stated: int | None, name: str, expected: int | None
) -> None:
    assert sequence_of(stated, name) == expected


def test_fractions_are_recorded_once_and_few_of_them() -> None:
    selection = Selection()
    assert not selection.is_known
    assert not any(selection.record_fraction(each) for each in (0, -0.1, 1.01, True, "1", None, float("nan")))
    fractions = [1, *(n / 100 for n in range(1, MAX_FRACTIONS + 3))]
    assert [selection.record_fraction(each) for each in fractions] == [True] * MAX_FRACTIONS + [False] * 3
    assert (selection.fractions, selection.is_known) == (fractions[:MAX_FRACTIONS], True)
    assert not selection.record_fraction(1)


def test_counts_of_several_fractions_begin_anew_with_another_one() -> None:
    selection, found = Selection(), []
    for fraction in (0.5, 0.2, 0.1):
        selection.record_fraction(fraction)
        found.append([selection.counts(last) for last in (7, 20, 20)])
        chosen = range(1, 21)
        assert found[-1][-1] == (sum(map(selection.by_all, chosen)), sum(map(selection.by_any, chosen)))
    assert found == [[(4, 4), (10, 10), (10, 10)], [(1, 5), (2, 12), (2, 12)], [(1, 5), (2, 12), (2, 12)]]
