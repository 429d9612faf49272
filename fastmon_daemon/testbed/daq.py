"""A DAQ with its data agent: plays one run, message by message and registration by registration.

Owns the order of things. Messages and registrations leave by one thread each, so that neither holds up the other. It
must not know the daemon.
"""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from fastmon_daemon.base.clock import Clock
from fastmon_daemon.base.errors import TransientError
from fastmon_daemon.settings import Settings
from fastmon_daemon.testbed.daq_links import Registrar, Topic
from fastmon_daemon.testbed.daq_messages import RunMessages, stf_name


class DataAgent(StrEnum):
    """Whose order of things is played."""

    EXAMPLE = "example"
    """One ``stf_ready`` per STF, after its registration."""
    REAL = "real"
    """One ``stf_ready`` for the run, without a filename, before the first STF is registered."""


@dataclass(frozen=True, kw_only=True)
class RunPlan:
    """The run to be played."""

    stf: int
    """How many STFs."""
    rate_hz: float
    """STFs per second."""
    run: int | None = None
    """Run number; None takes the monitor's next one."""
    data_agent: DataAgent = DataAgent.EXAMPLE
    late_s: float | None = None
    """Seconds between ``stf_ready`` and the registration of its STF; None is the data agent's own order."""
    size: int | None = None
    """Bytes of each STF."""


@dataclass(kw_only=True)
class Played:
    """What has been done so far."""

    run: int = 0
    generated: int = 0
    registered: int = 0
    ready: int = 0
    """``stf_ready`` messages that the broker has."""
    messages: int = 0
    """Messages of all kinds that the broker has."""
    seconds: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """The numbers by name."""
        return asdict(self)


class Daq:
    """Plays one run. *stopping* ends it early, from any thread."""

    def __init__(self, settings: Settings, plan: RunPlan, clock: Clock, stopping: threading.Event) -> None:
        self.played = Played()
        self._settings = settings
        self._plan = plan
        self._clock = clock
        self._stopping = stopping
        self._topic = Topic(settings, stopping)
        self._registrar = Registrar(settings, stopping)
        self._sender = ThreadPoolExecutor(1, thread_name_prefix="daq-messages")
        self._clerk = ThreadPoolExecutor(1, thread_name_prefix="daq-registrations")
        self._owed: deque[Future[Any]] = deque()

    def play(self) -> Played:
        """Play the run to its end: everything is sent and registered, however long broker or monitor are away.

        Raises `TransientError` when it was stopped before; `PermanentError` where the monitor refuses us.
        """
        began = self._clock.monotonic()
        try:
            self._play()
        finally:
            self._leave()
            self.played.seconds = round(self._clock.monotonic() - began, 2)
        return self.played

    def _play(self) -> None:
        run = self._plan.run if self._plan.run is not None else self._registrar.next_run_number()
        self.played.run = run
        now = self._clock.now
        messages = RunMessages(namespace=self._settings.namespace, run=run, size=self._plan.size, began=now(), now=now)
        self._say(messages.run_imminent())
        key = self._clerk.submit(self._registrar.register_run, run, messages.local_time())
        self._say(messages.start_run())
        self._take_data(messages, key)
        self._settle()
        self._say(messages.end_run(self._plan.stf))
        self._owed.append(self._clerk.submit(self._registrar.end_run, key.result(), messages.local_time()))
        self._settle()

    def _take_data(self, messages: RunMessages, key: Future[int]) -> None:
        look = None
        began = self._clock.monotonic()
        for sequence in range(1, self._plan.stf + 1):
            if sequence == self._plan.stf // 2 + 1:
                self._say(messages.pause_run())
                self._say(messages.resume_run())
            self._wait(began + sequence / self._plan.rate_hz - self._clock.monotonic())
            self._say(messages.stf_gen(sequence))
            self.played.generated += 1
            if self._plan.data_agent is DataAgent.REAL:
                look = look or self._say(messages.run_ready(), ready=True)
                self._owed.append(self._clerk.submit(self._register, messages, sequence, key, look))
            elif self._plan.late_s is not None:
                announced = self._say(messages.stf_ready(sequence), ready=True)
                self._owed.append(self._clerk.submit(self._register, messages, sequence, key, announced))
            else:
                self._owed.append(self._clerk.submit(self._register_then_say, messages, sequence, key))

    def _say(self, message: dict[str, Any], *, ready: bool = False) -> Future[float]:
        """Send *message* in its turn; the future gives the monotonic time at which the broker had it."""
        sent = self._sender.submit(self._send, message, ready)
        self._owed.append(sent)
        return sent

    def _send(self, message: dict[str, Any], ready: bool) -> float:
        self._topic.send(message)
        self.played.messages += 1
        self.played.ready += ready
        return self._clock.monotonic()

    def _register(self, messages: RunMessages, sequence: int, key: Future[int], announced: Future[float]) -> None:
        """Register an STF after its ``stf_ready``, as late as the plan has it."""
        due = announced.result() + (self._plan.late_s or 0.0)
        self._wait(due - self._clock.monotonic())
        self._registrar.register_stf(key.result(), stf_name(messages.run, sequence), self._plan.size)
        self.played.registered += 1

    def _register_then_say(self, messages: RunMessages, sequence: int, key: Future[int]) -> None:
        self._registrar.register_stf(key.result(), stf_name(messages.run, sequence), self._plan.size)
        self.played.registered += 1
        self._say(messages.stf_ready(sequence), ready=True)

    def _settle(self) -> None:
        """Wait for all that is owed; what is done may owe more."""
        while self._owed:
            self._owed.popleft().result()

    def _wait(self, seconds: float) -> None:
        if self._stopping.wait(max(0.0, seconds)):
            raise TransientError("stopped before the run was played to its end")

    def _leave(self) -> None:
        """Let nothing go on: after a run played to its end nothing does."""
        self._stopping.set()
        for pool in (self._clerk, self._sender):
            pool.shutdown(wait=False, cancel_futures=True)
        self._topic.close()
        for pool in (self._clerk, self._sender):
            pool.shutdown(wait=True)
        self._topic.close()  # again: the sender may have been connecting just then
        self._registrar.close()
