"""Events per second and CPU per event of the client, compared with a bare loop over the same stream.

Both run alternately as processes. The cost of a start is measured with a stream of one event and subtracted.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.figures import Figure
from bench.stream_server import serving, stream_of

MAX_RATIO = 3.0
"""The promised ratio of CPU per event, in `--json` mode."""

Cost = tuple[float, float]
"""CPU seconds and wall seconds."""


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    events: int
    rounds: int


FULL = Size(70_000, 5)
SHORT = Size(7_000, 2)


def measure(size: Size, say: Callable[[str], None]) -> Figure:
    """Run both readers alternately; the cost of an event is that of the stream without that of a start."""
    costs: dict[str, list[Cost]] = {"bare": [], "client": []}
    with serving(stream_of(size.events)) as url, serving(stream_of(1)) as short:
        for _ in range(size.rounds):
            for name, found in costs.items():
                start, whole = _cost(_words(name, short, 1)), _cost(_words(name, url, size.events))
                found.append(((whole[0] - start[0]) / size.events, (whole[1] - start[1]) / size.events))
            say(f"client: {1e6 * costs['client'][-1][0]:.0f} us of CPU an event, bare {1e6 * costs['bare'][-1][0]:.0f}")
    return Figure(
        key="client", title="CPU an event of the client over the bare loop", goal=MAX_RATIO, at_most=True, unit="us",
        ours=[1e6 * cpu for cpu, _ in costs["client"]], theirs=[1e6 * cpu for cpu, _ in costs["bare"]],
        than="bare client",
        more={"events": size.events, **{f"{name}_events_per_s": round(1 / statistics.median(wall for _, wall in each))
                                        for name, each in costs.items()}},
    )  # fmt: skip


def _words(name: str, url: str, count: int) -> list[str]:
    """The command line of a reader."""
    if name == "bare":
        return [sys.executable, "-m", "bench.bare_client", url, str(count)]
    return [sys.executable, "-m", "fastmon_client", "start", "--json", "--monitor-url", url, "--count", str(count)]


def _cost(words: Sequence[str]) -> Cost:
    began = time.monotonic()
    environment = {**os.environ, "SWF_API_TOKEN": "bench"}
    child = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment)
    assert child.stderr is not None
    errors = child.stderr.read()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    child.stderr.close()
    if child.returncode:
        raise SystemExit(f"{' '.join(words)} ended with {child.returncode}: {errors.decode(errors='replace')}")
    return usage.ru_utime + usage.ru_stime, time.monotonic() - began
