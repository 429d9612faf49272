"""The daemon as a process: signals, restarts, outages, exit codes, and what it logs."""

from __future__ import annotations

import json
import re
import signal
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from fastmon_daemon.engine.concurrency_limits import INITIAL_LIMIT
from fastmon_daemon.outbox import open_outbox
from fastmon_daemon.outbox.store import MAX_LOG_BYTES
from fastmon_daemon.settings.fields import AUTO_WORKERS
from tests.processes import TOKEN, TOPIC, LiveTestbed, live_testbed, name, wait_until


@pytest.fixture
def testbed(tmp_path: Path) -> Iterator[LiveTestbed]:
    with live_testbed(tmp_path) as made:
        yield made


def registered(testbed: LiveTestbed) -> int:
    return int(testbed.monitor.counts()["fastmon_files"])


def test_an_stf_ready_becomes_seven_tf_files_registered_and_announced_once(testbed: LiveTestbed) -> None:
    testbed.daemon()
    testbed.register(1)
    testbed.announce(1)
    testbed.wait_for(completed=1)
    counts = testbed.monitor.counts()
    assert (counts["fastmon_files"], counts["announcements"], counts["distinct_announcements"]) == (7, 7, 7)
    shown = testbed.call("inspect", name(1), "--json")
    assert shown.returncode == 0, shown.stderr
    assert "completed" in shown.stdout


@pytest.mark.field("21")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_a_signal_drains_and_exits_with_0(testbed: LiveTestbed, number: signal.Signals) -> None:
    daemon = testbed.daemon()
    daemon.send_signal(number)
    assert daemon.wait(30) == 0
    assert f"{number.name}: stopping" in testbed.log()
    assert "INFO     stopped\n" in testbed.log()


@pytest.mark.field("21", "27")
def test_sighup_is_ignored_where_the_caller_ignores_it_and_sigint_is_not(testbed: LiveTestbed) -> None:
    daemon = testbed.daemon(under=["sh", "-c", "trap '' HUP INT; exec \"$@\"", "sh"])
    daemon.send_signal(signal.SIGHUP)
    testbed.register(1)
    testbed.announce(1)
    testbed.wait_for(completed=1)
    daemon.send_signal(signal.SIGINT)
    assert daemon.wait(30) == 0
    assert "SIGINT: stopping" in testbed.log()


@pytest.mark.field("29")
def test_an_stf_is_one_line_of_the_log_and_a_fault_is_logged_once(testbed: LiveTestbed) -> None:
    def requests() -> int:
        return sum(
            n
            for path, n in testbed.monitor.counts()["requests"].items()
            if path.split("/")[2] in {"fastmon-files", "stf-files"}
        )

    testbed.monitor.faults(error_rate=1, error_status=500, endpoints=["/api/fastmon-files"])
    testbed.daemon()
    testbed.announce(1, 2, 3)
    wait_until(lambda: requests() >= 4, "the monitor is probed again")
    testbed.monitor.faults()
    before = requests()
    wait_until(lambda: requests() >= before + 12, "STFs that are not registered yet are tried again")
    testbed.register(1, 2, 3)
    testbed.wait_for(completed=3)
    wait_until(lambda: testbed.log().count("-> completed") == 3, "all are logged")
    told = [line.split(None, 2)[1:] for line in testbed.log().splitlines()]
    assert sorted(text for level, text in told if level == "INFO" and ".stf" in text) == [
        f"{name(n)}: notified -> completed" for n in (1, 2, 3)
    ]
    troubles = [re.sub(r"(attempt|in) [\d.]+", "", text) for level, text in told if level in {"WARNING", "ERROR"}]
    assert len(troubles) == len(set(troubles)), testbed.log()


def test_kill_9_in_the_middle_loses_nothing_and_registers_nothing_twice(testbed: LiveTestbed) -> None:
    testbed.monitor.faults(latency_ms=20)
    daemon = testbed.daemon()
    testbed.register(*range(1, 21))
    testbed.announce(*range(1, 21))
    wait_until(lambda: registered(testbed) >= 30, "some are registered")
    daemon.kill()
    daemon.wait()
    shown = testbed.call("inspect")
    assert shown.returncode == 1
    assert "no daemon is running" in shown.stdout
    testbed.daemon()
    testbed.wait_for(completed=20)
    counts = testbed.monitor.counts()
    assert counts["fastmon_files"] == 140
    assert counts["distinct_announcements"] == 140


