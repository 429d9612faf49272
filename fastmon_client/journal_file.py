"""The files of a dashboard's journal, for those who write them and those who read them. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fastmon_client.state_folder import read_file
from fastmon_client.tffile import parse_timestamp, run_of

JOURNAL, SUMMARIES, ACKNOWLEDGEMENTS = "journal.json", "summaries.json", "acknowledgements.json"
ALARM_FIELDS = ("kind", "subject", "run", "title", "severity", "since", "until", "evidence", "acknowledged")
ALARMS_OF_RUNS = ("run_stale", "stfs_missing", "rate_dropped")
_OUTAGE_FIELDS = ("since", "until", "word", "reason")
MAX_SUMMARIES = 200
MAX_SUMMARY_CHARS = 20_000
"""Longest summary that is kept."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Journaled:
    """What a journal holds, each oldest first; `at`: when that was so."""

    at: str = ""
    alarms: list[Row] = field(default_factory=list)
    """`ALARM_FIELDS`, and `is_end_known`: false if the dashboard stopped before the end."""
    outages: list[Row] = field(default_factory=list)
    """`since`, `until`, `word`, `reason`, `is_end_known`."""


def read_journal(folder: Path) -> tuple[Journaled | None, dict[str, Row]]:
    """The journal in *folder*, which a dashboard may be writing; and the daemon's summaries, by run.

    Raises: OSError; ValueError if a file is not ours.
    """
    journal, summaries = read_file(folder, JOURNAL, parse_journal), read_file(folder, SUMMARIES, parse_summaries) or {}
    alarms = journal.alarms if journal else []
    known = {(row["kind"], row["subject"], row["acknowledged"]["at"]) for row in alarms if row["acknowledged"]}
    others = [
        row for row in read_file(folder, ACKNOWLEDGEMENTS, _parse_acknowledged) or []
        if (row["kind"], row["subject"], row["acknowledged"]["at"]) not in known
    ]  # fmt: skip
    return (replace(journal or Journaled(), alarms=[*alarms, *others]) if journal or others else None), summaries


def parse_journal(found: Any) -> Journaled:
    """From the file. Raises: ValueError, KeyError, TypeError."""
    if parse_timestamp(found["at"]) is None:
        raise ValueError("no time")
    alarms = [_row(each, ALARM_FIELDS) for each in found["alarms"]]
    for row in alarms:
        by = row["acknowledged"]
        if by is not None and not all(isinstance(by[name], str) for name in ("by", "at", "note")):
            raise TypeError("not an acknowledgement")
    return Journaled(found["at"], alarms, [_row(each, _OUTAGE_FIELDS) for each in found["outages"]])


def parse_summaries(found: Any) -> dict[str, Row]:
    """From the file, by run. Raises: TypeError, KeyError."""
    summaries = [dict(each) for each in found["summaries"]][-MAX_SUMMARIES:]
    return {run: each for each in summaries if (run := run_of(each)) is not None}


def _parse_acknowledged(found: Any) -> list[Row]:
    """The acknowledged alarms of terminals, which keep no journal. Raises: ValueError, KeyError, TypeError."""
    return [_acknowledged(row) for row in found["acknowledgements"]]


def _acknowledged(row: Mapping[str, Any]) -> Row:
    run = row["subject"] if row["kind"] in ALARMS_OF_RUNS else None
    by = {name: row[name] for name in ("by", "at", "note")}
    return _row({**row, "run": run, "severity": "bad", "acknowledged": by}, ALARM_FIELDS)


def is_kept(summary: Mapping[str, Any]) -> bool:
    """Whether *summary* is short enough to be kept."""
    return len(json.dumps(summary)) <= MAX_SUMMARY_CHARS


def _row(value: Mapping[str, Any], names: tuple[str, ...]) -> Row:
    row = {name: value[name] for name in names}
    for name, each in row.items():
        if name != "acknowledged" and not (isinstance(each, str) or (name in ("until", "run") and each is None)):
            raise TypeError("not text")
    if any(parse_timestamp(row[name]) is None for name in ("since", "until") if row[name] is not None):
        raise ValueError("not a time")
    return {**row, "is_end_known": value.get("is_end_known") is not False}
