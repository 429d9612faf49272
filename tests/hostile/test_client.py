"""A hostile monitor, a hostile broker, and whoever may publish on the topic, against the client."""

from __future__ import annotations

import itertools
import json
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
import requests

from tests.hostile.attack import MAX_RSS_MB, Scene, attack
from tests.hostile.endless_monitor import EndlessMonitor
from tests.processes import DEADLINE_S, wait_until

RUN = 100014
SECONDS = 8.0


def rows_without_end(path: str) -> Iterator[bytes]:
    """The rows of any table: new runs, new STFs of a run, TF files of whatever is asked for."""
    stf = path.partition("stf_filename=")[2]
    yield b'{"count": 1, "results": ['
    for number in itertools.count():
        yield b"".join(
            json.dumps({
                "run_number": each, "start_time": "2026-11-21T20:56:56Z", "stf_filename": f"{each}.{'x' * 200}.stf",
                "stf_file": stf, "tf_filename": f"{each}.tf", "created_at": "2026-11-21T20:56:56Z",
                "metadata": {str(key): "y" * 1000 for key in range(5)}, f"field {each}": ["z"] * 20,
            }).encode() + b","
            for each in range(number * 50, number * 50 + 50)
        )  # fmt: skip


def one_row_without_end(_path: str) -> Iterator[bytes]:
    yield b'[{"run_number": 1, "stf_filename": "'
    yield from itertools.repeat(b"x" * 65536)


def brackets(_path: str) -> Iterator[bytes]:
    yield b'[{"run_number": ['
    yield from itertools.repeat(b"[]," * 20_000)


def small_rows(_path: str) -> Iterator[bytes]:
    yield b"["
    yield from itertools.repeat(b"{}," * 20_000)


class Viewer:
    """A running client with a page, whose snapshots are read."""

    def __init__(self, scene: Scene, url: str, *words: str, **changes: str) -> None:
        quick = "compare_s=2.0, settle_s=0.5, retry_s=0.5, runs_s=1.0, min_age_s=0.5, query_hz=100.0"
        program = (
            "from fastmon_client.cli import main; from fastmon_client.intervals import Intervals;"
            f"main(Intervals({quick}))"
        )
        self.process: subprocess.Popen[bytes] = scene.start(
            "dashboard", "--listen", "127.0.0.1:0", "--monitor-url", url, *words, code=program, **changes
        )
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().decode().split()[1]
        self.bytes = 0
        """Of the last snapshot."""

    def snapshot(self) -> dict[str, Any]:
        with requests.get(f"{self.url}events", timeout=DEADLINE_S, stream=True) as page:
            line = next(line for line in page.iter_lines(chunk_size=65536) if line.startswith(b"data: "))
        self.bytes = max(self.bytes, len(line))
        found: dict[str, Any] = json.loads(line[6:])
        return found

    def run(self, name: str) -> dict[str, Any]:
        return next((dict(row) for row in self.snapshot()["runs"] if row["run"] == name), {})


def attack_viewer(
    scene: Scene, viewer: Viewer, hostile: Callable[[float], None], max_rss_mb: float = MAX_RSS_MB
) -> None:
    """Run *hostile* (until a time) while snapshots are read."""
    until = time.monotonic() + SECONDS
    attacker = threading.Thread(target=hostile, args=(until,))
    slowest = 0.0
    with scene.attacked(viewer.process, feed=False, max_rss_mb=max_rss_mb):
        attacker.start()
        while attacker.is_alive() or time.monotonic() < until:
            began = time.monotonic()
            viewer.snapshot()
            slowest = max(slowest, time.monotonic() - began)
            threading.Event().wait(0.2)
        attacker.join()
    scene.note = f"a page gets its numbers within {slowest:.1f} s, {viewer.bytes / 1000:.0f} kB at most"
    assert "Traceback" not in scene.log()


