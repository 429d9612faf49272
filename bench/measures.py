"""Measurements of the daemon: throughput, CPU, commits, latency and backlog, each on a fresh testbed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bench.daemon import NO_REPORTS, BenchError, Daemon, running_daemon, wait_until_quiet, wait_while_running
from bench.machine import rss_mb
from bench.recorder import stf_per_s
from bench.testbed import FIRST_RUN, TestbedProcess, measured_testbed
from bench.waiting import waiting_stfs

ROOT = Path(__file__).parent.parent
RUN = FIRST_RUN
DEADLINE_S = 300.0
DAQ_HZ = 1.7
"""STF/s of the DAQ at full rate."""
CONNECTIONS = 8
"""Of the load generator."""
NO_PACING = {"FASTMON_LATE_ANNOUNCE_RATE": "0"}
"""STFs of a backlog are late: by default, their announcements are limited to what the real monitor's listener takes."""


@dataclass(frozen=True, kw_only=True)
class Burst:
    """What a burst of STFs cost."""

    stf_per_s: float
    """From the first `stf_ready` to the last announcement."""
    cpu_ms: float
    """CPU of the daemon for one STF, until its reports were sent."""
    commits: float
    """Durable commits for one STF."""
    calls_per_s: float
    """Requests of all kinds to the monitor, until the last announcement."""


@dataclass(frozen=True, kw_only=True)
class Drain:
    """What a daemon does with a backlog."""

    stf_per_s: float
    start_s: float
    rss_mb: float
    inspect_s: float


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="fastmon-bench-") as name:
        yield Path(name)


def _times(testbed: TestbedProcess, run: int, stfs: int, has_ended: Callable[[], bool]) -> list[tuple[float, float]]:
    """When each of the STFs of *run* was published and completely announced."""
    return wait_while_running(partial(testbed.wait, run, 1, stfs), has_ended, DEADLINE_S)


def burst(stfs: int, settings: dict[str, str] | None = None, **faults: Any) -> Burst:
    """Publish *stfs* at once to an idle daemon."""
    with measured_testbed(**faults) as testbed, _folder() as folder:
        testbed.register(RUN, 1, stfs)
        with running_daemon(testbed, folder, **(settings or {})) as daemon:
            wait_until_quiet(testbed)
            cpu, commits = daemon.usage()
            requests = _requests(testbed)
            testbed.publish(RUN, 1, stfs)
            times = _times(testbed, RUN, stfs, daemon.has_ended)
            requests = _requests(testbed) - requests
            daemon.wait_until_finalized()
            wait_until_quiet(testbed)
            cpu_after, commits_after = daemon.usage()
            if daemon.completed() != stfs or testbed.repeated():
                raise BenchError(f"{daemon.completed()} of {stfs} STFs completed, {testbed.repeated()} announced twice")
    return Burst(
        stf_per_s=stf_per_s(times),
        cpu_ms=1000 * (cpu_after - cpu) / stfs,
        commits=(commits_after - commits) / stfs,
        calls_per_s=requests * stf_per_s(times) / stfs,
    )


def floor_burst(stfs: int) -> Burst:
    """As `burst`, without stage reports and log lines to the monitor."""
    return burst(stfs, NO_REPORTS)


def old_agent(stfs: int, **faults: Any) -> float:
    """STF/s of the sequential reference, measured as in `burst`."""
    with measured_testbed(**faults) as testbed:
        testbed.register(RUN, 1, stfs)
        process = _program(testbed, "bench.old_agent", stfs)
        try:
            assert process.stdout is not None
            if process.stdout.readline() != "ready\n":
                raise BenchError("bench.old_agent did not start")
            testbed.publish(RUN, 1, stfs)
            return stf_per_s(_times(testbed, RUN, stfs, lambda: process.poll() is not None))
        finally:
            process.kill()
            process.communicate()


def bare_loop(stfs: int) -> float:
    """CPU ms for one STF of the bare loop."""
    with measured_testbed() as testbed, _folder() as folder:
        testbed.register(RUN, 1, stfs)
        used = _output(_program(testbed, "bench.bare_loop", folder / "bare.db", RUN, stfs))
        return 1000 * float(used["cpu_s"]) / stfs


