"""The main loop: stream and tables update the state; new messages go to the output."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from queue import Empty
from typing import Any, Protocol

from loguru import logger

from fastmon_client.app_state import AppState
from fastmon_client.arrivals import MAX_WAITING, ArrivalQueue
from fastmon_client.broker_config import BrokerConfig
from fastmon_client.log_throttle import LogThrottle
from fastmon_client.monitor_session import AccessDenied, MonitorSession
from fastmon_client.monitor_tables import Tables
from fastmon_client.query_worker import (
    AgentsResult,
    QueryFailed,
    QueryResult,
    QueryWorker,
    RunsResult,
    StfsResult,
    TfFilesResult,
)
from fastmon_client.reference import ReferenceResult, ReferenceWatch
from fastmon_client.snapshot import RunRow, Snapshot
from fastmon_client.stream import Connected, Disconnected, HeartBeat, Notice, Stream
from fastmon_client.stream_manager import Source, StreamBatch, StreamManager, size_of
from fastmon_client.tffile import ANNOUNCED
from fastmon_client.topic_stream import TopicStream

_BATCH = 10
"""STFs per query: announcements that arrive meanwhile make later queries unnecessary."""

_MAX_ARRIVALS = 50

Arrival = StreamBatch | QueryResult | ReferenceResult | None


class Output(Protocol):
    """Where messages are shown; called in the thread of `run`."""

    def write(self, message: Mapping[str, Any], *, backfilled: bool) -> None:
        """Write a message that matches the filter; never the same TF file twice."""

    def flush(self) -> None:
        """Flush; no further message is queued."""

    def update(self, state: AppState, at: datetime) -> None:
        """Write changes of the state; called about once a second."""


@dataclass(slots=True)
class StopConditions:
    """When to stop, from the options."""

    count: int | None = None
    """Maximum number of TF files to show."""
    until_end_run: bool = False
    """Whether to stop at the first run that ends."""
    _shown: int = 0

    def count_reached(self, message: Mapping[str, Any]) -> bool:
        """Count a shown *message*; whether it is the last."""
        self._shown += message.get("msg_type") == ANNOUNCED
        return self.count is not None and self._shown >= self.count

    def run_is_final(self, state: AppState, at: datetime) -> bool:
        """Whether a shown run has ended and its numbers are final."""
        return self.until_end_run and any(run.is_final(at) for run in state.followed_runs())


class Session:
    """Runs until a stop condition, a rejected token, or `stop`."""

    def __init__(
        self,
        monitor: MonitorSession,
        types: tuple[str, ...],
        state: AppState,
        output: Output,
        stop_conditions: StopConditions | None = None,
        broker: BrokerConfig | None = None,
        reference: str | None = None,
    ) -> None:
        """With a *broker*, messages come from its topic, not from the monitor's stream.

        *reference*: the run that the current one is compared with.
        """
        self.refusal: AccessDenied | None = None
        """Why the stream cannot open."""
        self._state, self._output, self._stop_conditions = state, output, stop_conditions or StopConditions()
        self._arrivals: ArrivalQueue[Arrival] = ArrivalQueue()
        self._is_behind = False
        self._log = LogThrottle()
        self._source_url = broker.url if broker else monitor.url
        intervals = self._intervals = state.intervals

        def source() -> Source:
            if broker is not None:
                return TopicStream(config=broker, types=types, intervals=intervals)
            return Stream(monitor=monitor, types=types, intervals=intervals)

        self._streams = StreamManager(source, self._put_batch, intervals)
        self._queries = QueryWorker(Tables(monitor), self._arrivals.put_at_once, intervals.query_hz)
        self._reference = ReferenceWatch(Tables(monitor), reference, now) if reference else None
        self._stfs_to_query: dict[str, list[str]] = {}
        self._comparisons: dict[str, int] = {}
        """The comparison of each run that is being made: a run that was dropped and came back has a new one."""
        self._last_comparison = 0
        self._lock = threading.Lock()
        self._next_tick_at = self._list_runs_at = self._list_agents_at = 0.0
        self._stopped = False

    @property
    def connected_once(self) -> bool:
        """Whether the stream was ever open."""
        return self._state.connection.was_live

    @property
    def is_stopped(self) -> bool:
        """Whether `run` ended, or is about to."""
        return self._stopped

    def stop(self) -> None:
        """End `run`; callable from any thread and from a signal handler."""
        self._stopped = True
        self._arrivals.put_at_once(None)

    def snapshot(self) -> Snapshot:
        """The current snapshot; callable from any thread."""
        with self._lock:
            return self._state.snapshot(now())

    def earlier_rates(self) -> dict[int, int]:
        """TF files made before the start: begin of a bin of 5 s -> number; callable from any thread."""
        with self._lock:
            return dict(self._state.earlier_rates)

    def rows(self, offset: int = 0, limit: int | None = None) -> list[RunRow]:
        """The rows of the runs, newest first, without strips; callable from any thread."""
        with self._lock:
            return self._state.page(now(), offset, limit)

    def run(self) -> None:
        """Read, compare and show until the end."""
        self._streams.start()
        self._queries.start()
        if self._reference:
            self._reference.start(self._current_run, self._arrivals.put_at_once)
        try:
            while not self._stopped:
                self._run_once()
        finally:
            self._streams.stop()
            self._queries.stop()
            if self._reference:
                self._reference.stop()
            self._arrivals.close()
            self._output.flush()

    def _current_run(self, besides: str) -> str | None:
        with self._lock:
            return self._state.current_run(besides)

    def _put_batch(self, batch: StreamBatch) -> None:
        """Called by the threads of the streams."""
        self._arrivals.put(batch, size_of(batch))

    def _run_once(self) -> None:
        with suppress(Empty):
            arrival, size, is_late = self._arrivals.get(max(0.0, self._next_tick_at - time.monotonic()))
            at, monotonic = now(), time.monotonic()
            with self._lock:
                self._process(arrival, is_late, at, monotonic)
                for _ in range(_MAX_ARRIVALS):  # drain the queue before checking for silence
                    if size > MAX_WAITING:  # the output is to take it first
                        break
                    arrival, more, is_late = self._arrivals.get(0.0)
                    size += more
                    self._process(arrival, is_late, at, monotonic)
        self._output.flush()
        if time.monotonic() >= self._next_tick_at:
            with self._lock:
                self._tick()

    def _process(self, arrival: Arrival, is_late: bool, at: datetime, monotonic: float) -> None:
        if arrival is None:  # a wake-up
            return
        if isinstance(arrival, tuple):
            self._record_delay(is_late, at)
            number, batch = arrival
            for each in batch:
                try:
                    notice = self._streams.process(number, each, monotonic)
                    if notice is not None:
                        self._process_notice(notice, at)
                except RecursionError:  # deeper on the stack here than in the parser
                    self._log.record("nested", "event skipped: nested too deeply")
        elif isinstance(arrival, ReferenceResult):
            self._state.reference = arrival.row
        else:
            self._process_result(arrival, at)

    def _record_delay(self, is_late: bool, at: datetime) -> None:
        """A batch that waited for our output: the monitor or the broker may have dropped messages meanwhile."""
        if is_late:
            self._state.fell_behind(at)
            if not self._is_behind:
                logger.warning("output was blocked: messages may have been lost, runs are UNKNOWN until compared")
        self._is_behind = is_late

    def _process_notice(self, notice: Notice | AccessDenied, at: datetime) -> None:
        state = self._state
        if isinstance(notice, dict):
            if state.receive(notice, at):
                self._show(notice, backfilled=False)
        elif isinstance(notice, HeartBeat):
            state.receive_heartbeat(at)
        elif isinstance(notice, Connected):
            logger.info("connected to {}", self._source_url)
            state.connected(at)
            self._list_runs_at = 0.0
        elif isinstance(notice, Disconnected):
            reason = f"{notice.reason}; reconnecting in {notice.wait_s:.0f} s"
            logger.warning("stream lost: {}", reason)
            state.lost(reason, at)
        else:
            state.refused(str(notice), at)
            self.refusal = notice
            self._stopped = True

    def _process_result(self, result: QueryResult, at: datetime) -> None:
        state = self._state
        if isinstance(result, RunsResult):
            state.record_runs(result.rows, at)
        elif isinstance(result, AgentsResult):
            state.record_agents(result.rows, result.monitor_at, at, result.failure)
        elif isinstance(result, StfsResult):
            self._process_listing(result, at)
        elif isinstance(result, TfFilesResult):
            for stf, rows in result.tf_files:
                for message in state.record_tf_files(result.run, stf, rows, at):
                    self._show(message, backfilled=True)
            if self._is_current(result):
                self._query_next_stfs(result.run, at)
        elif result.run is None:
            state.record_runs_query(result.reason, at)
        elif self._is_current(result):
            self._finish_comparison(result.run, result.reason, at)

    def _process_listing(self, result: StfsResult, at: datetime) -> None:
        if self._is_current(result):
            self._stfs_to_query[result.run] = self._state.record_stfs(result.run, result.stfs, at)
            self._query_next_stfs(result.run, at)

    def _is_current(self, result: StfsResult | TfFilesResult | QueryFailed) -> bool:
        """Whether *result* belongs to the comparison of its run that is being made."""
        return self._comparisons.get(result.run or "") == result.comparison

    def _start_comparisons(self, at: datetime) -> None:
        for run in self._state.start_comparisons(at):
            self._last_comparison += 1
            self._comparisons[run] = self._last_comparison
            self._queries.list_stfs(run, self._last_comparison)

    def _query_next_stfs(self, run: str, at: datetime) -> None:
        left = self._state.still_to_query(run, self._stfs_to_query.pop(run, ()))
        if not left:
            self._finish_comparison(run, None, at)
            self._start_comparisons(at)
            return
        self._stfs_to_query[run] = left[_BATCH:]
        self._queries.fetch_tf_files(run, left[:_BATCH], self._comparisons[run])

    def _finish_comparison(self, run: str, failure: str | None, at: datetime) -> None:
        self._comparisons.pop(run, None)
        self._stfs_to_query.pop(run, None)
        self._state.finish_comparison(run, failure, at)

    def _show(self, message: Mapping[str, Any], *, backfilled: bool) -> None:
        if self._stopped:  # ignore the rest of the queue
            return
        self._output.write(message, backfilled=backfilled)
        if self._stop_conditions.count_reached(message):
            self._stopped = True  # never assign a computed value: a signal may set it meanwhile

    def _tick(self) -> None:
        at, monotonic = now(), time.monotonic()
        self._next_tick_at = monotonic + self._intervals.tick_s
        self._streams.tick(monotonic)
        if not self._queries.is_behind:
            self._start_comparisons(at)
        if monotonic >= self._list_runs_at:
            self._list_runs_at = monotonic + self._intervals.runs_s
            self._queries.list_runs()
        if monotonic >= self._list_agents_at:
            self._list_agents_at = monotonic + self._intervals.agents_s
            self._queries.list_agents()
        if self._stop_conditions.run_is_final(self._state, at):
            self._stopped = True
        self._state.tick(at)
        self._output.update(self._state, at)


def now() -> datetime:
    """The current time in UTC."""
    return datetime.now(UTC)
