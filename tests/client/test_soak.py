"""A day in scaled time: many renewals, flat memory. By hand: `make soak-client`."""

from __future__ import annotations

import json
import os
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.client.client_process import PER_STF, QUICK, RUN, Client, Experiment
from tests.processes import wait_until

EVENTS = int(os.environ.get("FASTMON_TEST_SOAK", "0"))
RUNS = 24
AT_ONCE = 10
"""STFs per batch: 70 events fit into the monitor's queue of 100 per client."""


def rss_kb(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))


@pytest.mark.skipif(not EVENTS, reason="takes minutes: make soak-client")
@pytest.mark.timeout(3600)
def test_memory_is_flat_over_a_scaled_day():
    stfs_per_run = EVENTS // PER_STF // RUNS + 1
    intervals = QUICK | {"heart_beat_s": 10.0, "recycle_s": 2.0}
    shown: Counter[str] = Counter()
    newest: dict[str, Any] = {}
    taken = 0

    def read() -> None:
        for line in iter(client.line, ""):
            newest.clear()
            newest.update(json.loads(line))
            shown[newest["kind"]] += 1

    with Experiment() as experiment, Client(experiment.monitor.url, "--json", **intervals) as client:
        client.wait_for_log("connected to")
        reader = threading.Thread(target=read)
        reader.start()
        sizes = []
        for run in range(RUNS):
            if run:
                experiment.begin_run(RUN + run)
            experiment.send("start_run")
            for begin in range(1, stfs_per_run + 1, AT_ONCE):
                stfs = range(begin, min(begin + AT_ONCE, stfs_per_run + 1))
                experiment.publish(*stfs)
                taken += PER_STF * len(stfs)
                wait_until(lambda taken=taken: shown["tf_file"] == taken, "all TF files are shown")
            experiment.send("end_run", total_stf_files=stfs_per_run)
            sizes.append(rss_kb(client.pid))
        counts = experiment.monitor.counts()
        threading.Event().wait(10 * QUICK["end_grace_s"])
        client.signal(15)
        reader.join(60)
    seen = newest
    assert seen["kind"] == "summary"
    print(f"RSS in kB after each of {RUNS} runs: {sizes}")
    print(f"streams: {counts['requests']['GET /api/messages/stream/']}; totals: {seen['totals']}")
    assert seen["totals"]["tf_files"] == counts["fastmon_files"] >= EVENTS
    assert (seen["totals"]["runs"], seen["totals"]["duplicates"]) == (RUNS, 0)
    assert {run["state"] for run in seen["runs"]} == {"complete"}
    assert counts["requests"]["GET /api/messages/stream/"] >= 4
    assert sizes[-1] <= 1.2 * sizes[RUNS // 5]