def test_messages_sent_while_a_durable_daemon_is_stopped_are_processed_later(testbed: LiveTestbed) -> None:
    daemon = testbed.daemon()
    daemon.send_signal(signal.SIGTERM)
    assert daemon.wait(30) == 0
    testbed.register(1, 2, 3)
    testbed.announce(1, 2, 3)
    testbed.daemon()
    testbed.wait_for(completed=3)


def test_while_the_monitor_is_down_stfs_are_sampled_and_they_go_on_after_it(testbed: LiveTestbed) -> None:
    testbed.register(1, 2, 3)
    testbed.daemon()
    testbed.monitor.stop()
    testbed.announce(1, 2, 3)
    testbed.wait_for(sampled=3)
    shown = testbed.call("inspect", FASTMON_STUCK_AFTER="0.1")
    assert shown.returncode == 0, shown.stdout
    assert "down" in shown.stdout
    testbed.monitor.start()
    testbed.wait_for(completed=3)
    assert '"attempts": 0' in testbed.call("inspect", name(1), "--json").stdout


def test_while_the_broker_is_down_stfs_are_registered_and_announced_after_it(testbed: LiveTestbed) -> None:
    testbed.register(1, 2)
    testbed.monitor.faults(latency_ms=300)
    testbed.daemon()
    testbed.announce(1, 2)
    wait_until(lambda: sum(testbed.states().values()) == 2, "both are received")
    testbed.broker.stop()
    testbed.wait_for(tf_registered=2)
    testbed.broker.start()
    testbed.wait_for(completed=2)
    assert testbed.monitor.counts()["distinct_announcements"] == 14


def test_an_stf_that_is_registered_after_its_message_is_waited_for(testbed: LiveTestbed) -> None:
    testbed.daemon()
    testbed.announce(1)
    testbed.wait_for(sampled=1)
    testbed.register(1)
    testbed.wait_for(completed=1)


def test_a_message_without_filename_makes_the_daemon_poll_the_run(testbed: LiveTestbed) -> None:
    testbed.daemon()
    testbed.publish({"msg_type": "stf_ready", "req_id": 1, "run_id": 100014})
    testbed.register(1, 2)
    testbed.wait_for(completed=2)
    testbed.publish({"msg_type": "end_run", "run_id": "100014", "total_stf_files": 3})
    testbed.register(3)
    testbed.wait_for(completed=3)


def test_answers_lost_after_the_commit_and_errors_register_nothing_twice(testbed: LiveTestbed) -> None:
    testbed.daemon()
    testbed.register(*range(1, 11))
    testbed.monitor.faults(drop_rate=0.2, error_rate=0.1)
    testbed.announce(*range(1, 11))
    wait_until(lambda: registered(testbed) >= 21, "some are registered")
    testbed.monitor.faults()  # a probe that fails keeps the circuit breaker open for seconds
    testbed.wait_for(completed=10)
    assert testbed.monitor.counts()["fastmon_files"] == 70


def test_announcements_go_by_rest_if_the_monitor_accepts_them(tmp_path: Path) -> None:
    published: list[dict[str, object]] = []
    with live_testbed(tmp_path, publish=published.append) as testbed:
        testbed.daemon(FASTMON_NOTIFY="rest")
        testbed.register(1)
        testbed.announce(1)
        testbed.wait_for(completed=1)
        assert [message["msg_type"] for message in published].count("tf_file_registered") == 7
        assert testbed.monitor.counts()["announcements"] == 0


def test_a_monitor_that_accepts_no_messages_is_logged_once_and_costs_no_stf(testbed: LiveTestbed) -> None:
    daemon = testbed.daemon(FASTMON_NOTIFY="rest")
    testbed.register(1, 2)
    testbed.announce(1, 2)
    testbed.wait_for(tf_registered=2)
    wait_until(lambda: "set FASTMON_NOTIFY=stomp" in testbed.log(), "the hint")

    def links() -> dict[str, Any]:
        return dict(json.loads(testbed.call("inspect", "--json", FASTMON_NOTIFY="rest").stdout)["links"])

    def calls() -> dict[str, Any]:
        return {name: link["calls"] for name, link in links().items() if name != "broker"}

    assert links()["broker"]["calls"] is None
    wait_until(lambda: {each["in_flight"] for each in calls().values()} == {0}, "no call in flight")
    assert all(1 <= each["limit"] <= AUTO_WORKERS for each in calls().values())
    assert {name: link["state"] for name, link in links().items()} == {
        "monitor": "up", "broker": "up", "messages": "blocked",
    }  # fmt: skip
    daemon.send_signal(signal.SIGTERM)
    assert daemon.wait(30) == 0
    assert testbed.log().count("link for messages is blocked") == 1
    testbed.daemon()
    testbed.wait_for(completed=2)
    assert testbed.monitor.counts()["distinct_announcements"] == 14


