"""What a person should know: few, latched, each with its evidence. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from fastmon_client.snapshot import AlarmKind, AlarmRow

STAYS = timedelta(minutes=10)
"""So long an alarm is shown after it is over."""
MOST = 100


@dataclass(slots=True)
class Alarm:
    """One alarm; `subject` is the run, or the agent, that it is about."""

    kind: AlarmKind
    subject: str | None
    run: str | None
    since: datetime
    evidence: str
    until: datetime | None = None

    def row(self) -> AlarmRow:
        """As plain data."""
        until = self.until.isoformat() if self.until else None
        return {
            "kind": self.kind, "run": self.run, "since": self.since.isoformat(), "until": until,
            "evidence": self.evidence,
        }  # fmt: skip


class Alarms:
    """Those that last, and those that are over and still shown."""

    def __init__(self) -> None:
        self.raised = 0
        """How many alarms ever began: who rings a bell compares it."""
        self._lasting: dict[tuple[AlarmKind, str | None], Alarm] = {}
        self._over: list[Alarm] = []

    def set(self, kind: AlarmKind, subject: str | None, evidence: str | None, at: datetime, run: str | None) -> None:
        """The state of affairs: *evidence* that the alarm is justified, or None that it is not (any more)."""
        alarm = self._lasting.get((kind, subject))
        if evidence is None:
            if alarm:
                self._end(alarm, at)
        elif alarm:
            alarm.evidence = evidence
        else:
            self._lasting[kind, subject] = Alarm(kind, subject, run, at, evidence)
            self.raised += 1

    def end_all_of(self, run: str, at: datetime) -> None:
        """The run *run* is no longer watched."""
        for alarm in [alarm for alarm in self._lasting.values() if alarm.run == run]:
            self._end(alarm, at)

    def rows(self, at: datetime) -> list[AlarmRow]:
        """Those to be shown: what lasts first, then the newest."""
        self._over = [alarm for alarm in self._over if alarm.until and at - alarm.until < STAYS]
        lasting = sorted(self._lasting.values(), key=lambda alarm: alarm.since, reverse=True)
        return [alarm.row() for alarm in [*lasting, *reversed(self._over)]]

    def _end(self, alarm: Alarm, at: datetime) -> None:
        del self._lasting[alarm.kind, alarm.subject]
        alarm.until = at
        self._over = [*self._over, alarm][-MOST:]