@attack("tables of 99 GB: rows, one row, brackets, empty rows", target="client")
def test_tables_without_end_do_not_fill_the_client(scene: Scene) -> None:
    kinds = itertools.cycle([rows_without_end, one_row_without_end, brackets, small_rows])

    def body(path: str) -> Iterator[bytes]:
        return next(kinds)(path)

    with EndlessMonitor(body) as monitor:
        viewer = Viewer(scene, monitor.url)

        def hostile(until: float) -> None:
            number = 0
            while time.monotonic() < until:
                number += 1
                monitor.announce(RUN + number % 5, number)
                threading.Event().wait(0.1)

        attack_viewer(scene, viewer, hostile)
        assert monitor.sent > 10_000_000
        row = viewer.run(str(RUN))
        assert row["tf_files"] > 5
        assert row["verified"] == "UNKNOWN", row["doubt"]


@attack("30 000 invented runs, with invented sequence numbers and agents", target="client")
@pytest.mark.timeout(240)
def test_invented_runs_do_not_fill_the_client(scene: Scene) -> None:
    table = [{"run_number": RUN, "start_time": "2026-11-21T20:56:56Z"}]

    def body(path: str) -> list[bytes]:
        return [json.dumps(table if "/runs/" in path else []).encode()]

    with EndlessMonitor(body) as monitor:
        viewer = Viewer(scene, monitor.url, "--run-ids", str(RUN))
        monitor.announce(RUN, 1)
        wait_until(lambda: viewer.run(str(RUN)).get("verified_at"), "the run is known from the table")

        def hostile(until: float) -> None:
            for number in range(30_000):
                monitor.announce(number if number % 2 else f"run {number}", 1 if number % 3 else 1_000_000)
                if number % 60 == 0:
                    monitor.send("fastmon_status", processed_by=f"agent {number}", status="degraded", message="x")
                    monitor.announce(RUN, number // 60 + 2)
            wait_until(lambda: viewer.run(str(RUN)).get("tf_files", 0) > 450, "the real run is still followed", 200.0)

        attack_viewer(scene, viewer, hostile)


@attack("80 messages with names of 300 kB and 3 MB, and one of 40 MB", target="client")
def test_long_names_do_not_fill_the_pages(scene: Scene) -> None:
    with EndlessMonitor(lambda _path: [b"[]"]) as monitor:
        viewer = Viewer(scene, monitor.url)

        def hostile(_until: float) -> None:
            for number in range(40):
                for long in ("x" * 300_000, "x" * 3_000_000):
                    monitor.announce(f"{number}{long}", number + 1, tf_filename=f"{number}{long}")
                monitor.announce(number, number + 1, tf_filename=["x" * 300_000], stf_filename={"x" * 300_000: 1})
            monitor.events.put(b"data: " + b"[" * 40_000_000 + b"\n\n")
            monitor.announce(RUN, 1)
            wait_until(lambda: viewer.run(str(RUN)), "the run after them is shown", 60.0)

        attack_viewer(scene, viewer, hostile)
        assert viewer.bytes < 500_000


@attack("answers with 90 headers of 60 kB", target="client")
def test_long_headers_do_not_fill_the_client(scene: Scene) -> None:
    headers = [(f"X-{number}", "x" * 60_000) for number in range(90)]
    with EndlessMonitor(lambda _path: [b"[]"], headers) as monitor:
        viewer = Viewer(scene, monitor.url)
        monitor.announce(RUN, 1)
        attack_viewer(scene, viewer, lambda _until: None, max_rss_mb=65.0)  # 90 MB if the library reads what it would
        assert viewer.run(str(RUN))["verified"] == "UNKNOWN"


@attack("a broker whose frame has no end, before and after its login", target="client")
def test_frames_without_end_do_not_fill_the_client(scene: Scene) -> None:
    frames = itertools.cycle([b"", b"CONNECTED\nversion:1.2\n\n\0MESSAGE\ncontent-length:99000000000\n\n"])
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(1.0)
    with EndlessMonitor(lambda _path: [b"[]"]) as monitor, listener:
        port = str(listener.getsockname()[1])
        viewer = Viewer(scene, monitor.url, "--transport", "stomp", ACTIVEMQ_HOST="127.0.0.1", ACTIVEMQ_PORT=port)

        def hostile(until: float) -> None:
            while time.monotonic() < until:
                with suppress(OSError):
                    sock, _ = listener.accept()
                    end = time.monotonic() + 2.0
                    with sock:
                        sock.settimeout(1.0)
                        sock.sendall(next(frames))
                        while time.monotonic() < end:
                            sock.sendall(b"x" * 1_000_000)

        attack_viewer(scene, viewer, hostile)