def test_with_notify_off_stfs_are_registered_and_completed(testbed: LiveTestbed) -> None:
    testbed.daemon(FASTMON_NOTIFY="off")
    testbed.register(1)
    testbed.announce(1)
    testbed.wait_for(completed=1)
    counts = testbed.monitor.counts()
    assert (counts["fastmon_files"], counts["announcements"]) == (7, 0)


MAY_NOT_SEND = "AMQ229032: User: daq does not have permission='SEND' on address epictopic"


@pytest.mark.field("27a")
def test_a_login_that_may_not_send_receives_every_stf_and_is_told_once_about_status_messages(
    testbed: LiveTestbed,
) -> None:
    testbed.broker.broker.refuse_send = MAY_NOT_SEND
    testbed.daemon(FASTMON_NOTIFY="off")
    wait_until(lambda: MAY_NOT_SEND in testbed.log(), "the status message is refused")
    testbed.register(*range(1, 21))
    testbed.announce(*range(1, 21))
    testbed.wait_for(completed=20)
    log = testbed.log()
    assert log.count(MAY_NOT_SEND) == 1
    assert "grant this user the right to send to /topic/epictopic" in log
    assert "link to the broker is down" not in log
    assert "link to the broker is blocked" not in log
    links = json.loads(testbed.call("inspect", "--json", FASTMON_NOTIFY="off").stdout)["links"]
    assert {name: link["state"] for name, link in links.items()} == {"monitor": "up", "broker": "up"}
    assert testbed.broker.broker.counters.accepted[TOPIC] == 20


@pytest.mark.field("27a")
@pytest.mark.parametrize("refusal", [MAY_NOT_SEND, "AMQ229119: Free storage space is at 1.0MB of 9.9GB total."])
def test_a_refused_announcement_blocks_announcing_and_never_the_intake(testbed: LiveTestbed, refusal: str) -> None:
    broker = testbed.broker.broker
    broker.refuse_send = refusal
    daemon = testbed.daemon()
    testbed.register(*range(1, 11))
    testbed.announce(*range(1, 11))
    testbed.wait_for(tf_registered=10)
    links = json.loads(testbed.call("inspect", "--json").stdout)["links"]
    assert {name: link["state"] for name, link in links.items()} == {
        "monitor": "up", "broker": "up", "announcements": "blocked",
    }  # fmt: skip
    assert refusal in links["announcements"]["reason"]
    assert testbed.log().count("link for announcements is blocked") == 1
    assert "link to the broker is down" not in testbed.log()
    daemon.send_signal(signal.SIGTERM)
    assert daemon.wait(30) == 0
    broker.refuse_send = ""
    testbed.daemon()
    testbed.wait_for(completed=10)
    assert testbed.monitor.counts()["distinct_announcements"] == 70


def test_malformed_messages_among_good_ones_are_rejected(testbed: LiveTestbed) -> None:
    testbed.daemon()
    testbed.register(1)
    for body in ("not JSON", "[]", '{"msg_type": "stf_ready", "run_id": null}'):
        testbed.broker_access.publish(body)
    testbed.announce(1)
    testbed.wait_for(completed=1)
    rejected = json.loads(testbed.call("inspect", "--rejected", "--json").stdout)
    assert len(rejected["rejected"]) == 3


def test_a_second_daemon_on_the_same_database_exits_with_75(testbed: LiveTestbed) -> None:
    daemon = testbed.daemon()
    second = testbed.call("run")
    assert second.returncode == 75
    assert f"process {daemon.pid} owns this database" in second.stderr


