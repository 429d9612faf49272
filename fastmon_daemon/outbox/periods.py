"""Class Periods: what happened to STFs in the last minutes or hours. Knows no names of states."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlite_utils import Database

from fastmon_daemon.base.clock import format_timestamp
from fastmon_daemon.outbox.models import FailureCount, Origin, RecoveredStf, SlowStf
from fastmon_daemon.outbox.queries import placeholders

_FROM = "id > coalesce((select id from history where at < :since order by id desc limit 1), 0)"
"""Transitions since a time. Ids grow with time, and the index of ids is read from its end: no other index is needed."""


class Periods:
    """Queries of one connection. Times are ISO 8601 text in UTC, as stored."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def rates(self, state: str, now: datetime, bins: int, bin_s: int) -> tuple[list[int], list[int]]:
        """Return how many STFs were received, and how many entered *state*, in each of *bins* periods of *bin_s*
        seconds up to *now*, the earliest first.
        """
        began = now - timedelta(seconds=bins * bin_s)
        query = (
            "select source is null, cast((julianday(at) - julianday(:since)) * 86400 / :bin_s as integer), count(*)"  # noqa: S608 (only fixed texts are put in)
            f" from history where {_FROM} and (source is null or dest = :state) group by 1, 2"
        )
        found: tuple[list[int], list[int]] = ([0] * bins, [0] * bins)
        values = {"since": format_timestamp(began), "bin_s": bin_s, "state": state}
        for is_received, index, count in self._db.execute(query, values):
            if 0 <= index < bins:
                found[0 if is_received else 1][index] += count
        return found

    def received(self, since: str) -> int:
        """The number of STFs that were received since a time."""
        query = f"select count(*) from history where {_FROM} and source is null"  # noqa: S608
        return int(self._db.execute(query, {"since": since}).fetchone()[0])

    def entered(self, state: str, since: str) -> int:
        """How many times an STF entered *state* since a time."""
        query = f"select count(*) from history where {_FROM} and dest = :state"  # noqa: S608
        return int(self._db.execute(query, {"since": since, "state": state}).fetchone()[0])

    def recovered(self, since: str) -> list[RecoveredStf]:
        """The STFs whose messages were missed and that were recovered since a time, the earliest first."""
        query = "select run, filename, received_at from stf where origin = ? and received_at >= ? order by id"
        return [RecoveredStf(*row) for row in self._db.execute(query, [Origin.RECOVERED, since])]

    def failures(self, states: Sequence[str], since: str, limit: int) -> list[FailureCount]:
        """The most frequent reasons why STFs entered one of *states* since a time, the most frequent first."""
        names = ", ".join(f":state{index}" for index in range(len(states)))
        query = (
            f"select note, count(*), max(at) from history where {_FROM} and dest in ({names})"  # noqa: S608
            " group by note order by count(*) desc, max(at) desc limit :limit"
        )
        values = {"since": since, "limit": limit, **{f"state{index}": each for index, each in enumerate(states)}}
        return [FailureCount(reason or "", count, at) for reason, count, at in self._db.execute(query, values)]

    def errors(self, limit: int) -> list[FailureCount]:
        """The most frequent last errors of unfinished STFs now; their time is that of the latest entry of its state."""
        query = (
            "select last_error, count(*), max(since) from stf where due_at is not null and attempts > 0"
            " and last_error is not null group by last_error order by count(*) desc limit ?"
        )
        return [FailureCount(*row) for row in self._db.execute(query, [limit])]

    def slowest(self, states: Sequence[str], since: str, limit: int) -> list[SlowStf]:
        """The STFs in one of *states* since a time that took longest from their receipt, the slowest first."""
        query = (
            "select run, filename, (julianday(since) - julianday(received_at)) * 86400 as seconds, since from stf"  # noqa: S608 (only placeholders are put in)
            f" where state in ({placeholders(states)}) and since >= ? order by seconds desc limit ?"
        )
        return [SlowStf(*row) for row in self._db.execute(query, [*states, since, limit])]
