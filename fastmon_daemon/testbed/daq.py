"""The DAQ and its data agent: plays one run, that is, sends its messages and registers its STFs.

Messages and registrations leave by one thread each, so that neither delays the other.
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
    """Which data agent is played; they differ in ``stf_ready``."""

    EXAMPLE = "example"
    """One ``stf_ready`` per STF, after its registration."""
    REAL = "real"
    """One ``stf_ready`` per run, without a filename, before the first STF is registered."""


@dataclass(frozen=True, kw_only=True)
class RunPlan:
    """The run to play."""

    stf: int
    """Number of STFs."""
    rate_hz: float
    """STFs per second."""
    run: int | None = None
    """Run number; None requests the next one from the monitor."""
    data_agent: DataAgent = DataAgent.EXAMPLE
    late_s: float | None = None
    """Seconds from ``stf_ready`` to the registration of its STF; None keeps the data agent's own order."""
    size: int | None = None
    """Bytes of each STF."""


@dataclass(kw_only=True)
class DaqProgress:
    """What the DAQ has done so far."""

    run: int = 0
    generated: int = 0
    registered: int = 0
    ready: int = 0
    """``stf_ready`` messages that the broker has confirmed."""
    messages: int = 0
    """Messages of all kinds that the broker has confirmed."""
    seconds: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """All numbers, by field name."""
        return asdict(self)


class Daq:
    """Plays one run. *stopping* ends it early, from any thread."""

    def __init__(self, settings: Settings, plan: RunPlan, clock: Clock, stopping: threading.Event) -> None:
        self.progress = DaqProgress()
        self._settings = settings
        self._plan = plan
        self._clock = clock
        self._stopping = stopping
        self._topic = Topic(settings, stopping)
        self._registrar = Registrar(settings, stopping)
        self._message_thread = ThreadPoolExecutor(1, thread_name_prefix="daq-messages")
        self._registration_thread = ThreadPoolExecutor(1, thread_name_prefix="daq-registrations")
        self._pending: deque[Future[Any]] = deque()

    def play(self) -> DaqProgress:
        """Send and register everything, however long the broker or the monitor is down.

        Raises: TransientError if it was stopped early; PermanentError if the monitor rejects a request.
        """
        began = self._clock.monotonic()
        try:
            self._play()
        finally:
            self._close()
            self.progress.seconds = round(self._clock.monotonic() - began, 2)
        return self.progress

    def _play(self) -> None:
        run = self._plan.run if self._plan.run is not None else self._registrar.next_run_number()
        self.progress.run = run
        now = self._clock.now
        messages = RunMessages(namespace=self._settings.namespace, run=run, size=self._plan.size, began=now(), now=now)
        execution_id = messages.execution_id
        self._registrar.register_execution(  # first: agents ask for it as soon as they hear of the run
            execution_id, self._settings.namespace, messages.local_time(), stf=self._plan.stf
        )
        self._send_later(messages.run_imminent())
        run_key = self._registration_thread.submit(self._registrar.register_run, run, messages.local_time())
        self._send_later(messages.start_run())
        self._take_data(messages, run_key)
        self._wait_for_pending()
        self._send_later(messages.end_run(self._plan.stf))
        self._register_later(self._registrar.end_run, run_key.result(), messages.local_time())
        self._wait_for_pending()  # the execution ends after its last message
        self._register_later(self._registrar.end_execution, execution_id, messages.local_time())
        self._wait_for_pending()

    def _take_data(self, messages: RunMessages, run_key: Future[int]) -> None:
        run_ready = None
        began = self._clock.monotonic()
        for sequence in range(1, self._plan.stf + 1):
            if sequence == self._plan.stf // 2 + 1:
                self._send_later(messages.pause_run())
                self._send_later(messages.resume_run())
            self._wait(began + sequence / self._plan.rate_hz - self._clock.monotonic())
            self._send_later(messages.stf_gen(sequence))
            self.progress.generated += 1
            if self._plan.data_agent is DataAgent.REAL:
                run_ready = run_ready or self._send_later(messages.run_ready(), ready=True)
                self._register_later(self._register, messages, sequence, run_key, run_ready)
            elif self._plan.late_s is not None:
                stf_ready = self._send_later(messages.stf_ready(sequence), ready=True)
                self._register_later(self._register, messages, sequence, run_key, stf_ready)
            else:
                self._register_later(self._register_then_announce, messages, sequence, run_key)

    def _send_later(self, message: dict[str, Any], *, ready: bool = False) -> Future[float]:
        """Queue *message*; the future gives the monotonic time at which the broker confirmed it."""
        sent = self._message_thread.submit(self._send, message, ready)
        self._pending.append(sent)
        return sent

    def _register_later(self, *call: Any) -> None:
        self._pending.append(self._registration_thread.submit(*call))

    def _send(self, message: dict[str, Any], ready: bool) -> float:
        self._topic.send(message)
        self.progress.messages += 1
        self.progress.ready += ready
        return self._clock.monotonic()

    def _register(self, messages: RunMessages, sequence: int, run_key: Future[int], ready: Future[float]) -> None:
        """Register an STF after its ``stf_ready``, as late as the plan says."""
        self._wait(ready.result() + (self._plan.late_s or 0.0) - self._clock.monotonic())
        self._registrar.register_stf(run_key.result(), stf_name(messages.run, sequence), self._plan.size)
        self.progress.registered += 1

    def _register_then_announce(self, messages: RunMessages, sequence: int, run_key: Future[int]) -> None:
        self._registrar.register_stf(run_key.result(), stf_name(messages.run, sequence), self._plan.size)
        self.progress.registered += 1
        self._send_later(messages.stf_ready(sequence), ready=True)

    def _wait_for_pending(self) -> None:
        """Wait for everything that is queued; a registration may queue a message."""
        while self._pending:
            self._pending.popleft().result()

    def _wait(self, seconds: float) -> None:
        if self._stopping.wait(max(0.0, seconds)):
            raise TransientError("stopped before the end of the run")

    def _close(self) -> None:
        """End both threads and close the connections; after a complete run both threads are idle."""
        self._stopping.set()
        pools = (self._registration_thread, self._message_thread)
        for pool in pools:
            pool.shutdown(wait=False, cancel_futures=True)
        self._topic.close()
        for pool in pools:
            pool.shutdown(wait=True)
        self._topic.close()  # again: the message thread may have been connecting
        self._registrar.close()