def test_once_processes_pending_work_and_its_exit_code_says_whether_work_remains(testbed: LiveTestbed) -> None:
    testbed.register(1)
    daemon = testbed.daemon()
    testbed.announce(1, 2)
    wait_until(lambda: testbed.states().get("completed") == 1 and testbed.states().get("sampled") == 1, "one remains")
    daemon.send_signal(signal.SIGTERM)
    daemon.wait(30)
    assert testbed.call("run", "--once").returncode == 1
    testbed.register(2)
    wait_until(lambda: testbed.call("run", "--once").returncode == 0, "no work remains")
    assert testbed.states() == {"completed": 2}


def test_once_ends_though_the_monitor_was_down_and_answers_no_probe(testbed: LiveTestbed) -> None:
    with closing(open_outbox(testbed.database)) as outbox, outbox.transaction():
        outbox.outages.link_lost("monitor", "no answer", datetime.now(UTC), blocked=False)
    with socket.create_server(("127.0.0.1", 0), backlog=100) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        assert testbed.call("run", "--once", SWF_MONITOR_URL=url, FASTMON_AGENT_NAME="us").returncode == 0


def test_without_broker_and_monitor_it_runs_and_waits(testbed: LiveTestbed) -> None:
    testbed.broker.stop()
    testbed.monitor.stop()
    daemon = testbed.start("run", FASTMON_AGENT_NAME="us")
    for link in ("broker", "monitor"):
        wait_until(lambda link=link: f"link to the {link} is down" in testbed.log(), "the log line")  # type: ignore[misc]
    assert daemon.poll() is None
    testbed.monitor.start()
    testbed.broker.start()
    wait_until(lambda: "link to the broker is up" in testbed.log(), "it is connected")
    testbed.register(1)
    testbed.announce(1)
    testbed.wait_for(completed=1)


@pytest.mark.field("29")
def test_a_broker_that_is_lost_is_logged_once_with_its_remedy(testbed: LiveTestbed) -> None:
    testbed.daemon()
    ups = [f"link {link} is up" for link in ("to the broker", "for announcements")]
    wait_until(lambda: all(up in testbed.log() for up in ups), "both are connected")
    testbed.broker.stop()
    faults = [f"link {link} is down: " for link in ("to the broker", "for announcements")]
    wait_until(lambda: all(fault in testbed.log() for fault in faults), "both connections are lost")
    testbed.broker.start()
    wait_until(lambda: all(testbed.log().count(up) == 2 for up in ups), "both are back")
    told = [line for line in testbed.log().splitlines() if " ERROR " in line or " WARNING " in line]
    assert sorted(line.partition("link ")[2].partition(" is ")[0] for line in told) == [
        "for announcements",
        "to the broker",
    ]
    assert all("start the broker or correct its address; work resumes by itself" in line for line in told)
    assert "broker link" not in testbed.log()


def test_a_wrong_token_is_logged_before_the_first_stf(testbed: LiveTestbed) -> None:
    daemon = testbed.daemon(SWF_API_TOKEN="0" * 40)
    wait_until(lambda: "link to the monitor is blocked" in testbed.log(), "the log line")
    assert "set SWF_API_TOKEN to a valid token" in testbed.log()
    seen = json.loads(testbed.call("inspect", "--json").stdout)
    assert seen["links"]["monitor"]["state"] == "blocked"
    daemon.send_signal(signal.SIGTERM)
    assert daemon.wait(30) == 0
    testbed.daemon(SWF_API_TOKEN="0" * 40)
    assert "link to the monitor was blocked at the last stop" in testbed.log()


def test_a_missing_setting_is_named_in_one_line_and_exits_with_78(testbed: LiveTestbed) -> None:
    daemon = testbed.call("run", FASTMON_NAMESPACE="")
    assert daemon.returncode == 78
    assert len(daemon.stderr.splitlines()) == 1
    assert "FASTMON_NAMESPACE" in daemon.stderr


def test_no_secret_reaches_log_or_database_at_debug_level(testbed: LiveTestbed) -> None:
    daemon = testbed.daemon(SWF_LOG_LEVEL="DEBUG")
    testbed.register(1)
    testbed.announce(1)
    testbed.wait_for(completed=1)
    daemon.send_signal(signal.SIGTERM)
    daemon.wait(30)
    for secret in (TOKEN, "secret-word"):
        assert secret not in testbed.log()
        for path in testbed.folder.glob("outbox.db*"):
            assert secret.encode() not in path.read_bytes()


