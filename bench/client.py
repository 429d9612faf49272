"""Events per second and CPU per event of the client, compared with a bare loop over the same stream.

Both run alternately as processes. The cost of a start is measured with a stream of one event and subtracted.
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
MAX_RATIO = 3.0
"""The promised ratio of CPU per event, in `--json` mode."""

Cost = tuple[float, float]
"""CPU seconds and wall seconds."""


def measure() -> dict[str, float]:
    """Run both readers alternately, *ROUNDS* times; return medians, also of the ratio within a round."""
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
    print(f"ratio {ratio:.2f} (promised: at most {MAX_RATIO})")
    return {
        "events": EVENTS,
        "events_per_s": round(EVENTS / wall["client"]),
        "bare_events_per_s": round(EVENTS / wall["bare"]),
        "cpu_us_per_event": round(1e6 * cpu["client"] / EVENTS, 1),
        "bare_cpu_us_per_event": round(1e6 * cpu["bare"] / EVENTS, 1),
        "cpu_ratio": round(ratio, 2),
    }


def _cost(words: Sequence[str]) -> Cost:
    began = time.monotonic()
    environment = {**os.environ, "SWF_API_TOKEN": "bench"}
    child = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment)  # noqa: S603
    assert child.stderr is not None
    errors = child.stderr.read()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    child.stderr.close()
    if child.returncode:
        raise SystemExit(f"{' '.join(words)} ended with {child.returncode}: {errors.decode(errors='replace')}")
    return usage.ru_utime + usage.ru_stime, time.monotonic() - began


def _ratio(client: tuple[Cost, Cost], bare: tuple[Cost, Cost]) -> float:
    """Ratio of CPU in one round, each without its start; within a round the state of the machine is the same."""
    return (client[0][0] - client[1][0]) / (bare[0][0] - bare[1][0])


def _median(costs: list[Cost], which: int) -> float:
    return statistics.median(cost[which] for cost in costs)
