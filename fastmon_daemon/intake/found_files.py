"""An STF file in a watched folder: its run number, its fingerprint, and the `stf_ready` message made of it."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from os import fsencode
from pathlib import Path
from typing import NamedTuple

from fastmon_daemon.base.clock import format_timestamp
from fastmon_daemon.messages import sequence_in

_RUNS = (
    re.compile(r"(?:^|[^a-z0-9])run[_-]?(\d+)", re.IGNORECASE),
    re.compile(r"(?:^|[^a-z0-9])r(\d+)(?![a-z0-9])", re.IGNORECASE),
    re.compile(r"^[a-z][a-z0-9_-]*\.(\d+)\.\d+\.[^.]+$", re.IGNORECASE),
)
"""`run_12345`, `run12345`; `r12345`; `swf.12345.000001.stf`."""


class Fingerprint(NamedTuple):
    """Identity of a file: survives renaming, changes with each write. Size in bytes, mtime in ns."""

    device: int
    inode: int
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Fingerprint:
        """Return the fingerprint of the file with this status."""
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)

    def __str__(self) -> str:
        return ":".join(map(str, self))


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundFile:
    """A complete STF file."""

    path: Path
    fingerprint: Fingerprint
    run: int

    def message(self, namespace: str, sender: str) -> str:
        """Return the `stf_ready` (JSON) that a data agent would have sent, with path, URL and time of the file.

        Bytes of the path that are not UTF-8 are exact in the URL only; a time beyond year 9999 is null.
        """
        path = self.path.absolute()
        return json.dumps({
            "msg_type": "stf_ready", "namespace": namespace, "sender": sender, "run_id": self.run,
            "filename": self.path.name, "sequence": sequence_in(self.path.name, self.run),
            "size_bytes": self.fingerprint.size, "checksum": None,
            "file_url": path.as_uri(), "original_path": fsencode(path).decode(errors="backslashreplace"),
            "modified_at": _timestamp(self.fingerprint.mtime_ns),
        })  # fmt: skip


def _timestamp(ns: int) -> str | None:
    try:
        return format_timestamp(datetime.fromtimestamp(ns / 1e9, UTC))
    except (ValueError, OverflowError, OSError):
        return None


def run_in(filename: str) -> int | None:
    """Return the run number in a file name, or None."""
    found = next((match for pattern in _RUNS if (match := pattern.search(filename))), None)
    return int(found[1]) if found and len(found[1]) <= 10 else None
