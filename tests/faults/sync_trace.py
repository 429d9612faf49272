"""What strace saw of the write-ahead log and of the ACKs: how much of the log was synced before each ACK was sent.

Owns the reading of its lines. It must not know what stands in the log.
"""

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
    """How a program is run so that *trace* has its calls, and it is our child all the same; None where it cannot be."""
    strace = shutil.which("strace")
    if strace is None:
        return None
    calls = "trace=pwrite64,fdatasync,fsync,sendto,write"
    words = [strace, "-D", "-f", "-qq", "-y", "-s", "120", "-e", calls, "-o", str(trace)]
    tried = subprocess.run([*words, sys.executable, "-c", ""], capture_output=True, timeout=60, check=False)
    return words if tried.returncode == 0 and not tried.stderr else None


def synced_before_acks(lines: Iterable[str]) -> tuple[dict[str, int], int]:
    """ACK id -> bytes of the log that were written and then synced when its sending began; and how many at the end.

    Only a write that has returned counts as written, only a sync that began after it and has returned as a sync.
    """
    written = synced = 0
    pending: dict[str, int] = {}
    acks: dict[str, int] = {}
    for line in lines:
        found = _LINE.match(line)
        if found is None:
            continue
        thread, rest = found["thread"], found["rest"]
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
