"""The journal of one dashboard: alarms and outages as they were, and the daemon's summaries of runs.

A report needs them after the page forgot them; so they are kept in the state folder, if there is one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from loguru import logger

from fastmon_client.dashboard.acknowledgements import Acknowledgements
from fastmon_client.journal_file import (
    ALARM_FIELDS,
    JOURNAL,
    SUMMARIES,
    Journaled,
    is_kept,
    parse_journal,
    parse_summaries,
)
from fastmon_client.state_folder import StateFolder

MAX_ALARMS, MAX_OUTAGES = 1000, 500
SAVE_EVERY = timedelta(seconds=60)
"""What lasts is known to have lasted until the last save."""
_RETRY = timedelta(seconds=10)

_Identity = tuple[str, str]


class Journal:
    """Belongs to the event loop."""

    def __init__(self, folder: StateFolder | None = None) -> None:
        """Read that of *folder*; what lasted when it was saved has an end that nobody saw. Raises: OSError."""
        self._folder = folder
        found = (folder.read(JOURNAL, parse_journal) if folder else None) or Journaled()
        self._alarms, self._outages = list(found.alarms), list(found.outages)
        for row in [*self._alarms, *self._outages]:
            if row["until"] is None:
                row["until"], row["is_end_known"] = found.at, False
        self._earlier_outages = len(self._outages)
        self.summaries: dict[str, dict[str, Any]] = (folder.read(SUMMARIES, parse_summaries) if folder else None) or {}
        """Those of the file, by run."""
        self._saved_summaries = list(self.summaries.values())
        self._next_save: datetime | None = None
        self._is_changed = False

    def observe(
        self,
        incidents: Iterable[Mapping[str, Any]],
        outages: Sequence[Sequence[Any]],
        summaries: Sequence[dict[str, Any]],
        at: datetime,
    ) -> None:
        """Record what is known now: *incidents* with their acknowledgements, *outages* of the history."""
        known = {id(row): (row["until"], row["acknowledged"]) for row in self._alarms}
        self._record_alarms(list(incidents), at)
        self._is_changed |= any(known.get(id(row)) != (row["until"], row["acknowledged"]) for row in self._alarms)
        before = [row["until"] for row in self._outages]
        earlier = self._outages[: self._earlier_outages]
        self._outages = [*earlier, *map(_outage, outages)][-MAX_OUTAGES:]
        self._earlier_outages = max(0, len(self._outages) - len(outages))
        self._is_changed |= before != [row["until"] for row in self._outages]
        self._is_changed |= summaries != self._saved_summaries
        if self._folder and (self._next_save is None or at >= self._next_save or self._is_changed):
            self._save(self._folder, summaries, at)

    def read(self, at: datetime) -> Journaled:
        """What is kept now."""
        return Journaled(at.isoformat(), self._alarms, self._outages)

    def _record_alarms(self, incidents: list[Mapping[str, Any]], at: datetime) -> None:
        active = {_identity(each): each for each in incidents if each["until"] is None}
        lasting = {_identity(row): row for row in self._alarms if row["until"] is None}
        for each in incidents:
            row = lasting.get(_identity(each))
            if each["until"] is not None and row and row["since"] <= each["until"]:
                row["until"] = each["until"]
                row["acknowledged"] = each["acknowledged"] or row["acknowledged"]
                del lasting[_identity(each)]
        for key, row in lasting.items():
            if key not in active:  # it is part of another incident now
                row["until"] = at.isoformat()
        for key, each in active.items():
            if row := lasting.get(key):
                row.update(since=min(row["since"], each["since"]), evidence=each["evidence"])
                row["acknowledged"] = each["acknowledged"]
            else:
                self._alarms.append({**{name: each[name] for name in ALARM_FIELDS}, "is_end_known": True})
        del self._alarms[:-MAX_ALARMS]

    def _save(self, folder: StateFolder, summaries: Sequence[dict[str, Any]], at: datetime) -> None:
        try:
            found = self.read(at)
            folder.write(JOURNAL, {"at": found.at, "alarms": found.alarms, "outages": found.outages})
            if summaries != self._saved_summaries:
                folder.write(SUMMARIES, {"summaries": [each for each in summaries if is_kept(each)]})
                self._saved_summaries = list(summaries)
            self._is_changed, self._next_save = False, at + SAVE_EVERY
        except OSError as exc:
            logger.warning("journal: cannot be written: {}", exc.strerror)
            self._is_changed, self._next_save = False, at + _RETRY


@dataclass(frozen=True, slots=True)
class Kept:
    """What a dashboard keeps."""

    acknowledgements: Acknowledgements = field(default_factory=Acknowledgements)
    journal: Journal = field(default_factory=Journal)


def _identity(incident: Mapping[str, Any]) -> _Identity:
    return str(incident["kind"]), str(incident["subject"])


def _outage(found: Sequence[Any]) -> dict[str, Any]:
    since, until, word, reason = found
    return {"since": _iso(since), "until": None if until is None else _iso(until), "word": word, "reason": reason,
            "is_end_known": True}  # fmt: skip


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
