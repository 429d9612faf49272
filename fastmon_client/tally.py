"""What was seen: TF files by run, each once. Pure; it must not know where messages come from."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fastmon_client.show import file_size, plain, run_of, size

REMEMBERED = 200_000
"""TF files whose repetition is recognized: the most recent ones, so that memory stays bounded."""


@dataclass(slots=True)
class RunTally:
    """What was seen of one run."""

    tf_files: int = 0
    volume: int = 0
    """Bytes, of the TF files whose size is known."""
    stfs: set[str] = field(default_factory=set)


@dataclass(slots=True)
class Tally:
    """What was seen since the start."""

    runs: dict[str, RunTally] = field(default_factory=dict)
    repeated: int = 0
    remembered: int = REMEMBERED
    _seen: OrderedDict[str, None] = field(default_factory=OrderedDict)

    @property
    def tf_files(self) -> int:
        """TF files seen, each once."""
        return sum(run.tf_files for run in self.runs.values())

    def is_new(self, message: Mapping[str, Any]) -> bool:
        """Count a TF file; False if it was announced before (at-least-once delivery repeats)."""
        identity = message.get("event_id") or message.get("tf_file_id") or message.get("tf_filename")
        if identity is not None and not self._is_first(str(identity)):
            self.repeated += 1
            return False
        run = self.runs.setdefault(run_of(message) or "-", RunTally())
        run.tf_files += 1
        run.stfs.add(str(message.get("stf_filename")))
        run.volume += file_size(message) or 0
        return True

    def summary(self, uptime_s: float) -> list[str]:
        """Lines for the end: in all, then run by run."""
        volume = sum(run.volume for run in self.runs.values())
        lines = [f"{uptime_s:.0f} s: {self.tf_files} TF files, {size(volume)}, {self.repeated} repeated"]
        lines += [
            f"run {plain(name)}: {run.tf_files} TF files of {len(run.stfs)} STFs, {size(run.volume)}"
            for name, run in sorted(self.runs.items())
        ]
        return lines

    def _is_first(self, identity: str) -> bool:
        if identity in self._seen:
            return False
        self._seen[identity] = None
        if len(self._seen) > self.remembered:
            self._seen.popitem(last=False)
        return True
