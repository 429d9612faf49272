"""/healthz and /metrics, of a daemon process and of a stalled engine."""

from __future__ import annotations

import queue
import re
import signal
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import requests
from loguru import logger
from prometheus_client.parser import text_string_to_metric_families

from fastmon_daemon.base.errors import StorageUnavailable
from fastmon_daemon.inspection.http_server import serve
from fastmon_daemon.inspection.liveness import Liveness
from fastmon_daemon.outbox import SharedReader, database, open_outbox
from fastmon_daemon.presence.periodic_worker import WorkerErrors
from fastmon_daemon.settings import ListenAddress
from tests.builders import HandClock
from tests.inspection.builders import endpoints_for
from tests.processes import TOKEN, LiveTestbed, live_testbed, wait_until

if TYPE_CHECKING:
    from loguru import Message


@pytest.fixture
def testbed(tmp_path: Path) -> Iterator[LiveTestbed]:
    with live_testbed(tmp_path) as made:
        yield made


def base_url(testbed: LiveTestbed) -> str:
    wait_until(lambda: "metrics at " in testbed.log(), "it serves")
    found = re.findall(r"metrics at (\S+)/metrics", testbed.log())[-1]
    return str(found)


def metrics(base: str) -> dict[str, float]:
    answer = requests.get(f"{base}/metrics", timeout=10)
    assert answer.status_code == 200, answer.text
    return {
        f"{sample.name}{sorted(sample.labels.values())}": sample.value
        for metric in text_string_to_metric_families(answer.text)
        for sample in metric.samples
    }


def test_the_metrics_of_a_daemon_match_its_database_and_hold_no_secret(testbed: LiveTestbed) -> None:
    testbed.register(1, 2)
    daemon = testbed.daemon(FASTMON_HTTP="0")
    base = base_url(testbed)
    assert base.startswith("http://127.0.0.1:")
    assert requests.get(f"{base}/healthz", timeout=10).text.startswith("all well\nalive")
    at_start = metrics(base).keys()
    testbed.announce(1, 2, 3)
    testbed.wait_for(completed=2, sampled=1)
    seen = metrics(base)
    assert seen.keys() == at_start, "no series appears with its first event: it would have no rate for it"
    assert seen["fastmon_stfs['completed']"] == 2
    assert seen["fastmon_stfs_unfinished[]"] == 1
    assert seen["fastmon_stf_oldest_age_seconds['sampled']"] > 0
    assert seen["fastmon_stf_oldest_age_seconds['tf_registered']"] == 0
    assert seen["fastmon_stf_last_received_timestamp_seconds[]"] > 1.7e9
    assert seen["fastmon_stf_last_completed_timestamp_seconds[]"] > 1.7e9
    assert seen["fastmon_newest_run_number[]"] == 100014
    assert seen["fastmon_newest_run_stfs['completed']"] == 2
    assert seen["fastmon_run_missing_stfs['open']"] == 0
    assert seen["fastmon_messages_total['stored']"] == 3
    assert seen["fastmon_stfs_received_total['message']"] == 3
    assert seen["fastmon_transitions_total['new', 'received']"] == 3  # labels in the order of their values
    assert seen["fastmon_transitions_total['completed', 'notified']"] == 2
    assert seen["fastmon_transition_duration_seconds_count['completed', 'notified']"] == 2
    assert seen["fastmon_stf_latency_seconds_count['completed']"] == 2
    assert seen["fastmon_tf_files_registered_total[]"] == seen["fastmon_announcements_total[]"] == 14
    assert seen["fastmon_attempts_total['notify_clients', 'ok']"] == 14
    assert seen["fastmon_monitor_requests_total['201', 'POST']"] >= 14
    assert seen["fastmon_link_up['monitor']"] == 1
    assert seen["fastmon_link_blocked['monitor']"] == 0
    assert seen["fastmon_engine_ticks_total[]"] > 0
    assert {"fastmon_stage_updates_total['single']", "fastmon_stage_updates_total['coalesced']"} <= seen.keys()
    assert seen["fastmon_stage_reports_pending[]"] >= 0
    assert seen["fastmon_database_bytes[]"] > 0
    assert seen["fastmon_disk_free_bytes[]"] > 0
    testbed.monitor.stop()
    testbed.announce(4)
    wait_until(lambda: metrics(base)["fastmon_link_up['monitor']"] == 0, "the monitor is down")
    wait_until(lambda: metrics(base)["fastmon_outage_seconds_total['monitor']"] > 0, "its outage is counted")
    page = requests.get(f"{base}/metrics", timeout=10).text
    assert TOKEN not in page
    assert "secret-word" not in page
    daemon.send_signal(signal.SIGTERM)
    assert daemon.wait(30) == 0


