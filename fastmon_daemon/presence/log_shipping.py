"""Log lines to the monitor: kept in a bounded buffer, sent by a lane of its own, the oldest dropped where it is slow.

The monitor takes one row at a time, and a row costs it as much as the registration of a TF file. So lines of one level
that come together share a row; a warning that comes alone has its own. This module must not know what is logged.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import TYPE_CHECKING

from loguru import logger

from fastmon_daemon.base.clock import format_timestamp
from fastmon_daemon.base.errors import FastmonError
from fastmon_daemon.monitor import AgentClient, OutcomeUnknown, RequestRejected
from fastmon_daemon.outbox import RunRow
from fastmon_daemon.presence.periodic_worker import BestEffortCall

if TYPE_CHECKING:
    from loguru import Message

APP_NAME = "fastmon-daemon"
EVERY_S = 2.0
"""Between two rounds, in seconds: lines within it share rows."""
BUFFER = 2000
"""Lines that wait at most."""
ROW_LINES = 100
LINE_MAX = 4000
MAX_BATCHES = 20
"""Rows that are held at most where none is taken; further lines wait in the buffer."""
MAX_ATTEMPTS = 10
"""So often a row may fail beside others that are taken, before it is given up."""
_LEVELS = (50, 40, 30, 20, 10, 0)
"""The levels that the monitor takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEntry:
    """One log line."""

    at: datetime
    level: int
    name: str
    text: str
    module: str
    function: str
    line: int
    process: int
    thread: int


@dataclass(slots=True)
class LogBatch:
    """A row on its way. Whether it fails by its own fault is seen by the others: in an outage none is taken."""

    row: dict[str, object]
    lines: int
    failed: bool = False
    """Since another one was taken."""
    strikes: int = 0
    """So often it failed, and another one was taken after it."""


class LogShipper:
    """The log lines on their way to the monitor."""

    def __init__(
        self,
        agent_client: AgentClient,
        agent_name: str,
        clean: Callable[[str], str],
        run: Callable[[], RunRow | None],
        monotonic: Callable[[], float],
    ) -> None:
        """*clean* takes the secrets out of a text, *run* says which run we are in."""
        self._client = agent_client
        self._agent_name = agent_name
        self._clean = clean
        self._run = run
        self._courtesy = BestEffortCall("log lines", monotonic)
        self._buffer: deque[LogEntry] = deque(maxlen=BUFFER)
        self._parcels: deque[LogBatch] = deque()
        """Rows that are made, and not all taken yet; those that failed are behind the others."""
        self._dropped = 0
        self._dropped_told = 0
        self._sink: int | None = None

    def begin(self, level: str) -> None:
        """Take every line from *level* on."""
        self._sink = logger.add(self.take, level=level, format="{message}", backtrace=False, diagnose=False)

    def take(self, message: Message) -> None:
        """Take one line; it never waits."""
        record = message.record
        if len(self._buffer) == BUFFER:
            self._dropped += 1
        self._buffer.append(
            LogEntry(
                at=record["time"],
                level=next(level for level in _LEVELS if level <= record["level"].no),
                name=record["level"].name,
                text=self._clean(str(message).rstrip())[:LINE_MAX] or "(empty)",
                module=record["module"][:255],
                function=record["function"][:255],
                line=record["line"],
                process=record["process"].id,
                thread=record["thread"].id,
            )
        )

    def tick(self) -> float:
        """Send what has gathered."""
        while not self._courtesy.pause_s:
            if len(self._parcels) < MAX_BATCHES and all(each.failed or each.strikes for each in self._parcels):
                self._parcels.extendleft(reversed(self._pack()))
            if not self._parcels:
                break
            self._send(self._parcels[0])
        return EVERY_S

    def on_stop(self) -> None:
        """Take no more lines, and send the last ones."""
        if self._sink is not None:
            logger.remove(self._sink)
        self.tick()

    def _send(self, batch: LogBatch) -> None:
        try:
            self._client.log(batch.row)
        except RequestRejected as exc:
            self._courtesy.failed(exc)
            self._drop()  # it would be refused again
        except OutcomeUnknown as exc:
            self._courtesy.failed(exc, quietly=batch.strikes > 0)
            self._put_behind(batch, exc)
        except FastmonError as exc:
            self._courtesy.failed(exc)
        else:
            self._courtesy.succeeded()
            self._parcels.popleft()
            for other in self._parcels:
                other.strikes += other.failed
                other.failed = False

    def _put_behind(self, batch: LogBatch, why: OutcomeUnknown) -> None:
        if batch.strikes >= MAX_ATTEMPTS:
            self._drop()
            logger.warning("log lines: {} are given up, the monitor takes others but never these: {}", batch.lines, why)
            return
        batch.failed = True
        self._parcels.rotate(-1)

    def _drop(self) -> None:
        self._dropped += self._parcels.popleft().lines

    def _pack(self) -> list[LogBatch]:
        lines = [self._buffer.popleft() for _ in range(len(self._buffer))]
        if not lines:
            return []
        dropped, self._dropped_told = self._dropped - self._dropped_told, self._dropped
        run = self._run()
        told: dict[str, object] = {
            "run_id": run.run if run else None,
            "execution_id": run.execution_id if run else None,
        }
        parcels = [LogBatch(self._row(part, told), len(part)) for part in _together(lines)]
        if dropped:
            row = parcels[0].row
            row["extra_data"] = {**told, "lines_dropped_before": dropped}
            row["message"] = f"({dropped} log lines before this one were dropped)\n{row['message']}"
        return parcels

    def _row(self, lines: list[LogEntry], told: dict[str, object]) -> dict[str, object]:
        last = lines[-1]
        shared = (
            {"lines": [f"{format_timestamp(line.at)} {line.module}:{line.line}" for line in lines]}
            if len(lines) > 1
            else {}
        )
        return {
            "app_name": APP_NAME,
            "instance_name": self._agent_name,
            "timestamp": format_timestamp(last.at),
            "level": last.level,
            "levelname": last.name,
            "message": "\n".join(line.text for line in lines),
            "module": last.module,
            "funcname": last.function,
            "lineno": last.line,
            "process": last.process,
            "thread": last.thread,
            "extra_data": {**told, **shared},
        }


def _together(lines: Iterable[LogEntry]) -> Iterable[list[LogEntry]]:
    """The lines by level, the gravest first, not more than `ROW_LINES` in each."""
    for _, group in groupby(sorted(lines, key=lambda line: -line.level), key=lambda line: line.level):
        same = list(group)
        for begin in range(0, len(same), ROW_LINES):
            yield same[begin : begin + ROW_LINES]
