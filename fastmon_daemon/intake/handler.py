"""What happens with each message: parsed, stored in one transaction, and only then acknowledged by whoever brought it.

It must not know STOMP, or how an STF is processed. It runs on the broker's thread, and opens a connection of its own.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

from loguru import logger

from fastmon_daemon.base.clock import Clock
from fastmon_daemon.base.errors import MalformedMessage
from fastmon_daemon.messages import STF_HEARD, IgnoredMessage, RunEvent, StfReady, parse
from fastmon_daemon.outbox import NewStf, Origin, Outbox, ReceiveOutcome, attach
from fastmon_daemon.runs.run_events import record_run_event, record_sequence
from fastmon_daemon.runs.tracked_runs import TrackedRuns
from fastmon_daemon.statechart import StateMachine

CONFLICT = "conflict: this STF was received with another size, checksum or tf_count"


class _Ignored:
    """How many messages were not for us, until that is on disk. Callable from any thread: each one is counted once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()

    def add(self, what: str) -> None:
        """One more of this kind."""
        with self._lock:
            self._counts[what] += 1

    @contextmanager
    def taken(self) -> Iterator[Counter[str]]:
        """All of them, for the block alone, which writes them down; where it fails, they are counted the next time."""
        with self._lock:
            counts, self._counts = self._counts, Counter()
        try:
            yield counts
        except BaseException:
            with self._lock:
                self._counts += counts
            raise


REJECTED_KEPT = 1000
"""Rows that are kept of messages that could not be read."""


class MessageHandler:
    """The door: takes message bodies, keeps what is ours."""

    def __init__(  # noqa: PLR0913 (all by name but the first four)
        self,
        database: Path,
        namespace: str,
        agent_name: str,
        charts: tuple[StateMachine, StateMachine],
        *,
        runs: TrackedRuns | None = None,
        refuse_if_short: Callable[[], None] = lambda: None,
        wake: Callable[[], None] = lambda: None,
        clock: Clock | None = None,
    ) -> None:
        """*charts* are those of the STF and of the run; *runs* is shared with the ledger, where there is one.

        *refuse_if_short* raises StorageUnavailable where no more may be stored; *wake* is called after each commit.
        """
        self._database = database
        self.namespace = namespace
        self._agent_name = agent_name
        self._stf_chart, self._run_chart = charts
        self._refuse_if_short = refuse_if_short
        self._clock = clock or Clock()
        self._wake = wake
        self.runs = runs or TrackedRuns()
        self._ignored = _Ignored()

    def handle(self, body: str | bytes) -> None:
        """Store what the message says, if it is for us. Returns only when it is on disk.

        Raises `StorageUnavailable` where it could not be stored: then do not acknowledge it.
        """
        if store := self.prepare(body):
            store()

    def prepare(self, body: str | bytes) -> Callable[[], None] | None:
        """What stores the message, in one transaction; None where nothing of it is to be stored: acknowledge it.

        Else acknowledge it when that function has returned, and not where it raised `StorageUnavailable`.
        """
        try:
            message = parse(body, namespace=self.namespace, agent_name=self._agent_name)
        except MalformedMessage as exc:
            return partial(self._reject, body, str(exc))
        if isinstance(message, IgnoredMessage):
            self._ignored.add(f"ignored_{message.reason}")
            return None
        is_sign = isinstance(message, RunEvent) and message.kind == STF_HEARD
        if is_sign and self.runs.get(self.namespace, message.run).is_stored:
            return None
        return partial(self._ingest, message, body)

    def _reject(self, body: str | bytes, reason: str) -> None:
        with self._writing() as outbox:
            outbox.reject(body, reason, self._clock.now(), REJECTED_KEPT)
        logger.error("rejected a message: {}", reason)

    def _ingest(self, message: StfReady | RunEvent, body: str | bytes) -> None:
        run = self.runs.get(self.namespace, message.run)  # before it is stored: a purge since then is none of it
        with self._writing() as outbox:
            if self.store(outbox, message) is ReceiveOutcome.CONFLICT:
                outbox.reject(body, CONFLICT, self._clock.now(), REJECTED_KEPT)
        run.is_stored = True
        self._wake()

    def handle_file(self, body: str, fingerprint: str) -> ReceiveOutcome:
        """Store the STF of a file, *body* being the message that announces it; the file is remembered with it.

        Raises `StorageUnavailable` where it could not be stored: then it is to be found again.
        """
        name = ""
        with self._writing() as outbox:
            try:
                message = parse(body, namespace=self.namespace)
                assert isinstance(message, StfReady)  # the watcher writes no other
                outcome = self.store(outbox, message, Origin.FILE) or ReceiveOutcome.KNOWN
                name = message.filename or ""
                reason = CONFLICT
            except MalformedMessage as exc:
                outcome, reason = ReceiveOutcome.CONFLICT, str(exc)
            if outcome is ReceiveOutcome.CONFLICT:
                outbox.reject(body, reason, self._clock.now(), REJECTED_KEPT)
            outbox.files.add(fingerprint, name)
        self._wake()
        return outcome

    @contextmanager
    def _writing(self) -> Iterator[Outbox]:
        """One transaction on a connection of its own; what was ignored meanwhile is counted with it."""
        self._refuse_if_short()
        with closing(attach(self._database)) as outbox, self._ignored.taken() as ignored, outbox.transaction():
            for what, count in ignored.items():
                outbox.count(what, count)
            yield outbox

    def store(
        self, outbox: Outbox, message: StfReady | RunEvent, origin: Origin = Origin.MESSAGE
    ) -> ReceiveOutcome | None:
        """Write down what a message says, inside the caller's transaction; None where it names no STF."""
        now = self._clock.now()
        if isinstance(message, RunEvent):
            if message.kind != STF_HEARD or outbox.runs.get(self.namespace, message.run) is None:
                record_run_event(outbox, self._run_chart, message, self.namespace, now)
            return None
        run = RunEvent(kind=STF_HEARD, run_id=message.run_id, execution_id=message.execution_id)
        row = record_run_event(outbox, self._run_chart, run, self.namespace, now)
        if message.filename is None:
            outbox.runs.mark_nameless(row, now)
            return None
        new = NewStf(
            namespace=self.namespace,
            run_id=message.run_id,
            filename=message.filename,
            sequence=message.sequence,
            size_bytes=message.size_bytes,
            checksum=message.checksum,
            tf_count=message.tf_count,
            execution_id=message.execution_id,
            body=message.body,
            origin=origin,
        )
        outcome = outbox.receive(new, self._stf_chart.initial, now)
        outbox.count(f"stf_ready_{outcome}")
        if outcome is ReceiveOutcome.FRESH:
            record_sequence(outbox, row, message.sequence, now)
            outbox.runs.remove_absent(row, message.filename)
            logger.info("{}: received, run {}", message.filename, message.run)
        elif outcome is ReceiveOutcome.CONFLICT:
            logger.error("{}: came again with other content: kept aside", message.filename)
        return outcome
