"""Records when STFs were published and when all their TF files were announced."""

from __future__ import annotations

import json
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

TF_PER_STF = 7


@dataclass
class StfTimes:
    """One STF; times are seconds of the monotonic clock."""

    published_at: float = 0.0
    announced_at: float = 0.0
    """When its last TF file was announced."""
    tf_filenames: set[str] = field(default_factory=set)

    @property
    def is_announced(self) -> bool:
        """Whether all its TF files were announced."""
        return len(self.tf_filenames) == TF_PER_STF


class Recorder:
    """For any thread."""

    def __init__(self) -> None:
        self.stfs: defaultdict[str, StfTimes] = defaultdict(StfTimes)
        """By name."""
        self.announced: list[float] = []
        """When each STF was announced completely, in that order."""
        self.repeated = 0
        """Announcements of TF files that had been announced before."""
        self._changed = threading.Condition()

    def publish(self, name: str) -> None:
        """Note that the STF is published now."""
        self.stfs[name].published_at = time.monotonic()

    def hear(self, body: str) -> None:
        """Note the announcement in *body*, a message; others are ignored."""
        if '"tf_file_registered"' not in body:
            return
        now = time.monotonic()
        message = json.loads(body)
        with self._changed:
            stf = self.stfs[message["stf_filename"]]
            self.repeated += message["tf_filename"] in stf.tf_filenames
            was_announced = stf.is_announced
            stf.tf_filenames.add(message["tf_filename"])
            if stf.is_announced and not was_announced:
                stf.announced_at = now
                self.announced.append(now)
                self._changed.notify_all()

    def wait(self, names: Sequence[str], timeout_s: float) -> list[tuple[float, float]]:
        """When each of these STFs was published and completely announced. Raises: TimeoutError."""
        with self._changed:
            if not self._changed.wait_for(lambda: all(self.stfs[name].is_announced for name in names), timeout_s):
                missing = [name for name in names if not self.stfs[name].is_announced]
                raise TimeoutError(f"not announced within {timeout_s:.0f} s: {len(missing)} STFs, first {missing[0]}")
            return [(self.stfs[name].published_at, self.stfs[name].announced_at) for name in names]


def stf_per_s(times: Sequence[tuple[float, float]]) -> float:
    """Rate of a burst, given the result of `Recorder.wait`: from the first publication to the last announcement."""
    return len(times) / (max(announced for _, announced in times) - min(published for published, _ in times))
