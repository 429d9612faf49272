"""`verdict` and `reconcile` against a running daemon: outages, kills, late starts, exit codes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastmon_daemon.outbox import open_outbox
from fastmon_daemon.testbed.monitor.file_tables import STF_FILES
from tests.processes import OnEmbedded, living, name, wait_until
from tests.reconciler.short_timeout import TIMEOUT_S

PLAIN = {"FASTMON_DURABLE": "off"}
END = {"msg_type": "end_run", "run_id": "100014"}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[OnEmbedded]:
    with living(tmp_path) as made:
        yield made


def verdict_of(world: OnEmbedded, *words: str, run: str = "100014") -> tuple[int, dict[str, Any]]:
    """Exit code and JSON of `verdict`."""
    answer = world.call("verdict", run, "--json", *words)
    return answer.returncode, json.loads(answer.stdout) if answer.stdout else {"stderr": answer.stderr}


def when_complete(world: OnEmbedded) -> dict[str, Any]:
    """Wait for the complete verdict; AssertionError with the last one and the log."""
    for _ in range(4):
        code, verdict = verdict_of(world, "--wait", "20")
        if code == 0:
            return verdict
    raise AssertionError(f"{verdict}\n{world.log()[-2000:]}")


def counts(verdict: dict[str, Any]) -> dict[str, int]:
    return {key: verdict[key] for key in ("expected", "received", "recovered", "completed", "missing")}


def test_stfs_sent_on_a_plain_topic_during_a_broker_outage_are_recovered(world: OnEmbedded) -> None:
    world.daemon(**PLAIN)
    world.register(1, 2)
    world.announce(1, 2)
    world.wait_for(completed=2)
    world.broker.stop()
    wait_until(lambda: "link to the broker is down" in world.log(), "the daemon notices the outage")
    world.register(3, 4, 5)
    up = world.log().count("broker link up")
    world.broker.start()
    wait_until(lambda: world.log().count("broker link up") > up, "the link is back")
    world.register(6)
    world.announce(6)
    world.publish({**END, "total_stf_files": 6})
    verdict = when_complete(world)
    assert counts(verdict) == {"expected": 6, "received": 3, "recovered": 3, "completed": 6, "missing": 0}
    assert (verdict["expected_by"], verdict["tf_files"]["announced"]) == ("end_run", 42)
    assert "broker" in [outage["link"] for outage in verdict["outages"]]
    (stf,) = json.loads(world.call("inspect", name(4), "--json").stdout)["stfs"]
    assert stf["origin"] == "recovered"
    assert stf["history"][0]["note"].startswith("recovered: the broker link was down ")
    wait_until(lambda: "run 100014: complete: expected 6 (end_run)" in world.log(), "the verdict is in the log")
    assert world.monitor.counts()["fastmon_files"] == 42
    shown = world.call("verdict", "100014")
    assert shown.returncode == 0
    assert "run 100014 (namespace ns): complete" in shown.stdout


def test_a_daemon_killed_during_a_run_recovers_what_it_missed(world: OnEmbedded) -> None:
    daemon = world.daemon(**PLAIN)
    world.register(1, 2)
    world.announce(1, 2)
    world.wait_for(completed=2)
    daemon.kill()
    daemon.wait()
    world.register(3, 4)
    world.announce(3, 4)
    code, while_dead = verdict_of(world)
    assert (code, while_dead["completed"], while_dead["incomplete_reasons"]) == (1, 2, ["not ended"])
    world.daemon(**PLAIN)
    world.publish({**END, "total_stf_files": 4})
    verdict = when_complete(world)
    assert counts(verdict) == {"expected": 4, "received": 2, "recovered": 2, "completed": 4, "missing": 0}
    outage = next(outage for outage in verdict["outages"] if outage["link"] == "daemon")
    assert outage["reason"] == "it was killed, or its host went down"
    (stf,) = json.loads(world.call("inspect", name(3), "--json").stdout)["stfs"]
    assert stf["history"][0]["note"].startswith("recovered: the daemon was not running ")


def test_missing_stfs_are_listed_by_number_and_the_exit_code_is_1(world: OnEmbedded) -> None:
    daemon = world.daemon(**PLAIN, FASTMON_NOTIFY="off")
    world.register(1, 2, 4)
    world.announce(1, 2, 4)
    world.publish({**END, "total_stf_files": 5})
    world.wait_for(completed=3)
    code, verdict = verdict_of(world)
    assert (code, verdict["missing"], verdict["missing_sequences"]) == (1, 2, "3, 5")
    assert (verdict["complete"], verdict["incomplete_reasons"]) == (False, ["missing: 2"])
    answer = world.call("verdict", "100014", "--wait", "3")
    assert answer.returncode == 1
    assert "missing sequence numbers" in answer.stdout
    assert "missing: 2" in answer.stderr
    assert json.loads(world.call("inspect", "--json").stdout)["runs"][0]["missing"] == 2
    daemon.terminate()
    daemon.wait(30)
    assert verdict_of(world)[0] == 1


def test_an_unknown_run_gives_exit_code_3_until_an_operator_reconciles_it(world: OnEmbedded) -> None:
    assert world.call("verdict", "100014").returncode == 3
    daemon = world.daemon(**PLAIN)
    code, answer = verdict_of(world)
    assert code == 3
    assert "no run 100014" in answer["stderr"]
    world.register(1, 2)
    by_daemon = world.call("reconcile", "--run", "100014", "--json")
    assert by_daemon.returncode == 0, by_daemon.stderr
    assert json.loads(by_daemon.stdout) == {
        "run": "100014",
        "monitor_count": 2,
        "known": 0,
        "recovered": [name(1), name(2)],
    }
    world.wait_for(completed=2)
    world.monitor.stop()
    away = world.call("reconcile", "--run", "100014")
    assert (away.returncode, "fastmon-daemon: GET http" in away.stderr) == (75, True)
    world.monitor.start()
    daemon.terminate()
    daemon.wait(30)
    world.register(3)
    alone = world.call("reconcile", "--run", "100014")
    assert alone.returncode == 0, alone.stderr
    assert "3 STFs listed by the monitor, 2 already known, 1 recovered" in alone.stdout
    assert world.states() == {"completed": 2, "received": 1}
    assert world.call("reconcile", "--run", "7").returncode == 1
    assert world.call("reconcile", "--run", "cosmics").returncode == 1
    world.monitor.stop()
    assert world.call("reconcile", "--run", "100014").returncode == 75


def test_reconcile_waits_for_a_slow_monitor_and_says_so(world: OnEmbedded) -> None:
    short_timeout = {"program": "tests.reconciler.short_timeout", "PYTHONPATH": str(Path(__file__).parents[2])}
    world.daemon(**PLAIN, **short_timeout)
    world.register(1)
    world.monitor.faults(latency_ms=int(1000 * (TIMEOUT_S + 1)), endpoints=["/api/stf-files"])
    answer = world.call("reconcile", "--run", "100014", **short_timeout)
    assert answer.returncode == 0, answer.stderr
    assert "1 STF listed by the monitor, 0 already known, 1 recovered" in answer.stdout
    assert "waiting for the STF list of run 100014 from the monitor" in answer.stderr
    world.monitor.faults()
    world.wait_for(completed=1)


def test_verdict_needs_a_namespace_if_the_run_exists_in_two(world: OnEmbedded) -> None:
    open_outbox(world.database).close()
    world.register(1)
    for namespace in ("ns", "other"):
        assert world.call("reconcile", "--run", "100014", FASTMON_NAMESPACE=namespace).returncode == 0
    answer = world.call("verdict", "100014")
    assert answer.returncode == 2
    assert "exists in the namespaces ns, other: select one with --namespace" in answer.stderr
    assert verdict_of(world, "--namespace", "other")[1]["namespace"] == "other"


def register_many(world: OnEmbedded, count: int) -> None:
    """The data agent registers *count* STFs, without HTTP."""
    store = world.monitor.server.store
    rows = [{"run": world.run_pk, "stf_filename": name(n)} for n in range(1, count + 1)]
    world.monitor.call(lambda: [store.create(STF_FILES, row) for row in rows])


def collect_summaries(world: OnEmbedded) -> list[dict[str, Any]]:
    """A list that collects the run summaries that are sent from now on."""
    summaries: list[dict[str, Any]] = []
    on_send = world.broker.broker.on_send

    def listen(destination: str, body: str, headers: dict[str, str]) -> None:
        if on_send:
            on_send(destination, body, headers)
        if "fastmon_run_summary" in body:
            summaries.append(json.loads(body))

    world.broker.broker.on_send = listen
    return summaries


def test_a_late_start_recovers_a_run_of_1500_stfs_and_sends_its_summary(world: OnEmbedded) -> None:
    summaries = collect_summaries(world)
    register_many(world, 1500)
    world.announce(1, 2, 3)
    world.daemon(**PLAIN, FASTMON_SELECTION_FRACTION="0.001")
    world.publish({**END, "total_stf_files": 1500})
    verdict = when_complete(world)
    assert (verdict["recovered"], verdict["skipped"], verdict["completed"]) == (1500, 1498, 2)
    wait_until(lambda: summaries, "the summary")
    assert (summaries[0]["run_number"], summaries[0]["complete"], summaries[0]["recovered"]) == (100014, True, 1500)
    assert {"run_id", "agent_name"} & set(summaries[0]) == set()
