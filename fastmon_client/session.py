"""The main loop: what stream and tables bring goes into the picture, and what is to be shown goes out.

Owns the picture while it runs. It must not know how anything is shown.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from queue import Empty, SimpleQueue
from typing import Any, Protocol

from loguru import logger

from fastmon_client.app_state import AppState
from fastmon_client.broker_config import BrokerConfig
from fastmon_client.monitor_session import AccessDenied, MonitorSession
from fastmon_client.monitor_tables import Tables
from fastmon_client.query_worker import QueryResult, QueryWorker, RunsResult, StfsResult, TfFilesResult
from fastmon_client.snapshot import Snapshot
from fastmon_client.stream import Connected, Disconnected, HeartBeat, Notice, Stream
from fastmon_client.stream_manager import Brought, Source, StreamManager
from fastmon_client.tffile import ANNOUNCED
from fastmon_client.topic_stream import TopicStream

_BATCH = 10
"""STFs whose TF files are asked for at once: what is heard meanwhile need not be asked for."""

_AT_ONCE = 50

Arrival = Brought | QueryResult | None


class Output(Protocol):
    """Where it is shown; all are called in the thread of `run`."""

    def message(self, message: Mapping[str, Any], *, backfilled: bool) -> None:
        """A message that is wanted; a TF file never twice."""

    def flush(self) -> None:
        """No further message waits just now."""

    def turn(self, state: AppState, at: datetime) -> None:
        """About once a second."""


@dataclass(slots=True)
class StopConditions:
    """What a person set."""

    count: int | None = None
    """TF files that are shown at most."""
    until_end_run: bool = False
    """Whether the first run that ends is the end."""
    _shown: int = 0

    def count_reached(self, message: Mapping[str, Any]) -> bool:
        """Count *message*, which is shown; whether it is the last."""
        self._shown += message.get("msg_type") == ANNOUNCED
        return self.count is not None and self._shown >= self.count

    def run_is_final(self, state: AppState, at: datetime) -> bool:
        """Whether a run that is shown has ended, and nothing more can be found out about it."""
        return self.until_end_run and any(run.is_final(at) for run in state.shown_runs())


class Session:
    """Runs until a limit is reached, the monitor refuses, or `stop`."""

    def __init__(
        self,
        monitor: MonitorSession,
        types: tuple[str, ...],
        state: AppState,
        output: Output,
        stop_conditions: StopConditions | None = None,
        broker: BrokerConfig | None = None,
    ) -> None:
        """With a *broker* messages come from its topic instead of the monitor's stream."""
        self.refusal: AccessDenied | None = None
        """Why the monitor cannot be listened to."""
        self._state, self._output, self._stop_conditions = state, output, stop_conditions or StopConditions()
        self._arrivals: SimpleQueue[Arrival] = SimpleQueue()
        self._where = broker.where if broker else monitor.url
        intervals = self._intervals = state.intervals

        def source() -> Source:
            if broker is not None:
                return TopicStream(config=broker, types=types, intervals=intervals)
            return Stream(monitor=monitor, types=types, intervals=intervals)

        self._streams = StreamManager(source, self._arrivals.put, intervals)
        self._queries = QueryWorker(Tables(monitor), self._arrivals.put, intervals.asks_hz)
        self._to_ask: dict[str, list[str]] = {}
        self._lock = threading.Lock()
        self._ticks_at = self._asks_runs_at = 0.0
        self._stopped = False

    @property
    def connected_once(self) -> bool:
        """Whether the stream was ever there."""
        return self._state.connection.was_live

    def stop(self) -> None:
        """End `run`; callable from any thread and from a signal handler."""
        self._stopped = True
        self._arrivals.put(None)

    def snapshot(self) -> Snapshot:
        """What is known now; callable from any thread."""
        with self._lock:
            return self._state.snapshot(now())

    def run(self) -> None:
        """Read, compare and show, until the end."""
        self._streams.start()
        self._queries.start()
        try:
            while not self._stopped:
                self._turn()
        finally:
            self._streams.stop()
            self._queries.stop()
            self._output.flush()

    def _turn(self) -> None:
        with suppress(Empty):
            arrival = self._arrivals.get(timeout=max(0.0, self._ticks_at - time.monotonic()))
            at, monotonic = now(), time.monotonic()
            with self._lock:
                self._take(arrival, at, monotonic)
                for _ in range(_AT_ONCE):  # what waits is taken before the time is looked at: it is not silence
                    self._take(self._arrivals.get_nowait(), at, monotonic)
        self._output.flush()
        if time.monotonic() >= self._ticks_at:
            with self._lock:
                self._tick()

    def _take(self, arrival: Arrival, at: datetime, monotonic: float) -> None:
        if arrival is None:  # it was only to wake us
            return
        if isinstance(arrival, tuple):
            number, batch = arrival
            for each in batch:
                try:
                    notice = self._streams.take(number, each, monotonic)
                    if notice is not None:
                        self._hear(notice, at)
                except RecursionError:  # its reader stood lower on the stack, and could just take it
                    logger.warning("an event was skipped: it is nested too deeply")
        else:
            self._compare(arrival, at)

    def _hear(self, notice: Notice | AccessDenied, at: datetime) -> None:
        state = self._state
        if isinstance(notice, dict):
            if state.receive(notice, at):
                self._show(notice, backfilled=False)
        elif isinstance(notice, HeartBeat):
            state.receive_heartbeat(at)
        elif isinstance(notice, Connected):
            logger.info("connected to {}", self._where)
            state.connected(at)
            self._asks_runs_at = 0.0
        elif isinstance(notice, Disconnected):
            reason = f"{notice.reason}; again in {notice.wait_s:.0f} s"
            logger.warning("stream lost: {}", reason)
            state.lost(reason, at)
        else:
            state.refused(str(notice), at)
            self.refusal = notice
            self._stopped = True

    def _compare(self, answer: QueryResult, at: datetime) -> None:
        state = self._state
        if isinstance(answer, RunsResult):
            state.runs_listed(answer.rows, at)
        elif isinstance(answer, StfsResult):
            self._to_ask[answer.run] = state.listed(answer.run, answer.stfs, at)
            self._ask_more(answer.run, at)
        elif isinstance(answer, TfFilesResult):
            for stf, rows in answer.tf_files:
                for message in state.filled(answer.run, stf, rows, at):
                    self._show(message, backfilled=True)
            self._ask_more(answer.run, at)
        elif answer.run is not None:
            self._to_ask.pop(answer.run, None)
            state.compared(answer.run, answer.reason, at)
        else:
            state.compared_runs(answer.reason, at)

    def _ask_more(self, run: str, at: datetime) -> None:
        left = self._state.still_wanting(run, self._to_ask.pop(run, ()))
        if not left:
            self._state.compared(run, None, at)
            return
        self._to_ask[run] = left[_BATCH:]
        self._queries.fill(run, left[:_BATCH])

    def _show(self, message: Mapping[str, Any], *, backfilled: bool) -> None:
        if self._stopped:  # what still waits is no longer wanted
            return
        self._output.message(message, backfilled=backfilled)
        if self._stop_conditions.count_reached(message):
            self._stopped = True  # never set to what was computed: a signal may come in between

    def _tick(self) -> None:
        at, monotonic = now(), time.monotonic()
        self._ticks_at = monotonic + self._intervals.tick_s
        self._streams.tick(monotonic)
        for run in self._state.due(at):
            self._queries.list_stfs(run)
        if monotonic >= self._asks_runs_at:
            self._asks_runs_at = monotonic + self._intervals.runs_s
            self._queries.list_runs()
        if self._stop_conditions.run_is_final(self._state, at):
            self._stopped = True
        self._state.tick(at)
        self._output.turn(self._state, at)


def now() -> datetime:
    """The present time, in UTC."""
    return datetime.now(UTC)
