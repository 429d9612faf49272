"""What happens with each message: parsed, stored in one transaction, and only then acknowledged by whoever brought it.

It must not know STOMP, or how an STF is processed. It runs on the broker's thread, and opens a connection of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from loguru import logger

from fastmon_daemon.clock import Clock
from fastmon_daemon.errors import BadMessage
from fastmon_daemon.ledger import hear_run, hear_sequence, look_soon
from fastmon_daemon.lifecycle import Chart
from fastmon_daemon.messages import HEAR_STF, Foreign, RunNews, StfReady, parse
from fastmon_daemon.outbox import Arrival, NewStf, Origin, Outbox, Room, attach

REJECTED_KEPT = 1000
"""Rows that are kept of messages that could not be read."""


class Intake:
    """The door: takes message bodies, keeps what is ours."""

    def __init__(self, database: Path, namespace: str, agent_name: str, charts: tuple[Chart, Chart]) -> None:
        """*charts* are those of the STF and of the run."""
        self._database = database
        self.namespace = namespace
        self._agent_name = agent_name
        self._stf_chart, self._run_chart = charts
        self.room: Room | None = None
        """What is to be asked before anything is stored; None: nothing is."""
        self.clock = Clock()
        self.wake: Callable[[], None] = lambda: None
        self._forgotten: Counter[str] = Counter()
        self._known_runs: set[str] = set()
        """Of these a mere sign that they go on says nothing new."""

    def accept(self, body: str | bytes) -> None:
        """Store what the message says, if it is for us. Returns only when it is on disk.

        Raises `StorageFault` where it could not be stored: then do not acknowledge it.
        """
        if store := self.read(body):
            store()

    def read(self, body: str | bytes) -> Callable[[], None] | None:
        """What stores the message, in one transaction; None where nothing of it is to be stored: acknowledge it.

        Else acknowledge it when that function has returned, and not where it raised `StorageFault`.
        """
        try:
            message = parse(body, namespace=self.namespace, agent_name=self._agent_name)
        except BadMessage as exc:
            return partial(self._refuse, body, str(exc))
        if isinstance(message, Foreign):
            self._forgotten[f"foreign_{message.why}"] += 1
            return None
        if isinstance(message, RunNews) and message.kind == HEAR_STF and message.run in self._known_runs:
            return None
        return partial(self._take_in, message, body)

    def forget_run(self, run: str) -> None:
        """A person had it forgotten: any sign of it is news."""
        self._known_runs.discard(run)

    def _refuse(self, body: str | bytes, reason: str) -> None:
        with self._writing() as outbox:
            outbox.refuse(body, reason, self.clock.now(), REJECTED_KEPT)
        logger.error("refused a message: {}", reason)

    def _take_in(self, message: StfReady | RunNews, body: str | bytes) -> None:
        with self._writing() as outbox:
            if self.store(outbox, message) is Arrival.CONFLICT:
                reason = "conflict: this STF was received with another size, checksum or tf_count"
                outbox.refuse(body, reason, self.clock.now(), REJECTED_KEPT)
        self._known_runs.add(message.run)  # now that it is on disk
        self.wake()

    def accept_file(self, body: str, fingerprint: str) -> Arrival:
        """Store the STF of a file, *body* being the message that announces it; the file is remembered with it.

        Raises `StorageFault` where it could not be stored: then it is to be found again.
        """
        name = ""
        with self._writing() as outbox:
            try:
                message = parse(body, namespace=self.namespace)
                assert isinstance(message, StfReady)  # the watcher writes no other
                arrival = self.store(outbox, message, Origin.FILE) or Arrival.KNOWN
                name = message.filename or ""
                reason = "conflict: this STF was received with another size, checksum or tf_count"
            except BadMessage as exc:
                arrival, reason = Arrival.CONFLICT, str(exc)
            if arrival is Arrival.CONFLICT:
                outbox.refuse(body, reason, self.clock.now(), REJECTED_KEPT)
            outbox.files.remember(fingerprint, name)
        self.wake()
        return arrival

    @contextmanager
    def _writing(self) -> Iterator[Outbox]:
        """One transaction on a connection of its own; what was forgotten meanwhile is counted with it."""
        if self.room is not None:
            self.room.refuse_if_short()
        outbox = attach(self._database)
        try:
            forgotten = Counter(self._forgotten)  # the broker's thread may count on meanwhile
            with outbox.transaction():
                for what, count in forgotten.items():
                    outbox.count(what, count)
                yield outbox
            self._forgotten -= forgotten
        finally:
            outbox.close()

    def store(self, outbox: Outbox, message: StfReady | RunNews, origin: Origin = Origin.MESSAGE) -> Arrival | None:
        """Write down what a message says, inside the caller's transaction; None where it names no STF."""
        now = self.clock.now()
        if isinstance(message, RunNews):
            if message.kind != HEAR_STF or outbox.runs.get(self.namespace, message.run) is None:
                hear_run(outbox, self._run_chart, message, self.namespace, now)
            return None
        run = RunNews(kind=HEAR_STF, run_id=message.run_id, execution_id=message.execution_id)
        row = hear_run(outbox, self._run_chart, run, self.namespace, now)
        if message.filename is None:
            look_soon(outbox, row, now)
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
        arrival = outbox.receive(new, self._stf_chart.initial, now)
        outbox.count(f"stf_ready_{arrival}")
        if arrival is Arrival.FRESH:
            hear_sequence(outbox, row, message.sequence, now)
            logger.info("{}: received, run {}", message.filename, message.run)
        elif arrival is Arrival.CONFLICT:
            logger.error("{}: came again with other content: kept aside", message.filename)
        return arrival
