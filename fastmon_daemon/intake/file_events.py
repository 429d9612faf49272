"""Events of the file system: which files something was done to. It must not know what they are."""

from __future__ import annotations

import queue
from collections.abc import Iterable
from os import fsdecode
from pathlib import Path

from loguru import logger
from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver

Touched = queue.SimpleQueue[tuple[Path, Path]]
"""Files, each with the watched folder that it lies in."""


def observing(folders: Iterable[Path], touched: Touched) -> BaseObserver | None:
    """What puts the files of *folders* into *touched*, until it is stopped; None where there are no events."""
    observer = Observer()
    try:
        for folder in folders:
            observer.schedule(_Events(folder, touched), str(folder), recursive=True)
        observer.start()
    except Exception as exc:  # noqa: BLE001 (for example the limit of watches; whatever it is, the scans go on)
        reason = exc.strerror if isinstance(exc, OSError) else exc
        logger.warning("no events of the file system ({}): files are found by the scans alone", reason)
        return None
    return observer


class _Events(FileSystemEventHandler):
    """Tells of the files of one folder."""

    def __init__(self, folder: Path, touched: Touched) -> None:
        self._folder = folder
        self._touched = touched

    def on_any_event(self, event: FileSystemEvent) -> None:
        """Note the path that the file has now."""
        if event.event_type in {"created", "modified", "moved", "closed"} and not event.is_directory:
            self._touched.put((Path(fsdecode(event.dest_path or event.src_path)), self._folder))
