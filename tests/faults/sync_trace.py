"""Parses strace output: how much of the write-ahead log was synced before each ACK was sent."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

_LINE = re.compile(r"(?P<thread>\d+) +(?P<rest>.*)")
_WRITE = re.compile(r"pwrite64\(\d+<[^>]*-wal>.*, (?P<length>\d+), (?P<offset>\d+)(\) += +(?P<done>\d+)| <unfinished)")
_SYNC = re.compile(r"f(data)?sync\(\d+<[^>]*-wal>(?P<whole>\) += 0)?")
_ACK = re.compile(r'(sendto|write)\(\d+<[^>]*>, "ACK\\nid:(?P<id>(?:[^\\]|\\\\c)+)\\n')
_RESUMED = re.compile(r"<\.\.\. (?P<call>\w+) resumed>.*= (?P<result>\d+)")


def command(trace: Path) -> list[str] | None:
    """Return the command that runs a program, still as our child, and traces it to *trace*; None if strace fails."""
    strace = shutil.which("strace")
    if strace is None:
        return None
    calls = "trace=pwrite64,fdatasync,fsync,sendto,write"
    words = [strace, "-D", "-f", "-qq", "-y", "-s", "120", "-e", calls, "-o", str(trace)]
    trial = subprocess.run([*words, sys.executable, "-c", ""], capture_output=True, timeout=60, check=False)
    return words if trial.returncode == 0 and not trial.stderr else None


def synced_before_acks(lines: Iterable[str]) -> tuple[dict[str, int], int]:
    """Return ACK id -> bytes of the log that were synced when the ACK was sent, and the bytes synced at the end.

    A byte is synced if its write had returned before a sync began that has returned, too.
    """
    written = synced = 0
    pending: dict[str, int] = {}
    acks: dict[str, int] = {}
    for line in lines:
        match = _LINE.match(line)
        if match is None:
            continue
        thread, rest = match["thread"], match["rest"]
        if write := _WRITE.match(rest):
            end = int(write["offset"]) + int(write["length"])
            written, pending[thread] = (max(written, end), 0) if write["done"] else (written, end)
        elif sync := _SYNC.match(rest):
            synced, pending[thread] = (written, 0) if sync["whole"] else (synced, written)
        elif ack := _ACK.match(rest):
            acks[ack["id"].replace(r"\\c", ":")] = synced
        elif resumed := _RESUMED.match(rest):
            if resumed["call"] == "pwrite64":
                written = max(written, pending.get(thread, 0))
            elif resumed["call"] in {"fdatasync", "fsync"} and resumed["result"] == "0":
                synced = max(synced, pending.get(thread, 0))
    return acks, synced