@pytest.mark.field("26")
def test_a_daemon_leaves_no_connection_open_at_its_end(testbed: LiveTestbed) -> None:
    daemon = testbed.daemon(PYTHONWARNINGS="always::ResourceWarning")
    testbed.register(1)
    testbed.announce(1)
    testbed.wait_for(completed=1)
    wait_until(lambda: testbed.rows("workflow-stages"), "each reporter has read the database")
    daemon.terminate()
    assert daemon.wait(30) == 0
    assert "unclosed database" not in testbed.log()  # told since Python 3.13


def test_what_is_made_at_the_start_is_not_collected_again_and_again(testbed: LiveTestbed) -> None:
    site = testbed.folder / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(
        "import atexit, gc, pathlib\n"
        f"atexit.register(lambda: pathlib.Path({str(site / 'frozen')!r}).write_text(str(gc.get_freeze_count())))\n"
    )
    daemon = testbed.daemon(PYTHONPATH=str(site))
    daemon.terminate()
    assert daemon.wait(30) == 0
    assert int((site / "frozen").read_text()) > 10_000


@pytest.mark.field("27c")
def test_the_log_of_the_database_shrinks_when_a_long_reader_ends(testbed: LiveTestbed) -> None:
    """A reader that holds a transaction, such as a forgotten `sqlite3`, makes the write-ahead log grow."""
    stfs = range(1, 81)
    log = testbed.database.with_name(f"{testbed.database.name}-wal")
    testbed.register(*stfs)
    testbed.daemon(FASTMON_STAGES="off")
    with closing(sqlite3.connect(testbed.database, isolation_level=None)) as reader:
        reader.execute("begin")
        assert reader.execute("select count(*) from stf").fetchone() == (0,)
        for n in stfs:
            message = {"msg_type": "stf_ready", "run_id": "100014", "filename": name(n), "comment": 50_000 * "x"}
            testbed.publish(message)
        wait_until(lambda: testbed.states() == {"completed": len(stfs)}, "all are completed", 100)
        assert log.stat().st_size > 2 * MAX_LOG_BYTES
        reader.execute("commit")
        wait_until(lambda: log.stat().st_size <= MAX_LOG_BYTES, "the log has shrunk")
    assert testbed.states() == {"completed": len(stfs)}


@pytest.mark.field("1")
def test_names_of_another_run_are_neither_registered_nor_announced(testbed: LiveTestbed) -> None:
    """The first STF of run 100015 is in order; the monitor knows its later names as STFs of run 100014."""
    key = testbed.post("runs/", {"run_number": 100015, "start_time": "2026-11-21T21:56:56"})["run_id"]
    testbed.post("stf-files/", {"run": key, "stf_filename": "swf.100015.000001.stf"})
    testbed.register(2, 3)
    testbed.daemon(FASTMON_RECONCILE="off")

    def announce(filename: str) -> None:
        testbed.publish({"msg_type": "stf_ready", "run_id": "100015", "filename": filename})

    announce("swf.100015.000001.stf")
    testbed.wait_for(completed=1)
    for sequence in (2, 3):
        announce(name(sequence))
    wait_until(lambda: testbed.states().get("failed") == 2, "each was asked for")
    assert {row["stf_file"] for row in testbed.rows("fastmon-files")} == {"swf.100015.000001.stf"}


def test_a_monitor_that_slows_down_gets_few_calls(testbed: LiveTestbed) -> None:
    def calls() -> dict[str, int]:
        found: dict[str, int] = json.loads(testbed.call("inspect", "--json").stdout)["links"]["monitor"]["calls"]
        return found

    testbed.monitor.faults(latency_ms=100, endpoints=["/api/fastmon-files/"])
    testbed.daemon(FASTMON_STAGES="off")
    testbed.register(*range(1, 121))
    testbed.announce(*range(1, 121))
    wait_until(lambda: calls()["limit"] > INITIAL_LIMIT, "a monitor that is only far away gets more calls")
    testbed.monitor.faults(latency_ms=2000, endpoints=["/api/fastmon-files/"])
    wait_until(lambda: calls()["limit"] <= 5 and calls()["in_flight"] <= 5, "one that is slow gets few")
    testbed.monitor.faults(latency_ms=0, endpoints=["/api/fastmon-files/"])
    testbed.wait_for(completed=120)
