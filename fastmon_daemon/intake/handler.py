"""The message handler: parses each message and has it stored; the caller acknowledges it afterwards.

It runs on the broker's or the watcher's thread. Messages are stored by the engine's thread: those that arrive together,
and what it has to store itself, share a transaction. Files are stored by the watcher's, on a connection of its own.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import closing
from dataclasses import fields
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from loguru import logger

from fastmon_daemon.base.clock import Clock
from fastmon_daemon.base.errors import EnoughWork, MalformedMessage
from fastmon_daemon.base.metrics import MESSAGES
from fastmon_daemon.base.rate_limit import RepetitionCounter
from fastmon_daemon.intake.foreign_namespaces import ForeignNamespaces
from fastmon_daemon.intake.shared_queue import SharedQueue
from fastmon_daemon.messages import STF_SEEN, IgnoredMessage, RunEvent, StfReady, parse
from fastmon_daemon.outbox import NewStf, Origin, Outbox, ReceiveOutcome, attach
from fastmon_daemon.outbox.counting import count_committed
from fastmon_daemon.runs.run_events import record_run_event, record_sequence
from fastmon_daemon.runs.tracked_runs import TrackedRuns
from fastmon_daemon.statechart import StateMachine

CONFLICT = "conflict: this STF was received with another size, checksum or tf_count"
LOG_INTERVAL_S = 60.0
"""Between two log lines of one reason for which messages are rejected."""
STORED_PER_INTERVAL = 200
"""Rejected messages that are stored for one reason in this time: a flood neither delays the others nor drops them."""
SEEN_EVERY_S = 30.0
"""Of a shared queue: between two records that a run goes on, by STFs that other daemons get."""
ENOUGH_STFS = 20
"""A daemon of a shared queue leaves messages to the others while so many STFs wait here: it stays busy until it looks
again, and a burst is shared evenly."""
MAX_REJECTED = 1000
"""Rejected messages in the database; older ones are deleted."""
Write = Callable[[Outbox, datetime], None]
Submit = Callable[..., Future[Any]]
"""Takes a `Write` and *committed*, as `Inbox.submit` does."""
_CONTENT = tuple(each.name for each in fields(StfReady) if each.name not in {"has_namespace", "unreadable"})
"""What a message says of its STF."""
_OUTCOMES = {
    ReceiveOutcome.FRESH: "stored",
    ReceiveOutcome.KNOWN: "known",
    ReceiveOutcome.CONFLICT: "conflict",
}
"""As the metric tells them."""


class MessageHandler:
    """Stores messages of our namespace; rejects malformed ones; counts ignored ones."""

    def __init__(  # noqa: PLR0913 (all by name but the first four)
        self,
        database: Path,
        namespace: str,
        agent_name: str,
        charts: tuple[StateMachine, StateMachine],
        *,
        runs: TrackedRuns | None = None,
        submit: Submit | None = None,
        refuse_if_short: Callable[[], None] = lambda: None,
        wake: Callable[[], None] = lambda: None,
        clock: Clock | None = None,
        shares_queue: bool = False,
    ) -> None:
        """*charts* are those of the STF and of the run; *runs* is shared with the reconciler, if there is one.

        *submit* writes the messages, as `Inbox.submit` does; without it the calling thread does, as it does for files.
        *refuse_if_short* raises StorageUnavailable if the disk is too full; *wake* is called after each commit of ours.
        With *shares_queue* others can process what we leave at the broker.
        """
        self._database = database
        self.namespace = namespace
        self._agent_name = agent_name
        self._stf_chart, self._run_chart = charts
        self._refuse_if_short = refuse_if_short
        self._queue = SharedQueue(namespace, self._is_known) if shares_queue else None
        self._clock = clock or Clock()
        self._wake = wake
        self._submit = submit or self._write_here
        self.runs = runs or TrackedRuns()
        self._counts: Counter[str] = Counter()
        """Counts of messages that are not stored, until the next transaction stores them."""
        self._counts_lock = threading.Lock()
        self._rejections = RepetitionCounter(LOG_INTERVAL_S, self._clock.monotonic)
        self._foreign_namespaces = ForeignNamespaces(namespace, self._clock.monotonic)

    def prepare_run_message(self, body: str | bytes) -> Callable[[], Future[Any]] | None:
        """As `prepare`, for a topic beside the shared queue: STFs are not ours, they only show that their run goes on.

        A malformed message is rejected by the daemon that gets it from the queue.
        """
        try:
            message = parse(body, namespace=self.namespace, agent_name=self._agent_name)
        except MalformedMessage:
            return None
        if isinstance(message, IgnoredMessage):
            return None
        if self._queue and message.has_namespace:
            self._queue.heard_own()
        run = self.runs.get(self.namespace, message.run)
        if isinstance(message, StfReady):
            message = message.as_seen()
        if message.kind == STF_SEEN:
            if run.is_stored and self._clock.monotonic() - run.seen_at < SEEN_EVERY_S:
                return None
            run.seen_at = self._clock.monotonic()
        return partial(self._ingest, message, body)

    def prepare(self, body: str | bytes) -> Callable[[], Future[Any]] | None:
        """Return the function that begins to store the message, or None if there is nothing to store.

        Acknowledge a message at None, or when its future is done; not if either raises `StorageUnavailable`.
        """
        for kind, count in self._rejections.take_ended():
            if count > 1 and kind != _kind_of(CONFLICT):  # conflicts are logged one by one, with their STFs
                logger.error("messages rejected: {} more in {:.0f} s: {}", count - 1, LOG_INTERVAL_S, kind)
        try:
            message = parse(body, namespace=self.namespace, agent_name=self._agent_name)
        except MalformedMessage as exc:
            return self._rejection(body, str(exc))
        if isinstance(message, IgnoredMessage):
            if self._queue and message.reason == "namespace":
                return partial(self._ignore_foreign, message.namespace)
            self._count_ignored(message)
            return None
        self._foreign_namespaces.heard_own()
        if self._queue:
            self._note_queue(message)
        if isinstance(message, RunEvent) and message.kind == STF_SEEN:
            run = self.runs.get(self.namespace, message.run)
            if run.is_stored and (run.is_claimed or not message.has_namespace):
                MESSAGES.labels("run").inc()
                return None
        return partial(self._ingest, message, body)

    def queue_fault(self) -> str:
        """What is wrong with the messages of the shared queue; empty if nothing is. For any thread."""
        return self._queue.fault() if self._queue else ""

    def _note_queue(self, message: StfReady | RunEvent) -> None:
        if self._queue and message.has_namespace:
            self._queue.heard_own()
        if self._queue and (isinstance(message, StfReady) or message.kind == STF_SEEN):
            self._queue.heard(is_work=isinstance(message, StfReady))

    def _is_known(self) -> bool:
        """Whether the database has a run of our namespace."""
        with closing(attach(self._database)) as outbox:
            return outbox.runs.has_claimed(self.namespace)

    def _ignore_foreign(self, namespace: str) -> Future[Any]:
        assert self._queue is not None
        decided = Future[Any]()
        try:
            self._queue.may_ignore(namespace)
        except EnoughWork as exc:
            decided.set_exception(exc)
        else:
            self._count_ignored(IgnoredMessage("namespace", namespace))
            decided.set_result(None)
        return decided

    def _count_ignored(self, message: IgnoredMessage) -> None:
        with self._counts_lock:
            self._counts[f"ignored_{message.reason}"] += 1
            MESSAGES.labels(f"ignored_{message.reason}").inc()
            if message.reason == "namespace":
                self._foreign_namespaces.heard(message.namespace)

    def _rejection(self, body: str | bytes, reason: str) -> Callable[[], Future[Any]] | None:
        """The function that stores the message; None if too many came for this reason."""
        number = self._rejections.count(_kind_of(reason))
        MESSAGES.labels("malformed").inc()
        if number == 1:
            logger.bind(error=reason).error("message rejected: {}", reason)
        if number > STORED_PER_INTERVAL:
            with self._counts_lock:
                self._counts["rejected_dropped"] += 1
            return None
        return partial(self._reject, body, reason)

    def _reject(self, body: str | bytes, reason: str) -> Future[Any]:
        return self._write(lambda outbox, now: outbox.reject(body, reason, now, MAX_REJECTED))

    def _ingest(self, message: StfReady | RunEvent, body: str | bytes) -> Future[Any]:
        run = self.runs.get(self.namespace, message.run)  # fetched before storing: a purge in between replaces it
        outcome: ReceiveOutcome | None = None

        def write(outbox: Outbox, now: datetime) -> None:
            nonlocal outcome
            if self._queue and isinstance(message, StfReady) and outbox.has_fresh_work(ENOUGH_STFS):
                raise EnoughWork(f"{ENOUGH_STFS} STFs wait")
            outcome = self.store(outbox, message)
            if outcome is ReceiveOutcome.CONFLICT:
                if self._rejections.count(_kind_of(CONFLICT)) <= STORED_PER_INTERVAL:
                    outbox.reject(body, CONFLICT, now, MAX_REJECTED)
                else:
                    outbox.count("rejected_dropped")

        def committed() -> None:
            is_event = isinstance(message, RunEvent)
            MESSAGES.labels(_OUTCOMES[outcome] if outcome else "run" if is_event else "nameless").inc()
            run.is_stored = True
            run.is_claimed |= message.has_namespace

        return self._write(write, committed)

    def handle_file(self, body: str, fingerprint: str) -> ReceiveOutcome:
        """Store the STF of a file and its *fingerprint* in one transaction; *body* is the file's `stf_ready` message.

        Raises: StorageUnavailable: a later scan must retry the file.
        """
        outcome, reason = ReceiveOutcome.KNOWN, CONFLICT

        def write(outbox: Outbox, now: datetime) -> None:
            nonlocal outcome, reason
            name = ""
            try:
                message = parse(body, namespace=self.namespace)
                assert isinstance(message, StfReady)  # the watcher makes no other kind
                outcome = self.store(outbox, message, Origin.FILE) or ReceiveOutcome.KNOWN
                name = message.filename or ""
            except MalformedMessage as exc:
                outcome, reason = ReceiveOutcome.CONFLICT, str(exc)
            if outcome is ReceiveOutcome.CONFLICT:
                outbox.reject(body, reason, now, MAX_REJECTED)
            outbox.files.add(fingerprint, name)

        self._write(write, submit=self._write_here)
        MESSAGES.labels(_OUTCOMES[outcome] if reason == CONFLICT else "malformed").inc()
        return outcome

    def _write(
        self, write: Write, committed: Callable[[], object] = lambda: None, submit: Submit | None = None
    ) -> Future[Any]:
        """Begin to write, also the counts of messages that are not stored; *committed* is called once it is on disk."""
        self._refuse_if_short()
        counts = Counter[str]()

        def write_all(outbox: Outbox, now: datetime) -> None:
            nonlocal counts
            with self._counts_lock:
                counts, self._counts = self._counts, Counter()
            for name, count in counts.items():
                outbox.count(name, count)
            write(outbox, now)

        def restore_counts() -> None:
            with self._counts_lock:
                self._counts += counts

        try:
            stored = (submit or self._submit)(write_all, committed=committed)
        except BaseException:
            restore_counts()
            raise
        stored.add_done_callback(lambda future: restore_counts() if future.exception() else None)
        return stored

    def _write_here(self, write: Write, committed: Callable[[], object] = lambda: None) -> Future[Any]:
        """Write in this thread, on a connection of its own. Raises: StorageUnavailable."""
        with closing(attach(self._database, count_committed)) as outbox, outbox.transaction():
            write(outbox, self._clock.now())
        committed()
        self._wake()
        stored = Future[Any]()
        stored.set_result(None)
        return stored

    def store(
        self, outbox: Outbox, message: StfReady | RunEvent, origin: Origin = Origin.MESSAGE
    ) -> ReceiveOutcome | None:
        """Store a message inside the caller's transaction. Returns None if it names no STF."""
        now = self._clock.now()
        for reason in message.unreadable:
            logger.bind(run=message.run).warning("run {}: message taken without a field: {}", message.run, reason)
        if isinstance(message, RunEvent):
            known = outbox.runs.get(self.namespace, message.run) if message.kind == STF_SEEN else None
            if known is None or message.has_namespace > known.claimed or self._queue:
                record_run_event(outbox, self._run_chart, message, self.namespace, now)
            return None
        row = record_run_event(outbox, self._run_chart, message.as_seen(), self.namespace, now)
        if message.filename is None:
            outbox.runs.mark_nameless(row, now)
            return None
        content = {name: getattr(message, name) for name in _CONTENT}
        new = NewStf(namespace=self.namespace, origin=origin, **content)
        outcome = outbox.receive(new, self._stf_chart.initial, now)
        outbox.count(f"stf_ready_{outcome}")
        if outcome is ReceiveOutcome.FRESH:
            record_sequence(outbox, row, message.sequence, now)
            outbox.runs.remove_absent(row, message.filename)
            logger.debug("{}: received, run {}", message.filename, message.run)
        elif outcome is ReceiveOutcome.CONFLICT:
            logger.bind(stf=message.filename, run=message.run, error=CONFLICT).error(
                "{}: rejected: duplicate with different content", message.filename
            )
        return outcome


def _kind_of(reason: str) -> str:
    return reason.partition(":")[0]
