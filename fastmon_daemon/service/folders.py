"""Continuous mode, put together: the watcher of the folders that the settings name, and where its files go."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing

from fastmon_daemon.clock import Clock
from fastmon_daemon.intake import Intake
from fastmon_daemon.outbox import Arrival, Outbox, attach
from fastmon_daemon.settings import Settings
from fastmon_daemon.watching import FoundFile, Memory, Taken, Watcher, Watching

_TAKEN = {Arrival.FRESH: Taken.FRESH, Arrival.KNOWN: Taken.KNOWN, Arrival.CONFLICT: Taken.REFUSED}


def make_watcher(settings: Settings, intake: Intake, outbox: Outbox, agent_name: str, clock: Clock) -> Watcher | None:
    """The watcher, or None where STFs come by message."""
    if settings.mode != "continuous":
        return None

    def take(file: FoundFile) -> Taken:
        body = file.message(settings.namespace, agent_name)
        return _TAKEN[intake.accept_file(body, str(file.fingerprint))]

    def forget(fingerprints: Sequence[str]) -> None:
        with closing(attach(outbox.path)) as own, own.transaction():
            own.files.forget(fingerprints)

    watching = Watching(
        folders=settings.watch_dirs,
        patterns=settings.file_patterns,
        scan_every_s=settings.check_interval_s,
        settled_after_s=settings.settle_s,
        lookback_s=60.0 * settings.lookback_minutes,
    )
    memory = Memory(outbox.files.taken(), forget, clock.monotonic())
    return Watcher(watching, take, memory, clock)
