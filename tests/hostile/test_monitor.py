"""A monitor that is not what it should be: its rows, its lists, its headers."""

from __future__ import annotations

import gzip
import json
import random
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.hostile.attack import Scene, attack
from tests.hostile.hostile_monitor import HostileMonitor, says_endlessly

HUGE = 10**24
ODD = [
    '{"a": 1}', "[1]", "true", str(HUGE), "1e999", "NaN", '"\\u0000"', '"\\u001b[2J"', '"\\ud800"', "[" * 100_000,
    f'"{"x" * 3_000_000}"',
]  # fmt: skip
"""JSON texts that no field may have."""
ODD_TIMES = ['"0001-01-01T00:00:00+14:00"', '"9999-12-31T23:59:59Z"', '"10000-01-01"', "null"]
NAMES = {"stf_filename", "stf_file", "tf_filename"}
SECONDS = 10.0
JSON_LIST = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n"


@pytest.fixture
def monitor(scene: Scene) -> Iterator[HostileMonitor]:
    with HostileMonitor(scene.monitor.url) as made:
        yield made


class OddRows:
    """Puts an odd value into a field of every second answer's rows, or as the whole row."""

    def __init__(self) -> None:
        self._random = random.Random(7)
        self.count = 0

    def __call__(self, method: str, path: str, status: int, body: bytes) -> tuple[int, bytes] | None:
        if status not in (200, 201) or self._random.random() < 0.5:
            return None
        answer = json.loads(body)
        rows = answer.get("results", [answer]) if isinstance(answer, dict) else answer
        if not rows or not isinstance(rows[0], dict):
            return None
        self.count += 1
        field, mark = self._random.choice(list(rows[0])), "@odd@"
        rows[self._random.randrange(len(rows))][field] = mark
        values = ODD if field in NAMES else ODD + ODD_TIMES  # which would be a name that is another one
        return status, json.dumps(answer).replace(f'"{mark}"', self._random.choice(values)).encode()


@attack(
    "rows of the monitor with odd values: objects, 25 digits, 1e999, dates at the ends of time, 3 MB, 100 000 brackets"
)
def test_odd_rows_end_nothing_and_fail_no_stf(scene: Scene, monitor: HostileMonitor) -> None:
    daemon = scene.daemon(SWF_MONITOR_URL=monitor.url)
    scene.publish({"msg_type": "start_run", "run_id": "100014"})
    odd = OddRows()
    with scene.attacked(daemon):
        monitor.change = odd
        threading.Event().wait(SECONDS / 2)
        unknown = scene.register_unannounced(3)
        assert scene.call("reconcile", "--run", "100014", SWF_MONITOR_URL=monitor.url).stderr.count("Traceback") == 0
        threading.Event().wait(SECONDS / 2)
        monitor.change = lambda *_: None
    daemon.kill()
    daemon.wait()
    scene.daemon(SWF_MONITOR_URL=monitor.url)  # what was stored meanwhile does not end the next one
    assert scene.call("reconcile", "--run", "100014", SWF_MONITOR_URL=monitor.url).returncode == 0
    scene.wait_for(completed=len(scene.sent) + unknown)
    assert "Traceback" not in scene.log()
    scene.note = f"{odd.count} odd answers; no STF failed"


def pages(row: bytes) -> Any:
    return says_endlessly(JSON_LIST + b'{"count": 1, "next": null, "results": [', row, 62 * 1024 * 1024)


@attack("lists of the monitor: 62 MiB of `[],`, 3 MB names, a gzip bomb of 200 MB; 90 headers of 60 kB")
def test_endless_answers_of_the_monitor_take_no_memory(scene: Scene, monitor: HostileMonitor) -> None:
    daemon = scene.daemon(SWF_MONITOR_URL=monitor.url)
    headers = b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: %s\r\n" % (n, b"x" * 60_000) for n in range(90))
    bomb = gzip.compress(b"[" + b" " * 200_000_000, compresslevel=1)
    name = b'{"stf_filename": "%s"},' % (b"x" * 3_000_000)
    answers = [
        pages(b"[],"),
        pages(b'{"stf_filename": 7},'),
        lambda connection: connection.sendall(JSON_LIST + b"[" + name * 10),
        lambda connection: connection.sendall(headers),
        says_endlessly(JSON_LIST, b" ", 62 * 1024 * 1024),
        says_endlessly(JSON_LIST, b"[", 1024 * 1024),
        lambda connection: connection.sendall(JSON_LIST[:-2] + b"Content-Encoding: gzip\r\n\r\n" + bomb),
    ]
    with scene.attacked(daemon):
        threading.Event().wait(1)
        for each in answers:
            monitor.send = each
            reconciled = scene.call("reconcile", "--run", "100014", SWF_MONITOR_URL=monitor.url)
            assert (reconciled.returncode, "Traceback" in reconciled.stderr) == (75, False), reconciled
            monitor.send = None
    assert "Traceback" not in scene.log()


ROW = json.dumps({
    "file_id": "c1a8eec4-76a4-43e6-b994-%012d", "machine_state": "physics", "stf_filename": "swf.100014.1%05d.stf",
    "file_size_bytes": 300_000_000, "checksum": None, "created_at": "2026-11-29T14:28:27.326669-05:00",
    "metadata": {"state": "run", "substate": "physics", "start": "x" * 300}, "tf_count": 300, "run": 142,
})  # fmt: skip


@attack("a run of which the monitor lists 100 000 STFs that nobody sent, at each poll")
def test_a_run_with_100_000_unknown_stfs_is_recovered_in_bounded_memory(scene: Scene, monitor: HostileMonitor) -> None:
    listed = json.dumps({"count": 100_000, "next": None, "previous": None, "results": "@"})
    rows = ",".join(ROW % (n, n) for n in range(100_000))
    whole = listed.replace('"@"', f"[{rows}]").encode()

    def lie(method: str, path: str, status: int, body: bytes) -> tuple[int, bytes] | None:
        return (200, whole) if "stf-files/?run_number=100014&limit" in path else None

    daemon = scene.daemon(SWF_MONITOR_URL=monitor.url, FASTMON_SELECTION_FRACTION="0.0001", FASTMON_STAGES="off")
    scene.publish({"msg_type": "start_run", "run_id": "100014"})
    with scene.attacked(daemon, feed=False):
        monitor.change = lie
        scene.publish({"msg_type": "end_run", "run_id": "100014", "total_stf_files": 100_000})
        for _ in range(2):
            scene.call("reconcile", "--run", "100014", SWF_MONITOR_URL=monitor.url)
    scene.note = f"{sum(scene.states().values())} STFs were stored"
