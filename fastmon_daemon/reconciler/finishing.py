"""The end of a run: when it counts as over, when as complete, and the summary that is owed then."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from loguru import logger

from fastmon_daemon.base.clock import format_timestamp
from fastmon_daemon.engine.tasks import BackgroundTask
from fastmon_daemon.messages import event_id_of_run, run_number
from fastmon_daemon.outbox import Outbox, RunRow
from fastmon_daemon.reconciler.config import ReconcilerConfig, SummaryRoute
from fastmon_daemon.reconciler.verdict import incomplete_reasons, judge
from fastmon_daemon.runs.tracked_runs import RetryTimer, TrackedRun, TrackedRuns

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 5.0
"""Between two times at which an incomplete run is looked through, while nothing changes."""
COMPLETE = "complete_run"


def end_reason(config: ReconcilerConfig, row: RunRow, ended_at: str | None, settled_s: float) -> str | None:
    """Why a run is over although no `end_run` was heard; None: it is not, as far as can be told.

    *ended_at* is the monitor's; *settled_s*: so long nothing was heard while everything that it names is here.
    """
    if ended_at:
        return f"the monitor gives it the end time {ended_at}"
    paused = not config.run_chart.may(row.state, "pause_run")
    quiet_s = config.intervals.idle_end_paused_s if paused else config.intervals.idle_end_s
    if settled_s >= quiet_s:
        return f"nothing was heard for {timedelta(seconds=quiet_s)}, and everything that the monitor names is here"
    return None


class RunFinalizer:
    """Takes the last arrow of each run, and owes the world its summary."""

    def __init__(self, config: ReconcilerConfig, runs: TrackedRuns) -> None:
        self._config = config
        self._runs = runs
        run_chart = config.run_chart
        self._ended = [state for state in run_chart.states if run_chart.may(state, COMPLETE)]

    def close(self, outbox: Outbox, now: datetime) -> None:
        """Complete the runs to which nothing is wanting."""
        for row in outbox.runs.in_states(self._ended):
            run = self._runs.get(row.namespace, row.run)
            monotonic = self._config.clock.monotonic()
            if run.finalize_timer.until > monotonic:
                continue
            counts = outbox.by_run.counts_by_state(row)
            if not self._is_wanting(outbox, row, run, counts):
                self._complete(outbox, row, run, now)
            if counts != run.finalize_counts:
                run.finalize_counts, run.finalize_timer = counts, RetryTimer()
            run.finalize_timer.extend(monotonic, _FIRST_PAUSE_S, _LONGEST_PAUSE_S)

    def _is_wanting(self, outbox: Outbox, row: RunRow, run: TrackedRun, counts: dict[str, int]) -> bool:
        """Whether the run is incomplete by the verdict's rule, or one more of its STFs is just being taken in."""
        return bool(run.is_recovering or incomplete_reasons(outbox.by_run, row, self._config.charts, counts))

    def _complete(self, outbox: Outbox, row: RunRow, run: TrackedRun, now: datetime) -> None:
        dest = self._config.run_chart.after(row.state, COMPLETE)
        judged = judge(outbox.by_run, row, self._config.charts, now)  # slow for a long run: it must not hold the lock
        verdict = replace(judged, state=dest)
        with outbox.transaction():
            current = outbox.runs.get(row.namespace, row.run)  # the broker's thread may have heard `end_run` meanwhile
            done = (
                current is not None
                and current.expected == row.expected
                and not self._is_wanting(outbox, current, run, outbox.by_run.counts_by_state(row))
                and outbox.runs.set_state(row, dest)
            )
            if done:
                outbox.runs.save_verdict(row, verdict.as_json())
        if done:
            logger.info("run {}: {}: {}", row.run, dest, verdict.line)

    def tasks(self, outbox: Outbox) -> Iterator[BackgroundTask]:
        """The summaries that are owed."""
        route = self._config.summary_route
        for row, verdict in outbox.runs.owing_summary():
            if row.state in self._ended:
                continue  # more of it are expected now: that verdict does not hold any more
            run = self._runs.get(row.namespace, row.run)
            if run.sends_summary or self._config.clock.monotonic() < run.summary_timer.until:
                continue
            if route is None:
                with outbox.transaction():
                    outbox.runs.summary_sent(row, verdict, self._config.clock.now())  # FASTMON_NOTIFY=off: to nobody
            elif self._config.allows_calls(route.link):
                run.sends_summary = True
                yield self._send(row, run, verdict, route)

    def _send(self, row: RunRow, run: TrackedRun, verdict: str, route: SummaryRoute) -> BackgroundTask:
        config = self._config
        event_id = event_id_of_run(row.namespace, row.run, row.expected)
        body = summary(row, verdict, event_id, route.sender, config.clock.now())

        def done(outbox: Outbox, answer: Any, now: datetime) -> None:
            run.sends_summary = False
            if isinstance(answer, Exception):
                logger.warning("run {}: its summary did not go out: {}", row.run, answer)
                run.summary_timer.extend(
                    config.clock.monotonic(), config.intervals.retry_s, config.intervals.max_pause_s
                )
            else:
                outbox.runs.summary_sent(row, verdict, now)  # of another run of that number the verdict is another

        return BackgroundTask(route.link, lambda: route.announce(body, event_id), done)


def summary(row: RunRow, verdict: str, event_id: str, agent_name: str, now: datetime) -> str:
    """The body of `fastmon_run_summary`. It carries no `run_id` and no `agent_name`: other agents act on those."""
    told: dict[str, Any] = json.loads(verdict)
    return json.dumps({
        "msg_type": "fastmon_run_summary",
        "event_id": event_id,
        "sender": agent_name,
        "processed_by": agent_name,
        "timestamp": format_timestamp(now),
        "run_number": run_number(row.run_id),
        **told,
    })  # fmt: skip
