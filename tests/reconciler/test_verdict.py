"""The verdict of a run as its operator meets it: real outages, kills and late starts, and the exit codes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastmon_daemon.outbox import open_outbox
from fastmon_daemon.testbed.monitor.file_tables import STF_FILES
from tests.processes import OnEmbedded, living, name, wait_until
from tests.reconciler.impatient import PATIENCE_S

PLAIN = {"FASTMON_DURABLE": "off"}
END = {"msg_type": "end_run", "run_id": "100014"}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[OnEmbedded]:
    with living(tmp_path) as made:
        yield made


def asked(world: OnEmbedded, *words: str, run: str = "100014") -> tuple[int, dict[str, Any]]:
    """Exit code and JSON of `verdict`."""
    told = world.call("verdict", run, "--json", *words)
    return told.returncode, json.loads(told.stdout) if told.stdout else {"stderr": told.stderr}


def when_complete(world: OnEmbedded) -> dict[str, Any]:
    """The verdict when it is "complete"; AssertionError with what it says else."""
    for _ in range(4):
        code, verdict = asked(world, "--wait", "20")
        if code == 0:
            return verdict
    raise AssertionError(f"{verdict}\n{world.log()[-2000:]}")


def counts(verdict: dict[str, Any]) -> dict[str, int]:
    return {key: verdict[key] for key in ("expected", "received", "recovered", "completed", "missing")}


def test_stfs_sent_while_the_broker_was_away_on_a_plain_topic_are_recovered_and_the_outage_named(
    world: OnEmbedded,
) -> None:
    world.daemon(**PLAIN)
    world.register(1, 2)
    world.announce(1, 2)
    world.wait_for(completed=2)
    world.broker.stop()
    wait_until(lambda: "link to the broker is down" in world.log(), "the daemon has noticed")
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


def test_a_daemon_that_was_killed_in_mid_run_finds_at_its_late_return_what_it_missed(world: OnEmbedded) -> None:
    daemon = world.daemon(**PLAIN)
    world.register(1, 2)
    world.announce(1, 2)
    world.wait_for(completed=2)
    daemon.kill()
    daemon.wait()
    world.register(3, 4)
    world.announce(3, 4)
    code, dead = asked(world)
    assert (code, dead["completed"], dead["incomplete_reasons"]) == (1, 2, ["it has not ended"])
    world.daemon(**PLAIN)
    world.publish({**END, "total_stf_files": 4})
    verdict = when_complete(world)
    assert counts(verdict) == {"expected": 4, "received": 2, "recovered": 2, "completed": 4, "missing": 0}
    outage = next(outage for outage in verdict["outages"] if outage["link"] == "daemon")
    assert outage["reason"] == "it was killed, or its host went down"
    (stf,) = json.loads(world.call("inspect", name(3), "--json").stdout)["stfs"]
    assert stf["history"][0]["note"].startswith("recovered: the daemon was not running ")


def test_an_stf_that_is_really_missing_is_named_by_its_number_and_the_exit_code_is_1(world: OnEmbedded) -> None:
    daemon = world.daemon(**PLAIN, FASTMON_NOTIFY="off")
    world.register(1, 2, 4)
    world.announce(1, 2, 4)
    world.publish({**END, "total_stf_files": 5})
    world.wait_for(completed=3)
    code, verdict = asked(world)
    assert (code, verdict["missing"], verdict["missing_sequences"]) == (1, 2, "3, 5")
    assert (verdict["complete"], verdict["incomplete_reasons"]) == (False, ["missing: 2"])
    told = world.call("verdict", "100014", "--wait", "3")
    assert told.returncode == 1
    assert "missing sequence numbers" in told.stdout
    assert "missing: 2" in told.stderr
    assert json.loads(world.call("inspect", "--json").stdout)["runs"][0]["missing"] == 2
    daemon.terminate()
    daemon.wait(30)
    assert asked(world)[0] == 1


def test_a_run_that_nobody_heard_of_is_3_until_it_is_reconciled_by_hand(world: OnEmbedded) -> None:
    assert world.call("verdict", "100014").returncode == 3
    daemon = world.daemon(**PLAIN)
    code, told = asked(world)
    assert code == 3
    assert "no run 100014" in told["stderr"]
    world.register(1, 2)
    by_daemon = world.call("reconcile", "--run", "100014", "--json")
    assert by_daemon.returncode == 0, by_daemon.stderr
    assert json.loads(by_daemon.stdout) == {
        "run": "100014",
        "monitor_count": 2,
        "known": 0,
        "taken_in": [name(1), name(2)],
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


def test_reconcile_waits_for_a_monitor_that_is_slower_than_the_daemon_usually_is_and_says_so(
    world: OnEmbedded,
) -> None:
    impatient = {"program": "tests.reconciler.impatient", "PYTHONPATH": str(Path(__file__).parents[2])}
    world.daemon(**PLAIN, **impatient)
    world.register(1)
    world.monitor.faults(latency_ms=int(1000 * (PATIENCE_S + 1)), endpoints=["/api/stf-files"])
    told = world.call("reconcile", "--run", "100014", **impatient)
    assert told.returncode == 0, told.stderr
    assert "1 STF listed by the monitor, 0 already known, 1 recovered" in told.stdout
    assert "waiting for the STF list of run 100014 from the monitor" in told.stderr
    world.monitor.faults()
    world.wait_for(completed=1)


def test_one_number_in_two_namespaces_asks_which(world: OnEmbedded) -> None:
    open_outbox(world.database).close()
    world.register(1)
    for namespace in ("ns", "other"):
        assert world.call("reconcile", "--run", "100014", FASTMON_NAMESPACE=namespace).returncode == 0
    told = world.call("verdict", "100014")
    assert told.returncode == 2
    assert "exists in the namespaces ns, other: select one with --namespace" in told.stderr
    assert asked(world, "--namespace", "other")[1]["namespace"] == "other"


def register_many(world: OnEmbedded, count: int) -> None:
    """The data agent's registrations, without HTTP."""
    store = world.monitor.server.store
    rows = [{"run": world.run_pk, "stf_filename": name(n)} for n in range(1, count + 1)]
    world.monitor.call(lambda: [store.create(STF_FILES, row) for row in rows])


def summaries(world: OnEmbedded) -> list[dict[str, Any]]:
    """What is heard on the topic of summaries, from now on."""
    heard: list[dict[str, Any]] = []
    tell = world.broker.broker.on_send

    def listen(destination: str, body: str, headers: dict[str, str]) -> None:
        if tell:
            tell(destination, body, headers)
        if "fastmon_run_summary" in body:
            heard.append(json.loads(body))

    world.broker.broker.on_send = listen
    return heard


def test_a_late_start_finds_a_run_of_thousands_from_any_message_and_its_summary_goes_out(world: OnEmbedded) -> None:
    heard = summaries(world)
    register_many(world, 1500)
    world.announce(1, 2, 3)
    world.daemon(**PLAIN, FASTMON_SELECTION_FRACTION="0.001")
    world.publish({**END, "total_stf_files": 1500})
    verdict = when_complete(world)
    assert (verdict["recovered"], verdict["skipped"], verdict["completed"]) == (1500, 1498, 2)
    wait_until(lambda: heard, "the summary")
    assert (heard[0]["run_number"], heard[0]["complete"], heard[0]["recovered"]) == (100014, True, 1500)
    assert {"run_id", "agent_name"} & set(heard[0]) == set()