def test_messages_that_cannot_be_stored_are_counted(testbed: LiveTestbed) -> None:
    testbed.daemon(FASTMON_HTTP="0", FASTMON_MIN_FREE_MB="1000000000")
    base = base_url(testbed)
    assert metrics(base)["fastmon_messages_buffered[]"] == 0
    testbed.announce(1, 2, 3)
    wait_until(lambda: metrics(base)["fastmon_messages_buffered[]"] == 3, "all are buffered")


def test_nothing_is_served_without_a_setting(testbed: LiveTestbed) -> None:
    testbed.daemon()
    assert "metrics at" not in testbed.log()


def test_a_port_in_use_is_logged_and_the_daemon_works_without_metrics(testbed: LiveTestbed) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        testbed.daemon(FASTMON_HTTP=str(port))
        assert f"FASTMON_HTTP=127.0.0.1:{port}: Address already in use" in testbed.log()
        testbed.register(1)
        testbed.announce(1)
        testbed.wait_for(completed=1)


@contextmanager
def serving(
    listen: ListenAddress, liveness: Liveness, errors: WorkerErrors, metrics: Callable[[], bytes] = lambda: b""
) -> Iterator[None]:
    with serve(listen, endpoints_for(liveness, errors, metrics=metrics).by_path(), errors):
        yield


@pytest.fixture
def listen() -> ListenAddress:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return ListenAddress("127.0.0.1", free.getsockname()[1])


def test_an_engine_stalled_for_three_intervals_is_unhealthy_until_its_next_tick(listen: ListenAddress) -> None:
    time = HandClock(seconds=0)
    liveness = Liveness(time.clock().monotonic)
    with serving(listen, liveness, WorkerErrors()):
        url = f"http://{listen}/healthz"
        time.pass_(seconds=15)
        assert requests.get(url, timeout=10).text == "all well\nalive: last engine tick 15.0 s ago\n"
        time.pass_(seconds=0.5)
        answer = requests.get(url, timeout=10)
        assert (answer.status_code, "stalled for 15.5 s" in answer.text) == (503, True)
        liveness.beat()
        assert requests.get(url, timeout=10).status_code == 200


def test_a_failing_watcher_is_unhealthy_though_the_engine_works(listen: ListenAddress) -> None:
    errors = WorkerErrors()
    errors.failed("watcher", ValueError())
    with serving(listen, Liveness(HandClock().clock().monotonic), errors):
        answer = requests.get(f"http://{listen}/healthz", timeout=10)
        assert (answer.status_code, "watcher (ValueError)" in answer.text) == (503, True)
        errors.worked("watcher")
        assert requests.get(f"http://{listen}/healthz", timeout=10).status_code == 200


def test_unreadable_metrics_are_503_with_the_reason_and_other_paths_404(listen: ListenAddress) -> None:
    def broken() -> bytes:
        raise OSError("the disk is gone")

    with serving(listen, Liveness(HandClock().clock().monotonic), WorkerErrors(), broken):
        answer = requests.get(f"http://{listen}/metrics", timeout=10)
        assert (answer.status_code, "the disk is gone" in answer.text) == (503, True)
        assert requests.get(f"http://{listen}/other", timeout=10).status_code == 404
        head = requests.head(f"http://{listen}/healthz", timeout=10)
        assert (head.status_code, head.content) == (200, b"")
        assert requests.post(f"http://{listen}/metrics", timeout=10).status_code == 501


@pytest.fixture
def log() -> Iterator[queue.SimpleQueue[Message]]:
    """The log lines."""
    lines: queue.SimpleQueue[Message] = queue.SimpleQueue()
    sink = logger.add(lines.put, level="DEBUG", backtrace=False, diagnose=False)
    yield lines
    logger.remove(sink)


