"""The end of a run: when it counts as over, when as complete, and the summary that is owed then."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from loguru import logger

from fastmon_daemon.clock import stamp
from fastmon_daemon.errands import Errand
from fastmon_daemon.ledger.means import Means
from fastmon_daemon.ledger.recovery import Recovery
from fastmon_daemon.messages import event_id_of_run, run_number
from fastmon_daemon.outbox import Outbox, RunRow
from fastmon_daemon.verdict import judge

_LONGEST_PAUSE_S = 5.0
COMPLETE = "complete_run"

Key = tuple[str, str]


def why_over(means: Means, row: RunRow, ended_at: str | None, settled_s: float) -> str | None:
    """Why a run is over although no `end_run` was heard; None: it is not, as far as can be told.

    *ended_at* is the monitor's; *settled_s*: so long nothing was heard while everything that it names is here.
    """
    if ended_at:
        return f"the monitor gives it the end time {ended_at}"
    paused = not means.run_chart.may(row.state, "pause_run")
    quiet_s = means.paces.quiet_paused_s if paused else means.paces.quiet_s
    if settled_s >= quiet_s:
        return f"nothing was heard for {timedelta(seconds=quiet_s)}, and everything that the monitor names is here"
    return None


@dataclass(slots=True)
class _Pause:
    """When something is tried again: ever more seldom."""

    counts: dict[str, int] = field(default_factory=dict)
    """What was counted the last time: where that changes, the pauses begin anew."""
    pause_s: float = 0.5
    until: float = 0.0

    def prolong(self, now: float, longest_s: float) -> None:
        """Wait from *now* (monotonic) on, and the next time twice as long, up to *longest_s*."""
        self.until = now + self.pause_s
        self.pause_s = min(2 * self.pause_s, longest_s)


class Closing:
    """Takes the last arrow of each run, and owes the world its summary."""

    def __init__(self, means: Means, recovery: Recovery) -> None:
        self._means = means
        self._recovery = recovery
        chart, run_chart = means.charts
        self._ended = [state for state in run_chart.states if run_chart.may(state, COMPLETE)]
        self._failed = [state for state in chart.states if chart.may(state, "retry")]
        self._pauses: dict[Key, _Pause] = {}
        self._sending: set[Key] = set()
        self._sends: dict[Key, _Pause] = {}

    def close(self, outbox: Outbox, now: datetime) -> None:
        """Complete the runs of which everything is here and at rest."""
        for row in outbox.runs.in_states(self._ended):
            if row.expected is None or self._too_soon(self._pauses, (row.namespace, row.run)):
                continue
            counts = outbox.by_run.counts_by_state(row)
            if self._all_is_here(row, counts):
                self._complete(outbox, row, now)
            self._put_off(row, counts)

    def _all_is_here(self, row: RunRow, counts: dict[str, int]) -> bool:
        chart = self._means.charts[0]
        resting = all(chart.is_resting(state) and state not in self._failed for state in counts)
        here = not row.absent and not self._recovery.names(row)
        return resting and here and sum(counts.values()) >= (row.expected or 0)

    def _too_soon(self, pauses: dict[Key, _Pause], key: Key) -> bool:
        return key in pauses and self._means.clock.monotonic() < pauses[key].until

    def _put_off(self, row: RunRow, counts: dict[str, int]) -> None:
        key = (row.namespace, row.run)
        pause = self._pauses.get(key)
        if pause is None or pause.counts != counts:
            pause = self._pauses[key] = _Pause(counts)
        pause.prolong(self._means.clock.monotonic(), _LONGEST_PAUSE_S)

    def _complete(self, outbox: Outbox, row: RunRow, now: datetime) -> None:
        dest = self._means.run_chart.after(row.state, COMPLETE)
        judged = judge(outbox.by_run, row, self._means.charts, now)  # slow for a long run: it must not hold the lock
        verdict = replace(judged, state=dest)
        with outbox.transaction():
            current = outbox.runs.get(row.namespace, row.run)  # the broker's thread may have heard `end_run` meanwhile
            same = current is not None and (current.expected, current.absent) == (row.expected, row.absent)
            here = same and self._all_is_here(row, outbox.by_run.counts_by_state(row))
            done = here and outbox.runs.enter(row, dest)
            if done:
                outbox.runs.keep_verdict(row, verdict.as_json())
        if done:
            logger.info("run {}: {}: {}", row.run, dest, verdict.line)

    def errands(self, outbox: Outbox) -> Iterator[Errand]:
        """The summaries that are owed."""
        for row, verdict in outbox.runs.owing_summary():
            key = (row.namespace, row.run)
            if row.state in self._ended:
                continue  # more of it are expected now: that verdict does not hold any more
            if key in self._sending or self._too_soon(self._sends, key):
                continue
            if self._means.announce is None:
                with outbox.transaction():
                    outbox.runs.summary_sent(row, verdict, self._means.clock.now())  # FASTMON_NOTIFY=off: to nobody
            elif self._means.is_open(self._means.announce_link):
                self._sending.add(key)
                yield self._send(row, verdict)

    def _send(self, row: RunRow, verdict: str) -> Errand:
        means, key = self._means, (row.namespace, row.run)
        event_id = event_id_of_run(row.namespace, row.run, row.expected)
        body = summary(row, verdict, event_id, means.agent_name, means.clock.now())
        announce = means.announce
        assert announce is not None  # asked by whoever called

        def done(outbox: Outbox, answer: Any, now: datetime) -> None:
            self._sending.discard(key)
            if isinstance(answer, Exception):
                logger.warning("run {}: its summary did not go out: {}", row.run, answer)
                pause = self._sends.setdefault(key, _Pause(pause_s=means.paces.retry_s))
                pause.prolong(means.clock.monotonic(), means.paces.longest_s)
            else:
                outbox.runs.summary_sent(row, verdict, now)

        return Errand(means.announce_link, lambda: announce(body, event_id), done)


def summary(row: RunRow, verdict: str, event_id: str, agent_name: str, now: datetime) -> str:
    """The body of `fastmon_run_summary`. It carries no `run_id` and no `agent_name`: other agents act on those."""
    told: dict[str, Any] = json.loads(verdict)
    return json.dumps({
        "msg_type": "fastmon_run_summary",
        "event_id": event_id,
        "sender": agent_name,
        "processed_by": agent_name,
        "timestamp": stamp(now),
        "run_number": run_number(row.run_id),
        **told,
    })  # fmt: skip
