"""The verdict: `inspect`, /healthz, /metrics and the heart-beat say the same, and say what is so."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from fastmon_daemon.commands.inspect_tables import render_inspection
from fastmon_daemon.inspection.http_server import serve
from fastmon_daemon.inspection.inspector import InspectionContext, Inspector, with_metadata
from fastmon_daemon.inspection.liveness import Liveness
from fastmon_daemon.outbox import Outbox, open_for_reading
from fastmon_daemon.presence.assessment import ALL_WELL, KINDS, Assessment, Assessor, ProcessState
from fastmon_daemon.presence.health import HealthChecker
from fastmon_daemon.presence.periodic_worker import WorkerErrors
from fastmon_daemon.settings import ListenAddress
from tests.builders import FakeTestbed, settle
from tests.inspection.builders import collector_for, endpoints_for
from tests.inspection.test_http_server import base_url
from tests.presence.builders import RULE
from tests.processes import LiveTestbed, live_testbed, wait_until


class Voices:
    """What each of the four says of one daemon at one moment."""

    def __init__(self, testbed: FakeTestbed, **rule: Any) -> None:
        self.state = ProcessState()
        self.rule = replace(RULE, **rule)
        self.testbed = testbed
        self.database = testbed.folder / "outbox.db"
        self.clock = testbed.time.clock()
        self.assessor = Assessor(self.database, self.rule, lambda: self.state, self.clock)

    def verdict(self) -> str:
        """Return what all say. Raises: AssertionError if they do not agree."""
        said = {
            "inspect": self.printed(),
            "heart-beat": self.heartbeat(),
            "metrics": self.metrics().partition("\n")[0].removeprefix("# "),
            "healthz": self.healthz().partition("\n")[0],
        }
        said = {who: re.sub(r"\d+ MB free", "N MB free", line) for who, line in said.items()}  # others write, too
        assert len(set(said.values())) == 1, said
        return said["inspect"]

    def printed(self) -> str:
        """The first line of the text."""
        with self._inspector() as (inspector, context):
            view = with_metadata(inspector.overview(), inspector, context, ("outbox.db", "the test"))
        return next(iter(render_inspection(view, None)))

    def inspect(self) -> Assessment:
        with self._inspector() as (inspector, _):
            return inspector.assessment()

    @contextmanager
    def _inspector(self) -> Iterator[tuple[Inspector, InspectionContext]]:
        self.assessor.assess()  # the daemon has seen it
        process = self.assessor.process_state()
        context = InspectionContext(rule=self.rule, now=self.testbed.time.at, daemon=1, process=process)
        with closing(open_for_reading(self.database)) as reports:
            yield Inspector(reports, context), context

    def heartbeat(self) -> str:
        checker = HealthChecker(
            database=self.database, assessor=self.assessor, connected=lambda: True, clock=self.clock
        )
        with closing(checker.reports):
            return checker.health().line

    def metrics(self) -> str:
        return collector_for(self.assessor, self.clock).render().decode()

    def healthz(self) -> str:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            listen = ListenAddress("127.0.0.1", free.getsockname()[1])
        endpoints = endpoints_for(Liveness(self.clock.monotonic), WorkerErrors(), assess=self.assessor.assess)
        with serve(listen, endpoints.by_path(), WorkerErrors()):
            return requests.get(f"http://{listen}/healthz", timeout=20).text


@pytest.fixture
def testbed(tmp_path: Path) -> FakeTestbed:
    return FakeTestbed(tmp_path)


@pytest.fixture
def outbox(testbed: FakeTestbed) -> Iterator[Outbox]:
    with closing(testbed.outbox()) as opened:
        yield opened


def end_run(testbed: FakeTestbed, outbox: Outbox, run: str, expected: int) -> None:
    with outbox.transaction():
        if outbox.runs.get("ns", run) is None:
            outbox.runs.record_message("ns", run, "running", testbed.time.at, None)
        (row,) = outbox.runs.find(run)
        outbox.runs.expect(row, expected, "end_run")
        outbox.runs.set_state(row, "ended", ended_at=testbed.time.at)


@pytest.mark.field("6")
def test_all_well(testbed: FakeTestbed, outbox: Outbox) -> None:
    testbed.receive(outbox)
    settle(testbed.engine(outbox))
    voices = Voices(testbed)
    assert voices.verdict() == ALL_WELL
    assert not voices.inspect().concerns_data


@pytest.mark.field("6")
def test_stfs_missing_in_a_run_that_ended_are_named(testbed: FakeTestbed, outbox: Outbox) -> None:
    voices = Voices(testbed)
    testbed.receive(outbox, 1)
    settle(testbed.engine(outbox))
    end_run(testbed, outbox, "100014", 26)
    testbed.time.pass_(seconds=59)
    assert voices.verdict() == ALL_WELL  # they may still come
    testbed.time.pass_(seconds=1)
    assert voices.verdict() == (
        "run 100014 incomplete: 25 STFs missing of a run that ended (since 20:00:00Z, 1 min ago): "
        "list them with `fastmon-daemon verdict 100014`, recover them with `reconcile --run 100014`"
    )
    assert voices.inspect().concerns_data
    end_run(testbed, outbox, "100015", 2)
    testbed.time.pass_(minutes=2)
    assert "2 runs incomplete: 27 STFs missing of the runs 100014, 100015" in voices.verdict()
    assert Voices(testbed, reconciles=False).verdict() == ALL_WELL  # another daemon has them


@pytest.mark.field("1", "6")
def test_stfs_that_the_monitor_does_not_list_make_a_run_incomplete_also_after_its_completion(
    testbed: FakeTestbed, outbox: Outbox
) -> None:
    testbed.receive(outbox, 1)
    name = testbed.receive(outbox, 2)
    settle(testbed.engine(outbox))
    end_run(testbed, outbox, "100014", 2)
    (row,) = outbox.runs.find("100014")
    with outbox.transaction():
        outbox.runs.record_poll(row, None, 1, [], [name])
    testbed.time.pass_(minutes=2)
    told = (
        "run 100014 incomplete: 1 STF not listed by the monitor of a run that ended (since 20:00:00Z, 2 min ago): "
        "list them with `fastmon-daemon verdict 100014`"
    )
    assert Voices(testbed).verdict() == told
    with outbox.transaction():
        outbox.runs.set_state(row, "complete")
    assert Voices(testbed).verdict() == told
    with outbox.transaction():
        outbox.runs.record_poll(row, None, 2, [], [])
    assert Voices(testbed).verdict() == ALL_WELL


def test_a_run_with_all_stfs_is_not_incomplete(testbed: FakeTestbed, outbox: Outbox) -> None:
    testbed.receive(outbox, 1)
    settle(testbed.engine(outbox))
    end_run(testbed, outbox, "100014", 1)
    testbed.time.pass_(hours=2)
    assert Voices(testbed).verdict() == ALL_WELL


@pytest.mark.field("6")
def test_a_full_disk_is_named_with_the_time_since_when_it_is_known(testbed: FakeTestbed, outbox: Outbox) -> None:
    assert outbox.counts_by_state() == {}
    voices = Voices(testbed, min_free_mb=10**9)
    assert voices.verdict().startswith("intake stopped: N MB free")
    testbed.time.pass_(seconds=31)
    assert "FASTMON_MIN_FREE_MB is 1000000000 (since 20:00:00Z, 31 s ago): free space" in voices.verdict()
    assert voices.inspect().concerns_data


@pytest.mark.field("6")
def test_the_worst_problem_comes_first_and_the_others_are_named(testbed: FakeTestbed, outbox: Outbox) -> None:
    testbed.receive(outbox)
    with outbox.transaction():
        outbox.outages.link_lost("broker", "no\nanswer", testbed.time.at, blocked=False)
        outbox.outages.link_lost("monitor", "401", testbed.time.at, blocked=True)
    testbed.time.pass_(minutes=5)
    voices = Voices(testbed)
    assert voices.verdict() == (
        "monitor blocked: 401 (since 20:00:00Z, 5 min ago): correct what it names; work resumes by itself; "
        "also: broker down, stuck"
    )
    voices.state = ProcessState(stalled_s=20.0, fault="disk full", worker_errors={"stages": "KeyError"})
    voices.assessor.assess()
    assert voices.verdict() == (
        "engine stalled: no tick for 20.0 s (since 20:04:40Z, 20 s ago): see the log, then restart the daemon; "
        "also: database not writable, monitor blocked, broker down, stages failing, stuck"
    )


def test_a_series_for_each_kind_of_problem_is_there_from_the_start(testbed: FakeTestbed, outbox: Outbox) -> None:
    assert outbox.counts_by_state() == {}
    (problems,) = [
        each for each in text_string_to_metric_families(Voices(testbed).metrics()) if each.name == "fastmon_problems"
    ]
    assert {sample.labels["kind"]: sample.value for sample in problems.samples} == dict.fromkeys(KINDS, 0)


@pytest.fixture
def live(tmp_path: Path) -> Iterator[LiveTestbed]:
    with live_testbed(tmp_path) as made:
        yield made


def inspected(live: LiveTestbed) -> dict[str, Any]:
    return dict(json.loads(live.call("inspect", "--json").stdout))


@pytest.mark.field("6")
def test_a_monitor_that_only_stage_reports_need_is_found_down(live: LiveTestbed) -> None:
    live.register(1)
    live.monitor.faults(error_rate=1, error_status=500, endpoints=["/api/workflow"])
    live.daemon()
    live.announce(1)
    live.wait_for(completed=1)
    assert inspected(live)["stages"]["pending"] > 0
    live.monitor.stop()
    wait_until(lambda: inspected(live)["links"]["monitor"]["state"] == "down", "somebody asked the monitor")
    assert inspected(live)["verdict"].startswith("monitor down: ")
    live.monitor.start()
    live.monitor.faults()
    wait_until(lambda: inspected(live)["verdict"] == ALL_WELL, "it is back")


@pytest.mark.field("6")
def test_a_full_disk_is_logged_at_the_start_before_any_message(live: LiveTestbed) -> None:
    daemon = live.daemon(FASTMON_MIN_FREE_MB="1000000000")
    assert "intake stopped: " in live.log()
    shown = live.call("inspect", FASTMON_MIN_FREE_MB="1")  # the daemon's setting counts, not this one
    assert (shown.returncode, shown.stdout.startswith("intake stopped: ")) == (1, True)
    daemon.send_signal(signal.SIGSTOP)  # it has the lock, and does not answer
    silent = live.call("inspect")
    daemon.send_signal(signal.SIGCONT)
    assert silent.stdout.startswith("daemon silent: it does not answer on its control socket")
    assert silent.returncode == 1


@pytest.mark.field("6")
def test_a_dead_daemon_is_named_with_the_time_of_its_last_sign_of_life(live: LiveTestbed) -> None:
    daemon = live.daemon()
    assert inspected(live)["verdict"] == ALL_WELL
    daemon.kill()
    daemon.wait()
    shown = live.call("inspect")
    assert shown.returncode == 0  # no work is left
    assert " ago): start fastmon-daemon\n" in shown.stdout
    assert shown.stdout.startswith("no daemon is running: no STF is received or processed (since ")


def test_messages_that_cannot_be_stored_are_an_intake_that_stopped(live: LiveTestbed) -> None:
    live.daemon()
    live.register(1, 2)
    with closing(sqlite3.connect(live.folder / "outbox.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        live.announce(1, 2)
        wait_until(lambda: "messages cannot be stored" in live.log(), "they are buffered")
        shown = live.call("inspect")
        other.execute("ROLLBACK")
    assert (shown.returncode, "intake stopped: 2 messages not stored" in shown.stdout) == (1, True)
    assert f"held by another program (database is locked): process {os.getpid()} " in shown.stdout
    assert "make room" not in live.log()
    live.wait_for(completed=2)
    wait_until(lambda: inspected(live)["verdict"] == ALL_WELL, "it is over")


def test_a_lack_of_descriptors_is_named_and_intake_goes_on(live: LiveTestbed) -> None:
    daemon = live.daemon()
    soft, hard = resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE)
    live.register(1, 2)
    used = {int(path.name) for path in Path(f"/proc/{daemon.pid}/fd").iterdir()}
    limit = next(number for number in range(1000) if number not in used)
    resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (limit, hard))
    live.announce(1, 2)
    wait_until(lambda: sum(live.states().values()) == 2, "both are stored")
    wait_until(lambda: "too many open files" in inspected(live)["verdict"], "the cause is told")
    assert "raise the limit of open files (ulimit -n" in live.log()
    assert "make room" not in live.log()
    resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (soft, hard))
    live.wait_for(completed=2)
    wait_until(lambda: inspected(live)["verdict"] == ALL_WELL, "it is over")


def test_a_link_is_not_up_before_its_first_connection(live: LiveTestbed) -> None:
    """The broker accepts the connection, and answers nothing."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = str(silent.getsockname()[1])
        live.start("run", ACTIVEMQ_PORT=port, FASTMON_HTTP="0")
        base = base_url(live)
        wait_until(lambda: "starting" not in requests.get(f"{base}/readyz", timeout=20).text, "it has started")
        links = json.loads(live.call("inspect", "--json", ACTIVEMQ_PORT=port).stdout)["links"]
        ready = requests.get(f"{base}/readyz", timeout=20)
    assert {name: links[name]["state"] for name in ("broker", "announcements")} == {
        "broker": "unknown", "announcements": "unknown",
    }  # fmt: skip
    assert ready.status_code == 503
    assert "not ready  broker: not connected yet" in ready.text
