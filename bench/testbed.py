"""The testbed as a process of its own, which also plays data agent and listener: all times are of one clock.

The parent calls the methods of `MeasuredTestbed` through a pipe.
"""

from __future__ import annotations

import gc
import json
import multiprocessing
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from bench.recorder import TF_PER_STF, Recorder
from fastmon_daemon.base.clock import utcnow
from fastmon_daemon.testbed.daq_messages import RunMessages, stf_name
from fastmon_daemon.testbed.monitor.file_tables import STF_FILES
from fastmon_daemon.testbed.monitor.tables import RESOURCES
from fastmon_daemon.testbed.testbed import NAMESPACE, TOPIC, TestbedOptions, TestbedThread

STF_BYTES = 2_000_000_000
FIRST_RUN = 100_001
START_S = 60.0
"""Longest wait for the child process."""


class MeasuredTestbed:
    """Broker and monitor in a thread, and what was published and announced."""

    def __init__(self) -> None:
        self._recorder = Recorder()
        self._runs: dict[int, Any] = {}
        self._player: threading.Thread | None = None
        self._thread = TestbedThread(TestbedOptions(on_message=lambda _, body: self._recorder.hear(body)))
        self._thread.__enter__()  # `stop` is the exit
        self._monitor = self._thread.testbed.monitor

    def environment(self) -> dict[str, str]:
        """The settings without which neither daemon nor client works."""
        environment = dict(self._thread.environment)
        del environment["FASTMON_DURABLE"], environment["FASTMON_LATE_ANNOUNCE_RATE"]
        return environment

    def faults(self, **faults: Any) -> None:
        """Replace the faults in force by *faults*."""
        self._thread.faults()
        self._thread.faults(**faults)

    def counts(self) -> dict[str, Any]:
        """What arrived so far, see `Counts.report`."""
        return self._thread.counts()

    def register(self, run: int, first: int, last: int) -> None:
        """Add the rows of these STFs (and of their run) to the monitor, as the data agent does."""

        def add() -> None:
            store = self._monitor.store
            if run not in self._runs:
                row = {"run_number": run, "start_time": utcnow().isoformat()}
                self._runs[run] = store.create(RESOURCES["runs"], row)["run_id"]
            for sequence in range(first, last + 1):
                store.create(STF_FILES, {"run": self._runs[run], "stf_filename": stf_name(run, sequence)})

        self._thread.call(add)
        gc.freeze()  # the rows stay: a full collection would stop broker and monitor for 0.1 s to look at them

    def publish(self, run: int, first: int, last: int, rate_hz: float | None = None) -> None:
        """Publish `stf_ready` of these STFs: all at once, or at *rate_hz*, then in the background."""
        began = utcnow()
        messages = RunMessages(namespace=NAMESPACE, run=run, size=STF_BYTES, began=began, now=utcnow)
        if first == 1:
            self._publish(messages.start_run())

        def pace(rate_hz: float) -> None:
            for sequence in at_rate(rate_hz, first, last):
                self._publish_stf(messages, sequence)

        if rate_hz is not None:
            threading.Thread(target=pace, args=(rate_hz,), daemon=True).start()
            return
        for sequence in range(first, last + 1):
            self._publish_stf(messages, sequence)

    def play(self, run: int, stfs: int, rate_hz: float) -> None:
        """Play a run as DAQ and data agent do: register and publish one STF after the other; returns at its end."""
        messages = RunMessages(namespace=NAMESPACE, run=run, size=STF_BYTES, began=utcnow(), now=utcnow)
        self._publish(messages.run_imminent())
        self._publish(messages.start_run())
        for sequence in at_rate(rate_hz, 1, stfs):
            self.register(run, sequence, sequence)
            self._publish_stf(messages, sequence)
        self._publish(messages.end_run(stfs))

    def play_in_background(self, runs: Sequence[int], stfs: int, rate_hz: float) -> None:
        """Play one run after the other, *stfs* each."""

        def play() -> None:
            for run in runs:
                self.play(run, stfs, rate_hz)

        self._player = threading.Thread(target=play, daemon=True)
        self._player.start()

    def has_played(self, timeout_s: float) -> bool:
        """Wait until all runs have been played, at most *timeout_s*; return whether they have."""
        if self._player is not None:
            self._player.join(max(0.0, timeout_s))
        return self._player is None or not self._player.is_alive()

    def account(self) -> dict[str, int]:
        """What became of the published STFs.

        ``lost``: STFs without all their TF files in the monitor, or of which one was never announced;
        ``registered_twice``: rows of the monitor beyond these; ``announced_twice``: announcements beyond one for each
        TF file.
        """
        rows, stfs = self.tf_rows(), self._recorder.stfs
        names = Counter(row["stf_file"] for row in rows if row["stf_file"] in stfs)
        published = [name for name, stf in list(stfs.items()) if stf.published_at]
        return {
            "published": len(published),
            "lost": sum(names[name] != TF_PER_STF or not stfs[name].is_announced for name in published),
            "registered_twice": len(rows) - TF_PER_STF * sum(names[name] == TF_PER_STF for name in published),
            "announced_twice": self._recorder.repeated,
        }

    def wait(self, run: int, first: int, last: int, timeout_s: float) -> list[tuple[float, float]]:
        """As `Recorder.wait`, of these STFs."""
        return self._recorder.wait([stf_name(run, sequence) for sequence in range(first, last + 1)], timeout_s)

    def announced(self) -> list[float]:
        """When each STF was completely announced, in order."""
        return list(self._recorder.announced)

    def repeated(self) -> int:
        """Announcements of TF files that had been announced before."""
        return self._recorder.repeated

    def tf_rows(self) -> list[dict[str, Any]]:
        """All rows of TF files."""
        return self._thread.call(
            lambda: [dict(row) for row in self._monitor.store.tables["fastmon-files"].rows.values()]
        )

    def stop(self) -> None:
        """Stop broker and monitor."""
        self._thread.__exit__(None, None, None)

    def _publish_stf(self, messages: RunMessages, sequence: int) -> None:
        self._recorder.publish(stf_name(messages.run, sequence))
        self._publish(messages.stf_ready(sequence))

    def _publish(self, message: Mapping[str, Any]) -> None:
        body = json.dumps(message)
        self._thread.call(lambda: self._thread.testbed.broker.publish(TOPIC, body))


