"""The end of a run: when it is over, when it is complete, and its summary."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from loguru import logger

from fastmon_daemon.base.backoff import Backoff
from fastmon_daemon.base.clock import format_timestamp
from fastmon_daemon.engine import BackgroundTask
from fastmon_daemon.messages import RunSummary, outbound_message, run_number
from fastmon_daemon.outbox import Outbox, RunRow
from fastmon_daemon.reconciler.config import ReconcilerConfig
from fastmon_daemon.reconciler.verdict import incomplete_reasons, judge
from fastmon_daemon.runs.tracked_runs import RetryTimer, TrackedRun, TrackedRuns

_RECHECK = Backoff(first_s=0.5, longest_s=5.0)
"""Pauses between two checks of an incomplete run whose counts do not change."""
COMPLETE = "complete_run"


def end_reason(config: ReconcilerConfig, row: RunRow, ended_at: str | None, idle_s: float) -> str | None:
    """Why a run is over although no `end_run` was received, or None.

    *ended_at* is the monitor's end time. *idle_s*: for so long no message came and no listed STF was absent.
    """
    if ended_at:
        return f"end time at the monitor: {ended_at}"
    paused = not config.run_chart.may(row.state, "pause_run")
    limit_s = config.intervals.idle_end_paused_s if paused else config.intervals.idle_end_s
    if idle_s >= limit_s:
        return f"no messages for {timedelta(seconds=limit_s)}, all STFs that the monitor lists are received"
    return None


class RunFinalizer:
    """Completes runs, and sends their summaries."""

    def __init__(self, config: ReconcilerConfig, runs: TrackedRuns) -> None:
        self._config = config
        self._runs = runs
        run_chart = config.run_chart
        self._ended = [state for state in run_chart.states if run_chart.may(state, COMPLETE)]

    def complete_runs(self, outbox: Outbox, now: datetime) -> None:
        """Complete the ended runs for which the verdict finds nothing incomplete."""
        for row in outbox.runs.in_states(self._ended):
            if not row.claimed:
                continue
            run = self._runs.get(row.namespace, row.run)
            monotonic = self._config.clock.monotonic()
            if run.finalize_timer.until > monotonic:
                continue
            counts = outbox.runs.counts_by_state(row)
            if not self._is_incomplete(outbox, row, run, counts):
                self._complete(outbox, row, run, now)
            if counts != run.finalize_counts:
                run.finalize_counts, run.finalize_timer = counts, RetryTimer()
            run.finalize_timer.extend(monotonic, _RECHECK)

    def _is_incomplete(self, outbox: Outbox, row: RunRow, run: TrackedRun, counts: dict[str, int]) -> bool:
        """Whether missed STFs are queued, or the verdict's rule finds the run incomplete."""
        return bool(run.is_recovering or incomplete_reasons(outbox.runs, row, self._config.charts, counts))

    def _complete(self, outbox: Outbox, row: RunRow, run: TrackedRun, now: datetime) -> None:
        dest = self._config.run_chart.after(row.state, COMPLETE)
        judged = judge(outbox.runs, row, self._config.charts, now)  # outside the transaction: slow for a long run
        verdict = replace(judged, state=dest)
        with outbox.transaction():
            current = outbox.runs.get(row.namespace, row.run)  # the broker's thread may have stored `end_run` meanwhile
            done = (
                current is not None
                and current.expected == row.expected
                and not self._is_incomplete(outbox, current, run, outbox.runs.counts_by_state(row))
                and outbox.runs.set_state(row, dest)
            )
            if done:
                outbox.runs.save_verdict(row, verdict.as_json())
        if done:
            logger.bind(run=row.run, dest=dest).info("run {}: {}: {}", row.run, dest, verdict.line)

    def tasks(self, outbox: Outbox) -> Iterator[BackgroundTask]:
        """The summaries that are due."""
        link = self._config.announce_link
        for row, verdict in outbox.runs.pending_summaries():
            if row.state in self._ended:
                continue  # more STFs are expected now: the verdict is outdated
            run = self._runs.get(row.namespace, row.run)
            if run.sends_summary or self._config.clock.monotonic() < run.summary_timer.until:
                continue
            if link is None or not self._config.recovers():
                with outbox.transaction():  # FASTMON_NOTIFY=off, or another daemon of the queue sends it
                    outbox.runs.summary_sent(row, verdict, self._config.clock.now())
            elif self._config.allows_calls(link):
                run.sends_summary = True
                yield self._send(row, run, verdict, link)

    def _send(self, row: RunRow, run: TrackedRun, verdict: str, link: str) -> BackgroundTask:
        clock, intervals = self._config.clock, self._config.intervals
        event_key = f"{row.namespace}/{row.run}/{row.expected}"  # more STFs expected: another event
        head: RunSummary = {"run_number": run_number(row.run_id)}  # no `run_id`: other agents act on it
        fields = {**head, **json.loads(verdict)}
        message = outbound_message(
            "fastmon_run_summary", event_key, self._config.agent_name, format_timestamp(clock.now()), fields
        )

        def done(outbox: Outbox, answer: Any, now: datetime) -> None:
            run.sends_summary = False
            if isinstance(answer, Exception):
                logger.bind(run=row.run, error=str(answer)).warning("run {}: summary not sent: {}", row.run, answer)
                pauses = Backoff(first_s=intervals.retry_s, longest_s=intervals.max_pause_s)
                run.summary_timer.extend(clock.monotonic(), pauses)
            else:
                outbox.runs.summary_sent(row, verdict, now)  # only if the run still has this verdict

        return BackgroundTask(link, lambda: self._config.announce(*message), done)
