"""The monitor's table of runs: which are new, which are over. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from fastmon_client.tffile import moment

RECENT = timedelta(days=1)


class RunTable:
    """What was ever read of it: a run that an answer left out is not new in the next."""

    def __init__(self) -> None:
        self._numbers: set[int] | None = None

    def read(self, rows: Iterable[Mapping[str, Any]], at: datetime) -> tuple[list[int], set[int]]:
        """The numbers of runs that are new to the table, and of all that are over.

        The first time, only the newest run is new, and only if it may still be going on.
        """
        starts: dict[int, datetime | None] = {}
        over: set[int] = set()
        for row in rows:
            number = row.get("run_number")
            if type(number) is int:
                starts[number] = moment(row.get("start_time"))
                if row.get("end_time") is not None:
                    over.add(number)
        fresh = self._going_on(starts, at) - over if self._numbers is None else starts.keys() - self._numbers
        self._numbers = (self._numbers or set()) | starts.keys()
        return sorted(fresh), over

    @staticmethod
    def _going_on(starts: Mapping[int, datetime | None], at: datetime) -> set[int]:
        newest = max(starts, default=0)
        began = starts.get(newest)
        return {newest} if began and at - began < RECENT else set()
