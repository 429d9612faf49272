"""Builders for tests of the engine: a fake monitor, a fake broker, a manual clock, and the database."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping
from concurrent.futures import Executor, Future
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import tenacity
from loguru import logger
from sqlite_utils import Database

from fastmon_daemon.base.clock import Clock
from fastmon_daemon.base.errors import FastmonError, LinkDown
from fastmon_daemon.base.links import ANNOUNCEMENTS, INTAKE, LINK_OF_STEP
from fastmon_daemon.engine import (
    BackgroundTask,
    CallPools,
    CircuitBreakers,
    Engine,
    EngineConfig,
    Inbox,
    LinkEvent,
)
from fastmon_daemon.engine.steps import make_steps
from fastmon_daemon.intake.handler import MessageHandler
from fastmon_daemon.monitor import StfFile, StfListing, TfFile
from fastmon_daemon.outbox import NewStf, Outbox, Stf, open_outbox
from fastmon_daemon.outbox.database import connect
from fastmon_daemon.settings import Settings
from fastmon_daemon.statechart import load_statechart

START = datetime(2026, 11, 21, 20, 0, tzinfo=UTC)

NO_RELOAD: dict[str, Any] = {"read_settings": lambda: None, "set_log_level": lambda _level: None}
"""Fields of a `ProcessContext` that only a reload of the settings needs."""


@contextmanager
def logged(level: str = "INFO") -> Iterator[list[str]]:
    """The lines that are logged inside the block at *level* or above, each with its traceback, if any."""
    lines: list[str] = []
    sink = logger.add(lambda line: lines.append(str(line)), level=level, format="{message}")
    try:
        yield lines
    finally:
        logger.remove(sink)


class Inline(Executor):
    """A pool that runs each call at once, in the caller's thread."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


class Slow(Executor):
    """A pool that runs its calls only when the test calls `go_on`."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Any, tuple[Any, ...]]] = []

    def submit(self, fn: Any, /, *args: Any, **_: Any) -> Future[Any]:
        self.waiting.append((fn, args))
        return Future()

    def go_on(self) -> None:
        waiting, self.waiting = self.waiting, []
        for fn, args in waiting:
            fn(*args)


NewOf = Callable[[Collection[str]], Container[str]]


def listing_of(stfs: Iterable[StfFile], new_of: NewOf = lambda names: names, most: int | None = None) -> StfListing:
    """The answer of `MonitorClient.stf_files` if the monitor lists *stfs*."""
    rows = {stf.stf_filename: stf for stf in stfs}
    names = new_of(rows.keys())
    new = [stf for name, stf in rows.items() if name in names]
    return StfListing({*rows}, new[:most], next((stf.run_key for stf in rows.values()), None))


class FakeMonitor:
    """The monitor's table of TF files: a registered name never changes."""

    def __init__(self) -> None:
        self.rows: dict[str, TfFile] = {}
        self.posts: Counter[str] = Counter()
        self.down = False
        self.trouble: dict[str, FastmonError] = {}

    def register_tf(self, tf: TfFile) -> tuple[TfFile, str | None]:
        self.posts[tf.tf_filename] += 1
        self.probe()
        if tf.stf_filename in self.trouble:
            raise self.trouble[tf.stf_filename]
        row = self.rows.setdefault(
            tf.tf_filename, replace(tf, metadata=None, tf_file_id=str(uuid5(NAMESPACE_URL, tf.tf_filename)))
        )
        same = (row.tf_first, row.tf_last) == (tf.tf_first, tf.tf_last)
        return row, None if same else "another range"

    def stf_file(self, stf_filename: str, run_number: int) -> StfFile | None:
        """Every STF is registered in its run, and its row says nothing more."""
        self.probe()
        return StfFile(
            stf_filename=stf_filename, file_size_bytes=None, checksum=None, tf_count=None,
            created_at="2026-11-21T20:00:00.000+00:00", body="{}", run_key=run_number,
        )  # fmt: skip

    def probe(self) -> None:
        if self.down:
            raise LinkDown("monitor unreachable")


class Silent(FakeMonitor):
    """While `silent`, requests get no answer until the test sets `deadline`."""

    def __init__(self) -> None:
        super().__init__()
        self.silent = False
        self.asking = 0
        self.deadline = threading.Event()

    def probe(self) -> None:
        if self.silent:
            self.asking += 1
            self.deadline.wait(60)
            raise LinkDown("no answer within the deadline")
        super().probe()


@dataclass
class HandClock:
    """Wall clock and monotonic clock, moved by `pass_`."""

    at: datetime = START
    seconds: float = 1000.0

    def pass_(self, **span: float) -> None:
        delta = timedelta(**span)
        self.at += delta
        self.seconds += delta.total_seconds()

    def clock(self) -> Clock:
        return Clock(now=lambda: self.at, monotonic=lambda: self.seconds)


