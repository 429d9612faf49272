"""Continuous mode, put together: the watcher of the folders that the settings name, and where its files go."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing

from fastmon_daemon.base.clock import Clock
from fastmon_daemon.intake.found_files import FoundFile
from fastmon_daemon.intake.handler import MessageHandler
from fastmon_daemon.intake.seen_file_cache import SeenFileCache
from fastmon_daemon.intake.watcher import IngestResult, WatchConfig, Watcher
from fastmon_daemon.outbox import Outbox, ReceiveOutcome, attach
from fastmon_daemon.settings import Settings

_TAKEN = {
    ReceiveOutcome.FRESH: IngestResult.FRESH,
    ReceiveOutcome.KNOWN: IngestResult.KNOWN,
    ReceiveOutcome.CONFLICT: IngestResult.REJECTED,
}


def make_watcher(
    settings: Settings, intake: MessageHandler, outbox: Outbox, agent_name: str, clock: Clock
) -> Watcher | None:
    """The watcher, or None where STFs come by message."""
    if settings.mode != "continuous":
        return None

    def take(file: FoundFile) -> IngestResult:
        body = file.message(settings.namespace, agent_name)
        return _TAKEN[intake.handle_file(body, str(file.fingerprint))]

    def forget(fingerprints: Sequence[str]) -> None:
        with closing(attach(outbox.path)) as own, own.transaction():
            own.files.remove(fingerprints)

    watching = WatchConfig(
        folders=settings.watch_dirs,
        patterns=settings.file_patterns,
        scan_every_s=settings.check_interval_s,
        settled_after_s=settings.settle_s,
        lookback_s=60.0 * settings.lookback_minutes,
    )
    memory = SeenFileCache(outbox.files.all(), forget, clock.monotonic())
    return Watcher(watching, take, memory, clock)