def load(seconds: float, **faults: Any) -> float:
    """Rows/s that the monitor takes of a bare load generator."""
    stfs = 50
    with measured_testbed(**faults) as testbed:
        testbed.register(RUN, 1, stfs)
        used = _output(_program(testbed, "bench.load", RUN, stfs, CONNECTIONS, seconds))
        return float(used["rows"]) / float(used["wall_s"])


def latencies(stfs: int, rate_hz: float, waiting: int = 0, **faults: Any) -> list[float]:
    """Ms from `stf_ready` to the last announcement of STFs that come at *rate_hz*, while *waiting* older ones drain."""
    with measured_testbed(**faults) as testbed, _folder() as folder:
        if waiting:
            waiting_stfs(folder / "outbox.db", RUN, waiting)
        testbed.register(RUN, 1, waiting)
        testbed.register(RUN + 1, 1, stfs)
        with running_daemon(testbed, folder, **NO_PACING) as daemon:
            if waiting:
                _wait_for_announced(testbed, min(waiting, 20), daemon)
            else:
                wait_until_quiet(testbed)
            testbed.publish(RUN + 1, 1, stfs, rate_hz)
            times = _times(testbed, RUN + 1, stfs, daemon.has_ended)
            drained = len(testbed.announced()) - stfs
            if waiting and drained >= waiting:
                raise BenchError(f"all {waiting} waiting STFs were drained before the last fresh one")
    return [1000 * (announced - published) for published, announced in times]


def drain(waiting: int, begin: int, end: int) -> Drain:
    """Drain a backlog of *waiting*; the rate is that from STF number *begin* to STF number *end*."""
    with measured_testbed(latency_ms=2) as testbed, _folder() as folder:
        waiting_stfs(folder / "outbox.db", RUN, waiting)
        # The daemon takes three of the newest, then one of the oldest: only those can come within the measurement.
        enough = 2 * end
        if waiting > 2 * enough:
            testbed.register(RUN, 1, enough)
            testbed.register(RUN, waiting - enough + 1, waiting)
        else:
            testbed.register(RUN, 1, waiting)
        with running_daemon(testbed, folder, **NO_PACING) as daemon:
            _wait_for_announced(testbed, end, daemon)
            announced = testbed.announced()
            return Drain(
                stf_per_s=(end - begin) / (announced[end - 1] - announced[begin - 1]),
                start_s=daemon.start_s,
                rss_mb=rss_mb(daemon.pid),
                inspect_s=daemon.inspect_s(),
            )


def offered(rate_hz: float, seconds: float, **faults: Any) -> tuple[list[float], float]:
    """Latencies in ms of STFs that come at *rate_hz*, and CPU seconds that the daemon uses in a second.

    If the daemon falls behind, the latencies grow with *seconds*.
    """
    stfs = max(10, round(rate_hz * seconds))
    with measured_testbed(**faults) as testbed, _folder() as folder:
        testbed.register(RUN, 1, stfs)
        with running_daemon(testbed, folder) as daemon:
            wait_until_quiet(testbed)
            cpu, began = daemon.usage()[0], time.monotonic()
            testbed.publish(RUN, 1, stfs, rate_hz)
            times = _times(testbed, RUN, stfs, daemon.has_ended)
            cpu_share = (daemon.usage()[0] - cpu) / (time.monotonic() - began)
    return [1000 * (announced - published) for published, announced in times], cpu_share


def _requests(testbed: TestbedProcess) -> int:
    return sum(testbed.counts()["requests"].values())


def _wait_for_announced(testbed: TestbedProcess, count: int, daemon: Daemon) -> None:
    if not daemon.wait_until(lambda: len(testbed.announced()) >= count, DEADLINE_S, every_s=0.1):
        raise BenchError(f"{len(testbed.announced())} of {count} STFs announced:\n{daemon.log()[-2000:]}")


def _program(testbed: TestbedProcess, module: str, *arguments: object) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", module, *map(str, arguments)]
    environment = {**os.environ, **testbed.environment()}
    return subprocess.Popen(words, env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def _output(process: subprocess.Popen[str]) -> dict[str, Any]:
    """The JSON object in the last line of a program's output. Raises: BenchError if it failed."""
    output, _ = process.communicate()
    if process.returncode:
        raise BenchError(f"{process.args!r} ended with {process.returncode}")
    return dict(json.loads(output.splitlines()[-1]))
