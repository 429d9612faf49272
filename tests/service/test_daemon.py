"""The daemon as a process: signals, restarts, outages, exit codes, and what it logs."""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fastmon_daemon.outbox import open_outbox
from tests.processes import TOKEN, OnEmbedded, living, name, wait_until


@pytest.fixture
def world(tmp_path: Path) -> Iterator[OnEmbedded]:
    with living(tmp_path) as made:
        yield made


def registered(world: OnEmbedded) -> int:
    return int(world.monitor.counts()["fastmon_files"])


def test_an_stf_ready_becomes_seven_tf_files_registered_and_announced_once(world: OnEmbedded) -> None:
    world.daemon()
    world.register(1)
    world.announce(1)
    world.wait_for(completed=1)
    counts = world.monitor.counts()
    assert (counts["fastmon_files"], counts["announcements"], counts["distinct_announcements"]) == (7, 7, 7)
    shown = world.call("inspect", name(1), "--json")
    assert shown.returncode == 0, shown.stderr
    assert "completed" in shown.stdout


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_a_signal_drains_and_exits_with_0(world: OnEmbedded, number: signal.Signals) -> None:
    daemon = world.daemon()
    daemon.send_signal(number)
    assert daemon.wait(30) == 0
    assert "stopped" in world.log()


def test_kill_9_in_the_middle_loses_nothing_and_registers_nothing_twice(world: OnEmbedded) -> None:
    world.monitor.faults(latency_ms=20)
    daemon = world.daemon()
    world.register(*range(1, 21))
    world.announce(*range(1, 21))
    wait_until(lambda: registered(world) >= 30, "some are registered")
    daemon.kill()
    daemon.wait()
    shown = world.call("inspect")
    assert shown.returncode == 1
    assert "no daemon is running" in shown.stdout
    world.daemon()
    world.wait_for(completed=20)
    counts = world.monitor.counts()
    assert counts["fastmon_files"] == 140
    assert counts["distinct_announcements"] == 140


def test_messages_sent_while_a_durable_daemon_is_stopped_are_processed_later(world: OnEmbedded) -> None:
    daemon = world.daemon()
    daemon.send_signal(signal.SIGTERM)
    assert daemon.wait(30) == 0
    world.register(1, 2, 3)
    world.announce(1, 2, 3)
    world.daemon()
    world.wait_for(completed=3)


def test_while_the_monitor_is_down_stfs_are_sampled_and_they_go_on_after_it(world: OnEmbedded) -> None:
    world.register(1, 2, 3)
    world.daemon()
    world.monitor.stop()
    world.announce(1, 2, 3)
    world.wait_for(sampled=3)
    shown = world.call("inspect", FASTMON_STUCK_AFTER="0.1")
    assert shown.returncode == 0, shown.stdout
    assert "down" in shown.stdout
    world.monitor.start()
    world.wait_for(completed=3)
    assert '"attempts": 0' in world.call("inspect", name(1), "--json").stdout


def test_while_the_broker_is_down_stfs_are_registered_and_announced_after_it(world: OnEmbedded) -> None:
    world.register(1, 2)
    world.monitor.faults(latency_ms=300)
    world.daemon()
    world.announce(1, 2)
    wait_until(lambda: sum(world.states().values()) == 2, "both are received")
    world.broker.stop()
    world.wait_for(tf_registered=2)
    world.broker.start()
    world.wait_for(completed=2)
    assert world.monitor.counts()["distinct_announcements"] == 14


def test_an_stf_that_is_registered_after_its_message_is_waited_for(world: OnEmbedded) -> None:
    world.daemon()
    world.announce(1)
    world.wait_for(sampled=1)
    world.register(1)
    world.wait_for(completed=1)


def test_a_message_without_filename_makes_the_daemon_poll_the_run(world: OnEmbedded) -> None:
    world.daemon()
    world.publish({"msg_type": "stf_ready", "req_id": 1, "run_id": 100014})
    world.register(1, 2)
    world.wait_for(completed=2)
    world.publish({"msg_type": "end_run", "run_id": "100014", "total_stf_files": 3})
    world.register(3)
    world.wait_for(completed=3)


def test_answers_lost_after_the_commit_and_errors_register_nothing_twice(world: OnEmbedded) -> None:
    world.daemon()
    world.register(*range(1, 11))
    world.monitor.faults(drop_rate=0.2, error_rate=0.1)
    world.announce(*range(1, 11))
    wait_until(lambda: registered(world) >= 21, "some are registered")
    world.monitor.faults()  # a probe that fails keeps the circuit breaker open for seconds
    world.wait_for(completed=10)
    assert world.monitor.counts()["fastmon_files"] == 70


def test_announcements_go_by_rest_if_the_monitor_accepts_them(tmp_path: Path) -> None:
    published: list[dict[str, object]] = []
    with living(tmp_path, publish=published.append) as world:
        world.daemon(FASTMON_NOTIFY="rest")
        world.register(1)
        world.announce(1)
        world.wait_for(completed=1)
        assert [message["msg_type"] for message in published].count("tf_file_registered") == 7
        assert world.monitor.counts()["announcements"] == 0


