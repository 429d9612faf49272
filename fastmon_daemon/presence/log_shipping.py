"""Log shipping: sends log lines to the monitor. The buffer is bounded: the oldest lines are dropped if it is full.

The monitor accepts one row per request, and a row costs it as much as registering a TF file. Lines of one level that
are logged within one interval therefore share a row.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

from loguru import logger

from fastmon_daemon.base.clock import format_timestamp
from fastmon_daemon.base.errors import FastmonError
from fastmon_daemon.base.log_throttle import is_written
from fastmon_daemon.base.metrics import LOG_LINES_DROPPED
from fastmon_daemon.monitor import AgentClient, OutcomeUnknown, RequestRejected
from fastmon_daemon.outbox import RunRow
from fastmon_daemon.presence.periodic_worker import BestEffortCall

if TYPE_CHECKING:
    from loguru import Message

APP_NAME = "fastmon-daemon"
EVERY_S = 2.0
"""Seconds between two rounds; lines of one round share rows."""
BUFFER = 2000
"""Most lines in the buffer."""
ROW_LINES = 100
LINE_MAX = 4000
MAX_BATCHES = 20
"""Most unsent rows; further lines stay in the buffer."""
MAX_ATTEMPTS = 10
"""Failures after which a row is dropped; only failures between accepted rows count."""
_LEVELS = (50, 40, 30, 20, 10, 0)
"""Levels that the monitor accepts."""

Row = dict[str, Any]


@dataclass(slots=True)
class LogBatch:
    """A row to send. A failure is the row's own fault if other rows are accepted: in an outage none is."""

    row: Row
    lines: int
    failed: bool = False
    """Whether it failed since another row was accepted."""
    strikes: int = 0
    """Failures after which another row was accepted."""


class LogShipper:
    """Buffers log lines and sends them to the monitor."""

    def __init__(
        self,
        agent_client: AgentClient,
        agent_name: str,
        redact: Callable[[str], str],
        run: Callable[[], RunRow | None],
        monotonic: Callable[[], float],
    ) -> None:
        """*redact* removes secrets from a text; *run* returns the current run."""
        self._client = agent_client
        self._agent_name = agent_name
        self._redact = redact
        self._run = run
        self._attempt = BestEffortCall("log lines", monotonic)
        self._buffer: deque[Row] = deque(maxlen=BUFFER)
        """Each line as a row of its own."""
        self._batches: deque[LogBatch] = deque()
        """Unsent rows; those that failed are at the end."""
        self._dropped = 0
        self._dropped_reported = 0
        self._sink: int | None = None

    def begin(self, level: str) -> None:
        """Collect lines of *level* and above, from now on."""
        if self._sink is not None:
            with suppress(ValueError):  # removed with all others, when logging was configured again
                logger.remove(self._sink)
        self._sink = logger.add(
            self._collect, level=level, format="{message}", filter=is_written, backtrace=False, diagnose=False
        )

    def _collect(self, message: Message) -> None:
        record = message.record
        if len(self._buffer) == BUFFER:
            self._dropped += 1
            LOG_LINES_DROPPED.inc()
        self._buffer.append({
            "app_name": APP_NAME,
            "instance_name": self._agent_name,
            "timestamp": format_timestamp(record["time"]),
            "level": next(level for level in _LEVELS if level <= record["level"].no),
            "levelname": record["level"].name,
            "message": self._redact(str(message).rstrip())[:LINE_MAX] or "(empty)",
            "module": record["module"][:255],
            "funcname": record["function"][:255],
            "lineno": record["line"],
            "process": record["process"].id,
            "thread": record["thread"].id,
        })  # fmt: skip

    def tick(self) -> float:
        """Send the collected lines; returns the seconds until the next tick."""
        while not self._attempt.pause_s:
            if len(self._batches) < MAX_BATCHES and all(each.failed or each.strikes for each in self._batches):
                self._batches.extendleft(reversed(self._pack()))
            if not self._batches:
                break
            self._send(self._batches[0])
        return EVERY_S

    def on_stop(self) -> None:
        """Stop collecting and send the last lines."""
        if self._sink is not None:
            logger.remove(self._sink)
        self.tick()

    def _send(self, batch: LogBatch) -> None:
        try:
            self._client.log(batch.row)
        except RequestRejected as exc:
            self._attempt.failed(exc)
            self._drop()  # it would be rejected again
        except OutcomeUnknown as exc:
            self._attempt.failed(exc, quietly=batch.strikes > 0)
            self._move_to_end(batch, exc)
        except FastmonError as exc:
            self._attempt.failed(exc)
        else:
            self._attempt.succeeded()
            self._batches.popleft()
            for other in self._batches:
                other.strikes += other.failed
                other.failed = False

    def _move_to_end(self, batch: LogBatch, error: OutcomeUnknown) -> None:
        if batch.strikes >= MAX_ATTEMPTS:
            self._drop()
            logger.warning("log lines: {} dropped, the monitor accepts others but never these: {}", batch.lines, error)
            return
        batch.failed = True
        self._batches.rotate(-1)

    def _drop(self) -> None:
        lines = self._batches.popleft().lines
        self._dropped += lines
        LOG_LINES_DROPPED.inc(lines)

    def _pack(self) -> list[LogBatch]:
        lines = [self._buffer.popleft() for _ in range(len(self._buffer))]
        if not lines:
            return []
        dropped, self._dropped_reported = self._dropped - self._dropped_reported, self._dropped
        run = self._run()
        current: Row = {
            "run_id": run.run if run else None,
            "execution_id": run.execution_id if run else None,
        }
        batches = [LogBatch(_joined(part, current), len(part)) for part in _groups(lines)]
        if dropped:
            row = batches[0].row
            row["extra_data"] = {**current, "lines_dropped_before": dropped}
            row["message"] = f"({dropped} log lines before this one were dropped)\n{row['message']}"
        return batches


def _joined(lines: list[Row], current: Row) -> Row:
    """One row for all *lines*: that of the last one, with the text of all and the time of each."""
    row = {**lines[-1], "message": "\n".join(line["message"] for line in lines), "extra_data": dict(current)}
    if len(lines) > 1:
        row["extra_data"]["lines"] = [f"{line['timestamp']} {line['module']}:{line['lineno']}" for line in lines]
    return row


def _groups(lines: Iterable[Row]) -> Iterable[list[Row]]:
    """Group the lines by level, the most severe first, up to `ROW_LINES` in each group."""
    for _, group in groupby(sorted(lines, key=lambda line: -line["level"]), key=lambda line: line["level"]):
        same = list(group)
        for begin in range(0, len(same), ROW_LINES):
            yield same[begin : begin + ROW_LINES]
