"""Alarms: their rules, and the list of active and recently ended ones. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from fastmon_client.agents import HEALTHY, STOPPED
from fastmon_client.formatting import count_of
from fastmon_client.runs import Run
from fastmon_client.snapshot import AgentRow, AlarmKind, AlarmRow
from fastmon_client.stfs import Missing

SHOWN_AFTER_END = timedelta(minutes=10)
MAX_ENDED = 100
MAX_ACTIVE = 200
"""Active alarms of one kind: whoever may publish can invent any number of agents. Invented ones make room first."""


@dataclass(slots=True)
class Alarm:
    """One alarm; `subject` is the run or the agent."""

    kind: AlarmKind
    subject: str | None
    run: str | None
    since: datetime
    evidence: str
    until: datetime | None = None

    def row(self) -> AlarmRow:
        """Plain data for the snapshot."""
        until = self.until.isoformat() if self.until else None
        return {
            "kind": self.kind, "subject": self.subject, "run": self.run, "since": self.since.isoformat(),
            "until": until, "evidence": self.evidence,
        }  # fmt: skip


class Alarms:
    """The active alarms, and those that ended recently."""

    def __init__(self, is_listed: Callable[[str], bool] = lambda _agent: False) -> None:
        """*is_listed*: whether the monitor's table has the agent of that name."""
        self._is_listed = is_listed
        self.raised = 0
        """Number of alarms since the start."""
        self._active: dict[tuple[AlarmKind, str | None], Alarm] = {}
        self._ended: list[Alarm] = []

    def set(self, kind: AlarmKind, subject: str | None, evidence: str | None, at: datetime, run: str | None) -> None:
        """Raise or update the alarm with *evidence*; None ends it."""
        alarm = self._active.get((kind, subject))
        if evidence is None:
            if alarm:
                self._end(alarm, at)
        elif alarm:
            alarm.evidence = evidence
        else:
            if not self._make_room(kind, subject, at):
                return
            self._active[kind, subject] = Alarm(kind, subject, run, at, evidence)
            self.raised += 1

    def _make_room(self, kind: AlarmKind, subject: str | None, at: datetime) -> bool:
        """End an alarm of *kind* if there are too many; whether there is room for one of *subject*."""
        same = [each for each in self._active.values() if each.kind == kind]
        if len(same) < MAX_ACTIVE:
            return True
        invented = [each for each in same if not self._is_listed(each.subject or "")]
        if not invented and not self._is_listed(subject or ""):
            return False
        self._end((invented or same)[0], at)
        return True

    def check_run(self, run: Run, at: datetime, stale_after: timedelta, *, is_live: bool) -> None:
        """Update the alarms of *run*. While the stream is down, a missing TF file says nothing about the run."""
        stale = run.is_stale(at, stale_after) and is_live
        seconds = (at - run.active_at).total_seconds()
        self.set("run_stale", run.name, f"no TF file for {seconds:.0f} s" if stale else None, at, run.name)
        if run.is_verified(at):  # otherwise the last verified state stays
            missing = run.missing(at)
            self.set("stfs_missing", run.name, _missing(missing) if missing and missing.count else None, at, run.name)
        self.set("rate_dropped", run.name, _rate_drop(run, at) if is_live and not stale else None, at, run.name)

    def check_silent_daemons(self, agents: Sequence[AgentRow], at: datetime, *, is_busy: bool) -> None:
        """Update the alarms of *agents*. A stop is an alarm only during a run, silence always."""
        lost = {agent["name"]: agent for agent in agents if agent["since"] and (is_busy or agent["status"] != "EXITED")}
        for kind, subject in [key for key in self._active if key[0] == "daemon_silent"]:
            if subject not in lost:
                self.set(kind, subject, None, at, None)
        for name, agent in lost.items():
            host = f" on {agent['host']}" if agent["host"] else ""
            self.set("daemon_silent", name, f"{name}{host} {agent['text']}", at, None)

    def check_daemon(self, message: Mapping[str, Any], at: datetime) -> None:
        """Update the alarm `daemon_degraded` of the daemon that sent this `fastmon_status`."""
        agent = str(message.get("processed_by") or message.get("sender"))
        status = str(message.get("status"))
        who, reason = f"{agent} {status}", message.get("message")
        evidence: str | None = f"{reason} ({who})" if reason not in (None, "", status) else who
        if status in HEALTHY or status in STOPPED:
            evidence = None
        self.set("daemon_degraded", agent, evidence, at, None)

    def end_all_of(self, run: str, at: datetime) -> None:
        """End all alarms of *run*."""
        for alarm in [alarm for alarm in self._active.values() if alarm.run == run]:
            self._end(alarm, at)

    def rows(self, at: datetime) -> list[AlarmRow]:
        """Active alarms first, then ended ones; newest first."""
        self._ended = [alarm for alarm in self._ended if alarm.until and at - alarm.until < SHOWN_AFTER_END]
        active = sorted(self._active.values(), key=lambda alarm: alarm.since, reverse=True)
        return [alarm.row() for alarm in [*active, *reversed(self._ended)]]

    def _end(self, alarm: Alarm, at: datetime) -> None:
        del self._active[alarm.kind, alarm.subject]
        alarm.until = at
        self._ended = [*self._ended, alarm][-MAX_ENDED:]


def _missing(missing: Missing) -> str:
    named = ", ".join(map(str, missing.numbers[:5]))
    more = " ..." if missing.count > 5 else ""
    return f"{count_of(missing.count, 'STF')} without TF files" + (f": {named}{more}" if named else "")


def _rate_drop(run: Run, at: datetime) -> str | None:
    usual, now = run.rates.usual_rate_hz(at), run.rates.rate_hz(at)
    if run.state != "running" or usual is None or now >= usual / 2:
        return None
    return f"{now:.2f} TF files/s over the last minute, usually {usual:.2f}"