def test_a_bug_of_ours_is_500_logged_with_its_traceback_and_unhealthy_until_it_is_gone(
    listen: ListenAddress, log: queue.SimpleQueue[Message]
) -> None:
    errors = iter([KeyError("a secret"), KeyError("a secret"), None])

    def render() -> bytes:
        if (error := next(errors)) is not None:
            raise error
        return b""

    with serving(listen, Liveness(HandClock().clock().monotonic), WorkerErrors(), render):
        for _ in range(2):
            assert requests.get(f"http://{listen}/metrics", timeout=10).status_code == 500
        health = requests.get(f"http://{listen}/healthz", timeout=10)
        assert (health.status_code, health.text) == (
            503,
            "all well\nunexpected errors, see the log: http /metrics (KeyError)\n",
        )
        assert requests.get(f"http://{listen}/metrics", timeout=10).status_code == 200
        assert requests.get(f"http://{listen}/healthz", timeout=10).status_code == 200
    lines = [log.get_nowait() for _ in range(log.qsize())]
    (error,) = [line for line in lines if line.record["level"].name == "ERROR"]
    assert "Traceback" in error
    assert "KeyError: 'a secret'" in error


def test_a_client_that_disconnects_before_its_response_is_no_error(
    listen: ListenAddress, log: queue.SimpleQueue[Message]
) -> None:
    requested, gone = threading.Event(), threading.Event()

    def render() -> bytes:
        requested.set()
        assert gone.wait(20)
        return b"x" * 10_000_000

    errors = WorkerErrors()
    with serving(listen, Liveness(HandClock().clock().monotonic), errors, render):
        with socket.create_connection((listen.host, listen.port)) as client:
            client.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            assert requested.wait(20)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # resets the connection
        gone.set()
        while "the client disconnected" not in (line := log.get(timeout=20)):
            assert line.record["level"].no < 40
        assert line.record["level"].name == "DEBUG"
        assert requests.get(f"http://{listen}/healthz", timeout=10).status_code == 200
    assert errors.now() == {}


def test_a_silent_client_delays_neither_others_nor_the_end(listen: ListenAddress) -> None:
    address, liveness = (listen.host, listen.port), Liveness(HandClock().clock().monotonic)
    with (
        serving(listen, liveness, WorkerErrors()),
        socket.create_connection(address) as silent,
    ):
        silent.sendall(b"GET /met")
        assert requests.get(f"http://{listen}/healthz", timeout=10).status_code == 200
    with socket.socket() as again:
        assert again.connect_ex(address) != 0


def test_all_readers_together_need_one_connection_to_the_database(testbed: LiveTestbed) -> None:
    daemon = testbed.daemon(FASTMON_HTTP="0", FASTMON_REST_LOGGING="off")
    base, folder = base_url(testbed), Path(f"/proc/{daemon.pid}/fd")
    testbed.register(1)
    testbed.announce(1)
    testbed.wait_for(completed=1)

    def connections() -> int:
        with suppress(OSError):  # one was closed meanwhile
            return sum(str(each.readlink()) == str(testbed.database) for each in folder.iterdir())
        return 0

    def read(path: str) -> None:
        for _ in range(40):
            assert requests.get(f"{base}{path}", timeout=20).status_code == 200

    before, most = max(connections() for _ in range(20)), 0
    with ThreadPoolExecutor(8) as pool:
        reading = [pool.submit(read, path) for path in 2 * ["/metrics", "/status", "/healthz", "/readyz"]]
        while not all(each.done() for each in reading):
            most = max(most, connections())
    for each in reading:
        each.result()
    assert most <= before + 1


def test_a_reader_waits_for_the_others_but_not_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_outbox(tmp_path / "outbox.db").close()
    shared, entered, go_on = SharedReader(tmp_path / "outbox.db"), threading.Event(), threading.Event()

    def read() -> int:
        with shared.open() as reports:
            entered.set()
            assert go_on.wait(60)
            return reports.count_stfs()

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(read)
        assert entered.wait(60)
        monkeypatch.setattr(database, "BUSY_TIMEOUT_S", 0.05)
        with pytest.raises(StorageUnavailable, match="earlier requests"), shared.open():
            pass
        monkeypatch.undo()
        second = pool.submit(read)
        go_on.set()
        assert (first.result(), second.result()) == (0, 0)