def at_rate(rate_hz: float, first: int, last: int) -> Iterator[int]:
    """Yield *first* at once, and each number up to *last* when it is due at *rate_hz*: a delay is made up for."""
    began = time.monotonic()
    for number in range(first, last + 1):
        time.sleep(max(0.0, began + (number - first) / rate_hz - time.monotonic()))
        yield number


class TestbedProcess:
    """The methods of a `MeasuredTestbed` in another process; an exception there is raised here."""

    def __init__(self, connection: Connection, process: BaseProcess) -> None:
        self._connection = connection
        self._process = process

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            self._connection.send((name, args, kwargs))
            result = self._connection.recv()
            if isinstance(result, Exception):
                raise result
            return result

        return call

    @property
    def pid(self) -> int:
        """Id of the process."""
        assert self._process.pid is not None
        return self._process.pid


@contextmanager
def measured_testbed(**faults: Any) -> Iterator[TestbedProcess]:
    """Run a testbed with *faults* in force; it ends with the block."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs,), daemon=True)
    process.start()
    theirs.close()
    if not ours.poll(START_S):
        raise TimeoutError(f"the testbed did not start within {START_S:.0f} s")
    ours.recv()
    testbed = TestbedProcess(ours, process)
    try:
        testbed.faults(**faults)
        yield testbed
    finally:
        ours.close()  # ends the loop of the child
        process.join()


def _serve(connection: Connection) -> None:
    testbed = MeasuredTestbed()
    connection.send("ready")
    try:
        while True:
            name, args, kwargs = connection.recv()
            try:
                connection.send(getattr(testbed, name)(*args, **kwargs))
            except Exception as exc:  # noqa: BLE001 (whatever it is, it is raised in the parent)
                connection.send(exc)
    except EOFError:
        testbed.stop()
