"""`verdict` and `reconcile` against a running daemon: outages, late starts, exit codes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastmon_daemon.outbox import open_outbox
from fastmon_daemon.testbed.monitor.file_tables import STF_FILES
from tests.processes import LiveTestbed, live_testbed, name, wait_until
from tests.reconciler.short_timeout import TIMEOUT_S

PLAIN = {"FASTMON_DURABLE": "off"}
END = {"msg_type": "end_run", "run_id": "100014"}


@pytest.fixture
def testbed(tmp_path: Path) -> Iterator[LiveTestbed]:
    with live_testbed(tmp_path) as made:
        yield made


def verdict_of(testbed: LiveTestbed, *words: str, run: str = "100014") -> tuple[int, dict[str, Any]]:
    """Exit code and JSON of `verdict`."""
    answer = testbed.call("verdict", run, "--json", *words)
    return answer.returncode, json.loads(answer.stdout) if answer.stdout else {"stderr": answer.stderr}


def when_complete(testbed: LiveTestbed) -> dict[str, Any]:
    """Wait for the complete verdict; AssertionError with the last one and the log."""
    for _ in range(4):
        code, verdict = verdict_of(testbed, "--wait", "20")
        if code == 0:
            return verdict
    raise AssertionError(f"{verdict}\n{testbed.log()[-2000:]}")


def counts(verdict: dict[str, Any]) -> dict[str, int]:
    return {key: verdict[key] for key in ("expected", "received", "recovered", "completed", "missing")}


def test_stfs_sent_on_a_plain_topic_during_a_broker_outage_are_recovered(testbed: LiveTestbed) -> None:
    testbed.daemon(**PLAIN)
    testbed.register(1, 2)
    testbed.announce(1, 2)
    testbed.wait_for(completed=2)
    testbed.broker.stop()
    wait_until(lambda: "link to the broker is down" in testbed.log(), "the daemon notices the outage")
    testbed.register(3, 4, 5)
    up = testbed.log().count("link to the broker is up")
    testbed.broker.start()
    wait_until(lambda: testbed.log().count("link to the broker is up") > up, "the link is back")
    testbed.register(6)
    testbed.announce(6)
    testbed.publish({**END, "total_stf_files": 6})
    verdict = when_complete(testbed)
    assert counts(verdict) == {"expected": 6, "received": 3, "recovered": 3, "completed": 6, "missing": 0}
    assert (verdict["expected_by"], verdict["tf_files"]["announced"]) == ("end_run", 42)
    assert "broker" in [outage["link"] for outage in verdict["outages"]]
    (stf,) = json.loads(testbed.call("inspect", name(4), "--json").stdout)["stfs"]
    assert stf["origin"] == "recovered"
    assert stf["history"][0]["note"].startswith("recovered: the broker link was down ")
    wait_until(lambda: "run 100014: complete: expected 6 (end_run)" in testbed.log(), "the verdict is in the log")
    assert testbed.monitor.counts()["fastmon_files"] == 42
    shown = testbed.call("verdict", "100014")
    assert shown.returncode == 0
    assert "run 100014 (namespace ns): complete" in shown.stdout


def test_missing_stfs_are_listed_by_number_and_the_exit_code_is_1(testbed: LiveTestbed) -> None:
    daemon = testbed.daemon(**PLAIN, FASTMON_NOTIFY="off")
    testbed.register(1, 2, 4)
    testbed.announce(1, 2, 4)
    testbed.publish({**END, "total_stf_files": 5})
    testbed.wait_for(completed=3)
    code, verdict = verdict_of(testbed)
    assert (code, verdict["missing"], verdict["missing_sequences"]) == (1, 2, "3, 5")
    assert (verdict["complete"], verdict["incomplete_reasons"]) == (False, ["missing: 2"])
    answer = testbed.call("verdict", "100014", "--wait", "3")
    assert answer.returncode == 1
    assert "missing sequence numbers" in answer.stdout
    assert "missing: 2" in answer.stderr
    assert json.loads(testbed.call("inspect", "--json").stdout)["runs"][0]["missing"] == 2
    daemon.terminate()
    daemon.wait(30)
    assert verdict_of(testbed)[0] == 1


def test_an_unknown_run_gives_exit_code_3_until_an_operator_reconciles_it(testbed: LiveTestbed) -> None:
    assert testbed.call("verdict", "100014").returncode == 3
    daemon = testbed.daemon(**PLAIN)
    code, answer = verdict_of(testbed)
    assert code == 3
    assert "no run 100014" in answer["error"]
    testbed.register(1, 2)
    by_daemon = testbed.call("reconcile", "--run", "100014", "--json")
    assert by_daemon.returncode == 0, by_daemon.stderr
    assert json.loads(by_daemon.stdout) == {
        "run": "100014",
        "monitor_count": 2,
        "known": 0,
        "recovered": [name(1), name(2)],
    }
    testbed.wait_for(completed=2)
    testbed.monitor.stop()
    away = testbed.call("reconcile", "--run", "100014")
    assert (away.returncode, "fastmon-daemon: GET http" in away.stderr) == (75, True)
    testbed.monitor.start()
    daemon.terminate()
    daemon.wait(30)
    testbed.register(3)
    alone = testbed.call("reconcile", "--run", "100014")
    assert alone.returncode == 0, alone.stderr
    assert "3 STFs listed by the monitor, 2 already known, 1 recovered" in alone.stdout
    assert testbed.states() == {"completed": 2, "received": 1}
    testbed.register(4)
    testbed.monitor.faults(drop_rate=1.0, endpoints=["/api/fastmon-files"])
    broken = testbed.call("reconcile", "--run", "100014")
    assert (broken.returncode, "/api/fastmon-files/: " in broken.stderr) == (75, True)
    testbed.monitor.faults()
    assert testbed.states() == {"completed": 2, "received": 1}, "its TF files may have been announced"
    assert testbed.call("reconcile", "--run", "7").returncode == 1
    assert testbed.call("reconcile", "--run", "cosmics").returncode == 1
    testbed.monitor.stop()
    assert testbed.call("reconcile", "--run", "100014").returncode == 75


def test_reconcile_waits_for_a_slow_monitor_and_says_so(testbed: LiveTestbed) -> None:
    short_timeout = {"program": "tests.reconciler.short_timeout", "PYTHONPATH": str(Path(__file__).parents[2])}
    testbed.daemon(**PLAIN, **short_timeout)
    testbed.register(1)
    testbed.monitor.faults(latency_ms=int(1000 * (TIMEOUT_S + 1)), endpoints=["/api/stf-files"])
    answer = testbed.call("reconcile", "--run", "100014", **short_timeout)
    assert answer.returncode == 0, answer.stderr
    assert "1 STF listed by the monitor, 0 already known, 1 recovered" in answer.stdout
    assert "waiting for the STF list of run 100014 from the monitor" in answer.stderr
    testbed.monitor.faults()
    testbed.wait_for(completed=1)


def test_verdict_needs_a_namespace_if_the_run_exists_in_two(testbed: LiveTestbed) -> None:
    open_outbox(testbed.database).close()
    testbed.register(1)
    for namespace in ("ns", "other"):
        assert testbed.call("reconcile", "--run", "100014", FASTMON_NAMESPACE=namespace).returncode == 0
    answer = testbed.call("verdict", "100014")
    assert answer.returncode == 2
    assert "exists in the namespaces ns, other: select one with --namespace" in answer.stderr
    assert verdict_of(testbed, "--namespace", "other")[1]["namespace"] == "other"


def register_many(testbed: LiveTestbed, count: int) -> None:
    """The data agent registers *count* STFs, without HTTP."""
    store = testbed.monitor.server.store
    rows = [{"run": testbed.run_pk, "stf_filename": name(n)} for n in range(1, count + 1)]
    testbed.monitor.call(lambda: [store.create(STF_FILES, row) for row in rows])


def collect_summaries(testbed: LiveTestbed) -> list[dict[str, Any]]:
    """A list that collects the run summaries that are sent from now on."""
    summaries: list[dict[str, Any]] = []
    on_send = testbed.broker.broker.on_send

    def listen(destination: str, body: str, headers: dict[str, str]) -> None:
        if on_send:
            on_send(destination, body, headers)
        if "fastmon_run_summary" in body:
            summaries.append(json.loads(body))

    testbed.broker.broker.on_send = listen
    return summaries


def test_a_late_start_recovers_a_run_of_1500_stfs_and_sends_its_summary(testbed: LiveTestbed) -> None:
    summaries = collect_summaries(testbed)
    register_many(testbed, 1500)
    testbed.announce(1, 2, 3)
    testbed.daemon(**PLAIN, FASTMON_SELECTION_FRACTION="0.001")
    testbed.publish({**END, "total_stf_files": 1500})
    verdict = when_complete(testbed)
    assert (verdict["recovered"], verdict["skipped"], verdict["completed"]) == (1500, 1498, 2)
    wait_until(lambda: summaries, "the summary")
    assert (summaries[0]["run_number"], summaries[0]["complete"], summaries[0]["recovered"]) == (100014, True, 1500)
    assert {"run_id", "agent_name"} & set(summaries[0]) == set()