def test_a_monitor_that_accepts_no_messages_is_logged_once_and_costs_no_stf(world: OnEmbedded) -> None:
    daemon = world.daemon(FASTMON_NOTIFY="rest")
    world.register(1, 2)
    world.announce(1, 2)
    world.wait_for(tf_registered=2)
    wait_until(lambda: "set FASTMON_NOTIFY=stomp" in world.log(), "the hint")
    shown = json.loads(world.call("inspect", "--json", FASTMON_NOTIFY="rest").stdout)
    assert {name: link["state"] for name, link in shown["links"].items()} == {
        "monitor": "up", "broker": "up", "messages": "blocked",
    }  # fmt: skip
    daemon.send_signal(signal.SIGTERM)
    assert daemon.wait(30) == 0
    assert world.log().count("link to the messages is blocked") == 1
    world.daemon()
    world.wait_for(completed=2)
    assert world.monitor.counts()["distinct_announcements"] == 14


def test_with_notify_off_stfs_are_registered_and_completed(world: OnEmbedded) -> None:
    world.daemon(FASTMON_NOTIFY="off")
    world.register(1)
    world.announce(1)
    world.wait_for(completed=1)
    counts = world.monitor.counts()
    assert (counts["fastmon_files"], counts["announcements"]) == (7, 0)


def test_malformed_messages_among_good_ones_are_rejected(world: OnEmbedded) -> None:
    world.daemon()
    world.register(1)
    for body in ("not JSON", "[]", '{"msg_type": "stf_ready", "run_id": null}'):
        world.broker_access.publish(body)
    world.announce(1)
    world.wait_for(completed=1)
    rejected = json.loads(world.call("inspect", "--rejected", "--json").stdout)
    assert len(rejected["rejected"]) == 3


def test_a_second_daemon_on_the_same_database_exits_with_75(world: OnEmbedded) -> None:
    daemon = world.daemon()
    second = world.call("run")
    assert second.returncode == 75
    assert f"process {daemon.pid} owns this database" in second.stderr


def test_once_processes_pending_work_and_its_exit_code_says_whether_work_remains(world: OnEmbedded) -> None:
    world.register(1)
    daemon = world.daemon()
    world.announce(1, 2)
    wait_until(lambda: world.states().get("completed") == 1 and world.states().get("sampled") == 1, "one remains")
    daemon.send_signal(signal.SIGTERM)
    daemon.wait(30)
    assert world.call("run", "--once").returncode == 1
    world.register(2)
    wait_until(lambda: world.call("run", "--once").returncode == 0, "no work remains")
    assert world.states() == {"completed": 2}


def test_once_ends_though_the_monitor_was_down_and_answers_no_probe(world: OnEmbedded) -> None:
    with closing(open_outbox(world.database)) as outbox, outbox.transaction():
        outbox.outages.link_lost("monitor", "no answer", datetime.now(UTC), blocked=False)
    with socket.create_server(("127.0.0.1", 0), backlog=100) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        assert world.call("run", "--once", SWF_MONITOR_URL=url, FASTMON_AGENT_NAME="us").returncode == 0


def test_without_broker_and_monitor_it_runs_and_waits(world: OnEmbedded) -> None:
    world.broker.stop()
    world.monitor.stop()
    daemon = world.start("run", FASTMON_AGENT_NAME="us")
    for link in ("broker", "monitor"):
        wait_until(lambda link=link: f"link to the {link} is down" in world.log(), "the log line")  # type: ignore[misc]
    assert daemon.poll() is None
    world.monitor.start()
    world.broker.start()
    wait_until(lambda: "broker link up" in world.log(), "it is connected")
    world.register(1)
    world.announce(1)
    world.wait_for(completed=1)


def test_a_wrong_token_is_logged_before_the_first_stf(world: OnEmbedded) -> None:
    daemon = world.daemon(SWF_API_TOKEN="0" * 40)
    wait_until(lambda: "link to the monitor is blocked" in world.log(), "the log line")
    assert "set SWF_API_TOKEN to a valid token" in world.log()
    seen = json.loads(world.call("inspect", "--json").stdout)
    assert seen["links"]["monitor"]["state"] == "blocked"
    daemon.send_signal(signal.SIGTERM)
    assert daemon.wait(30) == 0
    world.daemon(SWF_API_TOKEN="0" * 40)
    assert "link to the monitor was blocked at the last stop" in world.log()


def test_a_missing_setting_is_named_in_one_line_and_exits_with_78(world: OnEmbedded) -> None:
    daemon = world.call("run", FASTMON_NAMESPACE="")
    assert daemon.returncode == 78
    assert len(daemon.stderr.splitlines()) == 1
    assert "FASTMON_NAMESPACE" in daemon.stderr


def test_no_secret_reaches_log_or_database_at_debug_level(world: OnEmbedded) -> None:
    daemon = world.daemon(SWF_LOG_LEVEL="DEBUG")
    world.register(1)
    world.announce(1)
    world.wait_for(completed=1)
    daemon.send_signal(signal.SIGTERM)
    daemon.wait(30)
    for secret in (TOKEN, "secret-word"):
        assert secret not in world.log()
        for path in world.folder.glob("outbox.db*"):
            assert secret.encode() not in path.read_bytes()
