"""Class Presence: starts and stops the reporters of the daemon. The processing of STFs never waits for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fastmon_daemon.presence.log_shipping import LogShipper
from fastmon_daemon.presence.periodic_worker import PeriodicWorker
from fastmon_daemon.presence.stages import StageReporter
from fastmon_daemon.presence.status import StatusPublisher

EXIT_TIMEOUT_S = 1.0
"""Seconds that a stopping daemon waits for the last reports."""


class Presence:
    """All reporters, each with its own thread."""

    def __init__(
        self,
        workers: Sequence[PeriodicWorker],
        stages: StageReporter | None,
        monotonic: Callable[[], float],
        status: StatusPublisher | None = None,
        shipper: LogShipper | None = None,
    ) -> None:
        """*stages*, if stages are reported, has a worker of its own beside *workers*, which run the others."""
        self._status = status
        self._shipper = shipper
        self._stages = stages
        self._workers = [stages.worker, *workers] if stages else list(workers)
        self._monotonic = monotonic
        self._deadline = 0.0

    def start(self) -> None:
        """Start all workers."""
        for worker in self._workers:
            worker.start()

    def tell(self, text: str) -> None:
        """Publish *text* as a status message, if status is published. For any thread."""
        if self._status is not None:
            self._status.tell(text)

    def ship_logs_from(self, level: str) -> None:
        """Ship log lines of *level* and above, if any are shipped."""
        if self._shipper is not None:
            self._shipper.begin(level)

    @property
    def is_reporting(self) -> bool:
        """Whether the engine should go on ticking, so that the answer to a stage report in flight can be stored."""
        return self._stages is not None and self._stages.in_flight and self._monotonic() < self._deadline

    @property
    def is_settled(self) -> bool:
        """Whether no stage report can be sent now (see `report_now`)."""
        return self._stages is None or self._stages.is_settled

    def wake_stages(self) -> None:
        """Report the transitions that were made since; cheap, and may be called after each tick of the engine."""
        if self._stages:
            self._stages.worker.wake()

    def report_now(self) -> None:
        """Start a round of stage reports; `is_settled` tells when it has ended."""
        if self._stages:
            self._stages.report_now()

    def announce_stop(self) -> None:
        """Start no new stage report; returns at once."""
        self._deadline = self._monotonic() + EXIT_TIMEOUT_S
        if self._stages:
            self._stages.worker.stop()

    def stop(self, deadline_s: float) -> None:
        """Send the last reports; returns within *deadline_s* or `EXIT_TIMEOUT_S` seconds, sent or not."""
        until = self._monotonic() + min(EXIT_TIMEOUT_S, deadline_s)
        for worker in self._workers:
            worker.stop()
        for worker in self._workers:
            worker.join(until - self._monotonic())
