"""Events per second that the client digests, and CPU per event, against a bare loop over the same stream.

Both run as processes of their own, in turn, in one run. What a process costs without events (its start) is measured
with a stream of one event and taken off.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence

from bench.stream_server import serving, stream_of

EVENTS = 35_000
ROUNDS = 5
MOST = 3.0
"""The ratio of CPU per event that the client promises in `--json` mode."""

Cost = tuple[float, float]
"""CPU seconds and wall seconds."""


def measure() -> dict[str, float]:
    """Both readers, *ROUNDS* times each in turn: medians, also of the ratio within a round."""
    readers = {
        "bare": lambda url, count: [sys.executable, "-m", "bench.bare_loop", url, str(count)],
        "client": lambda url, count: [
            sys.executable, "-m", "fastmon_client", "start", "--json", "--monitor-url", url, "--count", str(count),
        ],
    }  # fmt: skip
    costs: dict[str, list[Cost]] = {name: [] for name in readers}
    starts: dict[str, list[Cost]] = {name: [] for name in readers}
    with serving(stream_of(EVENTS)) as url, serving(stream_of(1)) as short:
        for round_ in range(ROUNDS):
            for name, words in readers.items():
                starts[name].append(_cost(words(short, 1)))
                costs[name].append(_cost(words(url, EVENTS)))
                print(f"round {round_ + 1}: {name}: {costs[name][-1][0]:.2f} s CPU, {costs[name][-1][1]:.2f} s")
    cpu = {name: _median(costs[name], 0) - _median(starts[name], 0) for name in readers}
    wall = {name: _median(costs[name], 1) - _median(starts[name], 1) for name in readers}
    ratio = statistics.median(
        map(_ratio, *(zip(costs[name], starts[name], strict=True) for name in ("client", "bare")))
    )
    print(f"CPU per event: client {1e6 * cpu['client'] / EVENTS:.0f} us, bare {1e6 * cpu['bare'] / EVENTS:.0f} us")
    print(f"ratio {ratio:.2f} (promised: at most {MOST})")
    return {
        "events": EVENTS,
        "events_per_s": round(EVENTS / wall["client"]),
        "bare_events_per_s": round(EVENTS / wall["bare"]),
        "cpu_us_per_event": round(1e6 * cpu["client"] / EVENTS, 1),
        "bare_cpu_us_per_event": round(1e6 * cpu["bare"] / EVENTS, 1),
        "cpu_ratio": round(ratio, 2),
    }


def _cost(words: Sequence[str]) -> Cost:
    begun = time.monotonic()
    environment = {**os.environ, "SWF_API_TOKEN": "bench"}
    child = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment)  # noqa: S603
    assert child.stderr is not None
    said = child.stderr.read()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    child.stderr.close()
    if child.returncode:
        raise SystemExit(f"{' '.join(words)} ended with {child.returncode}: {said.decode(errors='replace')}")
    return usage.ru_utime + usage.ru_stime, time.monotonic() - begun


def _ratio(client: tuple[Cost, Cost], bare: tuple[Cost, Cost]) -> float:
    """CPU of the two readers in one round, each less its start: what one round shares is the state of the machine."""
    return (client[0][0] - client[1][0]) / (bare[0][0] - bare[1][0])


def _median(costs: list[Cost], which: int) -> float:
    return statistics.median(cost[which] for cost in costs)
