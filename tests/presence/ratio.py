"""Measures whether optional reports slow down processing: a program, not a test (`python -m tests.presence.ratio`).

It processes the same STFs with stages and log lines off, on, hanging, and answered with 500. The cases alternate over
several rounds, so that drifts of the machine affect all of them. The last line is a JSON object; ratios are relative to
"off" in the same round.
"""

from __future__ import annotations

import json
import signal
import statistics
import sys
import tempfile
import threading
from operator import truediv
from pathlib import Path

from fastmon_daemon.base.clock import parse_timestamp
from fastmon_daemon.outbox import open_for_reading
from tests.presence.test_agent import OPTIONAL_CALLS
from tests.processes import LiveTestbed, live_testbed, wait_until

ROUNDS = 5
BURST = 60
PACED, PACE_S = 30, 0.1
OFF = {"FASTMON_STAGES": "off", "FASTMON_REST_LOGGING": "off"}
CASES: dict[str, tuple[dict[str, str], dict[str, object]]] = {
    "off": (OFF, {}),
    "on": ({}, {}),
    "hanging": ({}, {"hang_s": 600, "endpoints": OPTIONAL_CALLS}),
    "500": ({}, {"error_rate": 1, "endpoints": OPTIONAL_CALLS}),
}


def main() -> None:
    found: dict[str, list[tuple[float, float]]] = {case: [] for case in CASES}
    for n in range(ROUNDS):
        for case in CASES:
            found[case].append(measure(case))
            print(
                f"round {n + 1} {case}: {found[case][-1][0]:.1f} STF/s, p50 {found[case][-1][1]:.1f} ms",
                file=sys.stderr,
            )
    print(json.dumps({case: summary(rows, found["off"]) for case, rows in found.items()}))


def summary(rows: list[tuple[float, float]], base: list[tuple[float, float]]) -> dict[str, float]:
    """Medians over the rounds, of the figures and of their ratios to "off" in the same round."""
    rates, latencies = zip(*rows, strict=True)
    base_rates, base_latencies = zip(*base, strict=True)
    return {
        "stf_per_s": round(statistics.median(rates), 1),
        "p50_ms": round(statistics.median(latencies), 1),
        "throughput_ratio": round(statistics.median(map(truediv, rates, base_rates)), 2),
        "latency_ratio": round(statistics.median(map(truediv, latencies, base_latencies)), 2),
    }


def measure(case: str) -> tuple[float, float]:
    """STF/s of a burst, and ms from received to completed for STFs that come one by one."""
    settings, faults = CASES[case]
    with tempfile.TemporaryDirectory() as folder, live_testbed(Path(folder)) as testbed:
        testbed.register(*range(1, BURST + PACED + 1))
        daemon = testbed.daemon(**settings)
        testbed.monitor.faults(**faults)
        testbed.announce(*range(1, BURST + 1))
        testbed.wait_for(completed=BURST)
        pause = threading.Event()
        for n in range(BURST + 1, BURST + PACED + 1):
            testbed.announce(n)
            pause.wait(PACE_S)
        wait_until(lambda: testbed.states() == {"completed": BURST + PACED})
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(30) == 0
        return figures(testbed)


def figures(testbed: LiveTestbed) -> tuple[float, float]:
    reports = open_for_reading(testbed.database)
    stfs = sorted(reports.find(), key=lambda stf: stf.id)
    reports.close()
    burst, paced = stfs[:BURST], stfs[BURST:]
    spent = max(parse_timestamp(stf.since) for stf in burst) - min(parse_timestamp(stf.received_at) for stf in burst)
    latencies = [(parse_timestamp(stf.since) - parse_timestamp(stf.received_at)).total_seconds() for stf in paced]
    return BURST / spent.total_seconds(), 1000 * statistics.median(latencies)


if __name__ == "__main__":
    main()