@cache
def empty_database() -> bytes:
    """The bytes of a new database; creating one takes longer than most tests that need it."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "outbox.db"
        open_outbox(path).close()
        return path.read_bytes()


@dataclass
class FakeTestbed:
    """Everything that survives the process: monitor, broker, clock and database."""

    folder: Path
    monitor: FakeMonitor = field(default_factory=FakeMonitor)
    announced: list[str] = field(default_factory=list)
    broker_up: bool = True
    time: HandClock = field(default_factory=HandClock)
    settings: Settings = field(default_factory=lambda: Settings(namespace="ns", selection_fraction=1.0))

    def outbox(self) -> Outbox:
        path = self.folder / "outbox.db"
        if not path.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            path.write_bytes(empty_database())
        return open_outbox(path)

    def outbox_and_connection(self) -> tuple[Outbox, Database]:
        """Return the outbox and its connection, which a test can make fail."""
        self.outbox().close()
        db = connect(self.folder / "outbox.db")
        return Outbox(db), db

    def announce(self, _body: str, event_id: str) -> None:
        self.announced.append(event_id)

    def probe_broker(self) -> None:
        if not self.broker_up:
            raise LinkDown("broker stopped")

    def breakers(
        self, outbox: Outbox, probes: Mapping[str, Callable[[], None]] | None = None, **changes: Any
    ) -> CircuitBreakers:
        usual = {"monitor": self.monitor.probe, INTAKE: self.probe_broker, ANNOUNCEMENTS: self.probe_broker}
        given: dict[str, Any] = {"clock": self.time.clock(), "jitter": lambda: 1.0, **changes}
        return CircuitBreakers(outbox, {**usual, **(probes or {})}, **given)

    def engine(
        self,
        outbox: Outbox,
        *,
        pools: CallPools | None = None,
        workers: int = 4,
        pool: Executor | None = None,
        inbox: Inbox | None = None,
        breakers: CircuitBreakers | None = None,
        probes: Mapping[str, Callable[[], None]] | None = None,
        background_tasks: Callable[[Outbox, datetime], Iterable[BackgroundTask]] = lambda _outbox, _now: (),
        spare: Callable[[Outbox, datetime], None] = lambda _outbox, _now: None,
        **changes: Any,
    ) -> Engine:
        """Return an engine whose calls run in *pools*, or all in one *pool*; *changes* go to its `EngineConfig`."""
        clock, one = self.time.clock(), pool or Inline()
        monitor: Any = self.monitor
        config: dict[str, Any] = {
            "chart": load_statechart("stf"),
            "steps": make_steps(self.settings, "fastmon-agent-test-1", monitor, self.announce, clock),
            "links": LINK_OF_STEP,
            "in_process_retry": tenacity.Retrying(stop=tenacity.stop_after_attempt(1), reraise=True),
            "clock": clock,
            "jitter": lambda: 1.0,
            **changes,
        }
        return Engine(
            outbox,
            EngineConfig(**config),
            inbox=inbox or Inbox(),
            breakers=breakers or self.breakers(outbox, probes),
            pools=pools or CallPools(workers=workers, stf_calls=one, probes=one, background=one),
            background_tasks=background_tasks,
            idle_work=spare,
        )

    def receive(self, outbox: Outbox, sequence: int = 1, **fields: Any) -> str:
        name = f"swf.100014.{sequence:06d}.stf"
        stf = NewStf(namespace="ns", run_id="100014", filename=name, sequence=sequence, **fields)
        with outbox.transaction():
            outbox.receive(stf, load_statechart("stf").initial, self.time.at)
        return name

    def broker_is(self, engine: Engine, *, up: bool) -> None:
        self.broker_up = up
        for link in (INTAKE, ANNOUNCEMENTS):
            engine.inbox.report_link(LinkEvent(link, up=up, reason="" if up else "broker stopped"))


def handle(handler: MessageHandler, body: str | bytes) -> None:
    """Store the message, as the broker's connection does before it acknowledges it."""
    if store := handler.prepare(body):
        store().result()


def settle(engine: Engine, ticks: int = 200) -> None:
    """Run ticks of the engine until it is idle."""
    for _ in range(ticks):
        engine.tick(0)
        if engine.idle:
            engine.tick(0)
            return
    raise AssertionError(f"still busy after {ticks} ticks")


def turn_until(engine: Engine, condition: Callable[[], object], what: str = "", deadline_s: float = 40.0) -> None:
    """Run ticks of the engine, which wait for its threads, until *condition* is true."""
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, f"not within {deadline_s} s: {what}"
        engine.tick(0.05)


def named(outbox: Outbox, name: str) -> Stf:
    """Return the STF called *name*."""
    return outbox.find(filename=name)[0]


def query(database: Path, sql: str, *values: object) -> list[tuple[Any, ...]]:
    """Query the database with a plain SQLite client."""
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        return connection.execute(sql, values).fetchall()
