"""What a file in a watched folder is: its run, its fingerprint, its checksum, and the message that announces it.

It must not know when a file is complete, nor who takes it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from loguru import logger

from fastmon_daemon.clock import stamp
from fastmon_daemon.messages import sequence_in

_CHUNK = 4 * 1024 * 1024
PROGRESS_S = 2.0
"""Seconds between two lines on the progress of a checksum."""
_RUNS = (
    re.compile(r"(?:^|[^a-z0-9])run[_-]?(\d+)", re.IGNORECASE),
    re.compile(r"(?:^|[^a-z0-9])r(\d+)(?![a-z0-9])", re.IGNORECASE),
    re.compile(r"^[a-z][a-z0-9_-]*\.(\d+)\.\d+\.[^.]+$", re.IGNORECASE),
)
"""`run_12345`, `run12345`; `r12345`; `swf.12345.000001.stf`."""


class Fingerprint(NamedTuple):
    """What a file keeps when it is renamed, and loses when it is written: device, inode, bytes, mtime in ns."""

    device: int
    inode: int
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, path: Path) -> Fingerprint:
        """The fingerprint of the file at *path*. Raises `OSError`."""
        stat = path.stat()
        return cls(stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns)

    def __str__(self) -> str:
        return ":".join(map(str, self))


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundFile:
    """A complete STF file."""

    path: Path
    folder: Path
    """The watched folder that it lies in, at whatever depth."""
    fingerprint: Fingerprint
    run: int
    checksum: str | None = None

    def message(self, namespace: str, sender: str, base_url: str) -> str:
        """The `stf_ready` that a data agent would have sent, with path, URL and time of the file."""
        written = datetime.fromtimestamp(self.fingerprint.mtime_ns / 1e9, UTC)
        below = quote(self.path.relative_to(self.folder).as_posix())
        return json.dumps({
            "msg_type": "stf_ready", "namespace": namespace, "sender": sender, "run_id": self.run,
            "filename": self.path.name, "sequence": sequence_in(self.path.name),
            "size_bytes": self.fingerprint.size, "checksum": self.checksum,
            "file_url": f"{base_url.rstrip('/')}/{below}" if base_url else self.path.absolute().as_uri(),
            "original_path": str(self.path.absolute()), "modified_at": stamp(written),
        })  # fmt: skip


def run_in(filename: str) -> int | None:
    """The run number that a file's name carries, or None."""
    found = next((match for pattern in _RUNS if (match := pattern.search(filename))), None)
    return int(found[1]) if found and len(found[1]) <= 10 else None


def checksum(path: Path, algorithm: str, monotonic: Callable[[], float] = time.monotonic) -> str | None:
    """The checksum of a file, read piece by piece, with progress in the log; None for *algorithm* `off`.

    Raises `OSError` where the file cannot be read.
    """
    if algorithm == "off":
        os.close(os.open(path, os.O_RDONLY))  # the file is to be readable in any case
        return None
    digest, done, said_at = hashlib.new(algorithm, usedforsecurity=False), 0, monotonic()
    size = path.stat().st_size
    with path.open("rb") as file:
        while piece := file.read(_CHUNK):
            digest.update(piece)
            done += len(piece)
            if monotonic() - said_at >= PROGRESS_S:
                said_at = monotonic()
                logger.info("{}: checksum of {} of {} MB", path.name, done // 1_000_000, size // 1_000_000)
    return digest.hexdigest()
