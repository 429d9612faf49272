"""Prints how transitions reach the monitor: a program, not a test (`python -m tests.presence.updates`).

STFs that are quick, slow (the monitor answers late), in a burst, and after an outage; the daemon is a process. For each
case: updates that told one transition and that told several, in how many STFs a watcher that reads the monitor's tables
ten times a second saw each state and each status of the workflow, the calls for stage and workflow of an STF, and the
time from a transition until the watcher saw it.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fastmon_daemon.base.clock import parse_timestamp
from fastmon_daemon.outbox import COALESCED_UPDATES, SINGLE_UPDATES, open_for_reading
from tests.processes import LiveTestbed, live_testbed, wait_until

WATCH_S = 0.1
LATENCY_MS = 300
PACE_S = 2.0
OUTAGE_S = 60.0
DEADLINE_S = 300.0
OUR_CALLS = ("/api/workflows/", "/api/workflow-stages/", "GET /api/stf-files/")
STATES = ("received", "sampled", "tf_registered", "notified", "completed")


@dataclass
class Watcher:
    """Reads stages and workflows in the monitor's memory, not by HTTP: at no cost, whatever the faults."""

    testbed: LiveTestbed
    states: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    delays: list[float] = field(default_factory=list)
    """Seconds from a transition until it was seen."""
    seen: set[tuple[str, str]] = field(default_factory=set)
    stopping: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        while not self.stopping.wait(WATCH_S):
            self.look()

    def look(self) -> None:
        tables = self.testbed.monitor.server.store.tables
        stages, workflows = self.testbed.monitor.call(
            lambda: ([*tables["workflow-stages"].rows.values()], [*tables["workflows"].rows.values()])
        )
        for row in stages:
            metadata = row["stage_metadata"]
            if self._is_new(row["stage_id"], metadata["state"]):
                self.states[metadata["state"]] += 1
                self.delays.append((datetime.now(UTC) - parse_timestamp(metadata["since"])).total_seconds())
        for row in workflows:
            if self._is_new(row["workflow_id"], row["current_status"]):
                self.statuses[row["current_status"].removeprefix("fastmon_")] += 1

    def _is_new(self, key: str, value: str) -> bool:
        before = len(self.seen)
        self.seen.add((key, value))
        return len(self.seen) > before


def quick(testbed: LiveTestbed) -> None:
    """One STF after the other."""
    for n in range(1, COUNTS["quick"] + 1):
        testbed.announce(n)
        wait_until(lambda n=n: told(testbed) == n, "it is told")  # type: ignore[misc]


def slow(testbed: LiveTestbed) -> None:
    """Each answer of the monitor takes longer; the STFs come at the testbed's rate."""
    testbed.monitor.faults(latency_ms=LATENCY_MS)
    pace(testbed, range(1, COUNTS["slow"] + 1))


def burst(testbed: LiveTestbed) -> None:
    """All at once."""
    testbed.announce(*range(1, COUNTS["burst"] + 1))


def outage(testbed: LiveTestbed) -> None:
    """STFs come at the testbed's rate while the monitor is away, and go on to come when it is back."""
    testbed.monitor.stop()
    during = int(OUTAGE_S / PACE_S)
    pace(testbed, range(1, during + 1))
    testbed.monitor.start()
    pace(testbed, range(during + 1, COUNTS["outage"] + 1))


PLAYS: dict[str, Callable[[LiveTestbed], None]] = {"quick": quick, "slow": slow, "burst": burst, "outage": outage}
COUNTS = {"quick": 10, "slow": 10, "burst": 100, "outage": 40}
TITLES = {"slow": f"slow: {LATENCY_MS} ms an answer", "outage": f"outage of {OUTAGE_S:.0f} s"}


def pace(testbed: LiveTestbed, sequences: range) -> None:
    """Announce STFs at the testbed's rate."""
    pause = threading.Event()
    for n in sequences:
        testbed.announce(n)
        pause.wait(PACE_S)


def told(testbed: LiveTestbed) -> int:
    """The number of STFs whose stage is complete."""
    rows = testbed.monitor.call(lambda: [*testbed.monitor.server.store.tables["workflow-stages"].rows.values()])
    return sum(row["status"] == "fastmon_complete" for row in rows)


def measure(case: str) -> dict[str, Any]:
    count = COUNTS[case]
    with tempfile.TemporaryDirectory() as folder, live_testbed(Path(folder)) as testbed:
        testbed.register(*range(1, COUNTS[case] + 1))  # no more: the reconciler would recover them
        testbed.daemon(FASTMON_REST_LOGGING="off")
        watcher = Watcher(testbed)
        watching = threading.Thread(target=watcher.run)
        watching.start()
        PLAYS[case](testbed)
        wait_until(lambda: told(testbed) == count, "all stages are complete", DEADLINE_S)
        reports = open_for_reading(testbed.database)
        wait_until(lambda: reports.stages.count_pending() == 0, "nothing is pending")
        watcher.stopping.set()
        watching.join()
        watcher.look()
        counters = reports.counters()
        reports.close()
        requests = testbed.monitor.counts()["requests"]
        calls = sum(number for call, number in requests.items() if any(each in call for each in OUR_CALLS))
        return {
            "STFs": count,
            "single": counters.get(SINGLE_UPDATES, 0),
            "coalesced": counters.get(COALESCED_UPDATES, 0),
            "stages seen": "/".join(str(watcher.states[state]) for state in STATES),
            "workflows seen": "/".join(str(watcher.statuses[s]) for s in ("received", "processing", "complete")),
            "calls an STF": f"{calls / count:.1f}",
            "delay p50, max": f"{statistics.median(watcher.delays):.2f} s, {max(watcher.delays):.1f} s",
        }


def main() -> None:
    wanted = [case for case in PLAYS if not sys.argv[1:] or case in sys.argv[1:]]
    rows = {case: measure(case) for case in wanted}
    heads = ["case", *next(iter(rows.values()))]
    print("stages seen: received/sampled/tf_registered/notified/completed; workflows: received/processing/complete\n")
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for case, row in rows.items():
        print(f"| {TITLES.get(case, case)} | {' | '.join(map(str, row.values()))} |")


if __name__ == "__main__":
    main()
