"""Class Presence: the lanes in which we tell of ourselves. None of them is waited for by the main job.

It must not know how anything is told.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fastmon_daemon.presence.periodic_worker import PeriodicWorker
from fastmon_daemon.presence.stages import StageReporter

EXIT_TIMEOUT_S = 1.0
"""So long a stopping daemon waits for its last words, in seconds."""


class Presence:
    """All that is told of us beside the main job."""

    def __init__(
        self, lanes: Sequence[PeriodicWorker], stages: StageReporter | None, monotonic: Callable[[], float]
    ) -> None:
        """*stages*, where they are reported, have a lane of their own beside *lanes*."""
        self._stages = stages
        self._lanes = [stages.worker, *lanes] if stages else list(lanes)
        self._monotonic = monotonic
        self._patient_until = 0.0

    def start(self) -> None:
        """Begin to tell."""
        for worker in self._lanes:
            worker.start()

    @property
    def is_reporting(self) -> bool:
        """Whether the engine should turn on for a moment: an answer that is on its way cannot be asked for again."""
        return self._stages is not None and self._stages.in_hand and self._monotonic() < self._patient_until

    @property
    def settled(self) -> bool:
        """Whether no stage report can be made now (see `look_again`)."""
        return self._stages is None or self._stages.settled

    def link_restored(self) -> None:
        """See whether there is a stage report to be made."""
        if self._stages:
            self._stages.retry_now()

    def announce_stop(self) -> None:
        """Begin nothing new; returns at once."""
        self._patient_until = self._monotonic() + EXIT_TIMEOUT_S
        if self._stages:
            self._stages.worker.stop()

    def stop(self, deadline_s: float) -> None:
        """Say goodbye; returns within *deadline_s* seconds, or `EXIT_TIMEOUT_S`, whether it was heard or not."""
        until = self._monotonic() + min(EXIT_TIMEOUT_S, deadline_s)
        for worker in self._lanes:
            worker.stop()
        for worker in self._lanes:
            worker.join(until - self._monotonic())
