"""Acknowledgements of alarms: who took note of one, and when; all pages of a server show them.

They are kept in a small file, so that they survive a restart, and that terminals share them with the server. An alarm
that ended and comes back is new.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from loguru import logger

from fastmon_client.state_folder import StateFolder

FILE_NAME = "acknowledgements.json"
MAX_KEPT = 1000
MAX_NAME, MAX_NOTE = 60, 300
"""Characters."""
_FIELDS = ("kind", "subject", "since", "by", "at", "note", "until", "title", "evidence")

_Identity = tuple[str, str]
"""Kind and subject."""


class Acknowledgements:
    """The acknowledgements, oldest first; belongs to one thread."""

    def __init__(self, folder: StateFolder | None = None) -> None:
        """Read those in *folder*; without one, they are kept until the process ends. Raises: OSError."""
        self._folder = folder
        self._rows: list[dict[str, Any]] = []
        self._version: tuple[int, int] | None = None
        """Of the file, as it was read or written last."""
        self._seen: dict[_Identity, str] = {}
        """The alarms that were active just now, and since when: only of these the end can be told."""
        with self._changing():
            self._save()

    def acknowledge(self, incident: Mapping[str, Any], by: str, note: str, at: datetime) -> dict[str, Any]:
        """Record that *by* took note of the active *incident*; the first one counts.

        Raises: OSError if it cannot be written; then nothing is recorded.
        """
        with self._changing():
            if known := self.of(incident):
                return known
            row = {name: incident.get(name) for name in _FIELDS} | {
                "by": by[:MAX_NAME], "at": at.isoformat(timespec="seconds"), "note": note[:MAX_NOTE], "until": None,
            }  # fmt: skip
            before = self._rows
            self._rows = [*before, row][-MAX_KEPT:]
            try:
                self._save()
            except OSError:
                self._rows = before
                raise
        return row

    def of(self, incident: Mapping[str, Any]) -> dict[str, Any] | None:
        """The acknowledgement of *incident*, or None."""
        wanted, name = _identity(incident), "until" if incident["until"] is None else "since"
        same = (row for row in reversed(self._rows) if row[name] == incident[name])
        return next((row for row in same if _identity(row) == wanted), None)

    def observe(self, incidents: Iterable[Mapping[str, Any]], at: datetime) -> None:
        """Note which alarms are active: the acknowledgement of one that ended ends with it.

        Takes in what other processes wrote.
        """
        active, over = {}, set()
        for each in incidents:
            if each["until"] is None:
                active[_identity(each)] = str(each["since"])
            else:
                over.add((_identity(each), str(each["since"])))
        try:
            self._refresh()
            if self._end(active, over, at):
                with self._changing():
                    self._end(active, over, at)  # what another process wrote meanwhile
                    self._save()
        except OSError as exc:
            logger.warning("acknowledgements: cannot be read or written: {}", exc.strerror)
        self._seen = active

    def _end(
        self, active: Mapping[_Identity, str], over: Container[tuple[_Identity, str]], at: datetime
    ) -> list[dict[str, Any]]:
        """End the acknowledgements whose alarms ended; returns them."""
        ended = [row for row in self._rows if row["until"] is None and self._has_ended(row, active, over)]
        for row in ended:
            row["until"] = at.isoformat(timespec="seconds")
        return ended

    def _has_ended(
        self, row: Mapping[str, Any], active: Mapping[_Identity, str], over: Container[tuple[_Identity, str]]
    ) -> bool:
        """Whether the alarm of *row* was active here, and is no longer, or began anew."""
        before, now = self._seen.get(_identity(row)), active.get(_identity(row))
        if before is None or now == before:
            return False
        return now is None or now > row["at"] or (_identity(row), before) in over

    def rows(self) -> list[dict[str, Any]]:
        """All, oldest first."""
        return list(self._rows)

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Keep other processes from writing, after taking in what they wrote."""
        if self._folder is None:
            yield
            return
        with self._folder.changing(FILE_NAME):
            self._refresh()
            yield

    def _refresh(self) -> None:
        """Take in what other processes wrote."""
        if self._folder and (version := self._folder.version(FILE_NAME)) != self._version:
            self._rows, self._version = self._folder.read(FILE_NAME, _parse) or [], version

    def _save(self) -> None:
        if self._folder:
            self._folder.write(FILE_NAME, {"acknowledgements": self._rows})
            self._version = self._folder.version(FILE_NAME)


def _identity(alarm: Mapping[str, Any]) -> _Identity:
    return str(alarm["kind"]), str(alarm["subject"])


def _row(value: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a row of the file. Raises: KeyError, TypeError."""
    row = {name: value[name] for name in _FIELDS}
    if not all(isinstance(each, str) or (name == "until" and each is None) for name, each in row.items()):
        raise TypeError("not text")
    return row


def _parse(found: Any) -> list[dict[str, Any]]:
    return [_row(row) for row in found["acknowledgements"]][-MAX_KEPT:]
