"""Which runs are ours: a message without namespace brings in its STF, never its run."""

from __future__ import annotations

import json
from types import MappingProxyType
from typing import Any

import pytest
from click.testing import CliRunner

from fastmon_daemon.cli import cli
from fastmon_daemon.monitor import TfFile
from fastmon_daemon.outbox import Origin
from fastmon_daemon.reconciler.comparing import ReconcileResult
from tests.builders import logged, settle
from tests.reconciler.harness import Harness, file_name


def tf_of_another(sequence: int, metadata: Any) -> TfFile:
    """A TF file that another program registered."""
    return TfFile(
        tf_filename=f"{file_name(sequence)[:-4]}_tf_001.tf", stf_filename=file_name(sequence), tf_first=0, tf_last=9,
        tf_count=10, file_size_bytes=None, metadata=metadata, tf_file_id="id",
    )  # fmt: skip


def let_another_register(
    harness: Harness, *sequences: int, metadata: Any = MappingProxyType({"namespace": "other"})
) -> None:
    for tf in (tf_of_another(n, metadata) for n in sequences):
        harness.monitor.rows[tf.tf_filename] = tf


@pytest.mark.field("2")
@pytest.mark.parametrize("namespace", [None, ""])
def test_a_message_without_namespace_brings_in_its_stf_and_not_its_run(harness: Harness, namespace: str | None) -> None:
    harness.register(1, 2, 3)
    with logged("WARNING") as lines:
        for sequence in (1, 1, 3):
            harness.process("stf_ready", filename=file_name(sequence), sequence=sequence, namespace=namespace)
        harness.pass_time(100)
        harness.start()  # all runs are polled at startup
        harness.pass_time(100)
    assert harness.known() == [file_name(1), file_name(3)]
    assert harness.stf(3).state == "completed"
    assert (harness.monitor.polls, harness.row.poll_at) == (0, None)
    shown = CliRunner().invoke(cli, ["inspect", "--db", str(harness.folder / "outbox.db")], env={"COLUMNS": "300"})
    assert "not claimed: messages without namespace" in shown.stdout
    assert len([line for line in lines if "not claimed" in line]) == 1


def test_the_verdict_of_a_run_that_is_not_claimed_knows_its_own_stfs_only(harness: Harness) -> None:
    harness.process("stf_ready", filename=file_name(7), sequence=7, namespace=None)
    harness.process("end_run", total_stf_files=9, namespace=None)
    harness.pass_time(100)
    verdict = harness.verdict
    assert (verdict.complete, verdict.missing, verdict.expected, verdict.completed) == (False, 0, None, 1)
    assert verdict.incomplete_reasons == (
        "not claimed (no message with our namespace): only its announced STFs are known",
    )
    assert (harness.row.state, harness.summaries) == ("ended", [])


@pytest.mark.field("2")
@pytest.mark.parametrize("kind", ["start_run", "stf_gen", "end_run", "stf_ready"])
def test_a_message_with_our_namespace_claims_the_run(harness: Harness, kind: str) -> None:
    harness.register(1, 2)
    harness.process("stf_ready", filename=file_name(1), sequence=1, namespace=None)
    harness.process("stf_gen", namespace=None)
    harness.pass_time(40)
    assert (harness.row.claimed, harness.monitor.polls) == (False, 0)
    harness.process(kind)
    harness.pass_time(40)
    assert harness.row.claimed
    assert harness.known() == [file_name(1), file_name(2)]
    assert harness.handler.prepare(json.dumps({"msg_type": "stf_gen", "namespace": "ns", "run_id": 100014})) is None


def test_run_messages_without_namespace_count_in_a_claimed_run(harness: Harness) -> None:
    harness.register(1)
    harness.stf_ready(1)
    harness.process("end_run", total_stf_files=1, namespace=None)
    harness.pass_time(10)
    assert (harness.row.state, harness.row.claimed) == ("complete", True)


@pytest.mark.field("2")
@pytest.mark.parametrize("nameless", [False, True])
def test_a_run_with_tf_files_of_another_namespace_is_given_up(harness: Harness, nameless: bool) -> None:
    harness.register(1, 2, 3)
    let_another_register(harness, 1)
    with logged("WARNING") as lines:
        if nameless:
            harness.process("stf_ready")
        else:
            harness.process("start_run")
        harness.pass_time(100)
        harness.stf_ready(3)
        harness.process("end_run", total_stf_files=3)
        harness.pass_time(100)
    assert harness.known() == [file_name(3)]
    assert (harness.row.claimed, harness.row.other_namespace, harness.row.poll_at) == (False, "other", None)
    given_up = [line for line in lines if "given up" in line]
    assert len(given_up) == 1
    assert f"TF files of namespace other stand at {file_name(1)}" in given_up[0]
    assert harness.verdict.incomplete_reasons[0].startswith("not claimed (TF files of namespace other)")
    assert harness.summaries == []


def test_stfs_that_are_not_selected_wait_for_one_lookup_in_the_run(harness: Harness) -> None:
    harness.settings = harness.settings.__class__(namespace="ns", selection_fraction=0.0)
    harness.start()
    harness.register(1, 2, 3)
    let_another_register(harness, 1)
    harness.process("start_run")
    harness.pass_time(100)
    assert harness.known() == []
    assert len(harness.monitor.lookups) == 1


def test_one_lookup_a_run_is_enough_where_no_message_names_the_stfs(harness: Harness) -> None:
    harness.process("stf_ready")
    for sequence in range(1, 6):
        harness.register(sequence)
        harness.pass_time(10)
    assert [harness.stf(n).origin for n in range(1, 6)] == [Origin.POLLED] * 5
    assert harness.monitor.lookups == [file_name(1)]


@pytest.mark.parametrize(
    "metadata", [{"namespace": "ns"}, {"namespace": None}, {"namespace": ""}, {"x": 1}, [], "text"]
)
def test_tf_files_without_another_namespace_do_not_matter(harness: Harness, metadata: object) -> None:
    harness.register(1, 2)
    let_another_register(harness, 1, metadata=metadata)
    harness.process("start_run")
    harness.pass_time(100)
    assert harness.known() == [file_name(1), file_name(2)]
    assert harness.row.claimed


def test_an_operator_claims_a_run_for_good(harness: Harness) -> None:
    harness.register(1, 2)
    let_another_register(harness, 1)
    harness.process("start_run")
    harness.pass_time(100)
    assert harness.known() == []
    compare = harness.reconcile("alice")
    with harness.live_outbox.transaction():
        result = compare(harness.live_outbox, harness.time.at)
    assert len(result.recovered) == 2
    settle(harness.live_engine)
    harness.register(3)
    harness.pass_time(100)
    assert harness.known() == [file_name(1), file_name(2), file_name(3)]
    assert harness.row.claimed


def test_an_operator_makes_no_run_of_which_the_monitor_has_no_stf(harness: Harness) -> None:
    compare = harness.reconcile("alice")
    with harness.live_outbox.transaction():
        result = compare(harness.live_outbox, harness.time.at)
    assert result == ReconcileResult("100014", 0, 0, [])
    assert harness.live_outbox.runs.get("ns", "100014") is None


@pytest.mark.field("3")
def test_the_forms_of_a_run_id_are_one_run(harness: Harness) -> None:
    harness.register(1, 2, 3)
    harness.process("start_run", run_id="0100014")
    harness.process("stf_ready", run_id=100014, filename=file_name(1), sequence=1)
    harness.process("stf_ready", run_id="00100014", filename=file_name(1), sequence=1)
    harness.process("stf_ready", run_id="100014", filename=file_name(2), sequence=2)
    harness.process("end_run", run_id=100014, total_stf_files=3)
    harness.pass_time(20)
    (row,) = harness.live_outbox.runs.latest()
    assert (row.run, row.run_id, row.state) == ("100014", "0100014", "complete")
    assert [harness.stf(n).run_id for n in (1, 2, 3)] == [100014, "100014", "0100014"]  # as it came
    assert (harness.verdict.received, harness.verdict.recovered, len(harness.summaries)) == (2, 1, 1)
    assert {harness.stf(n).plan.seed.split("/")[1] for n in (1, 2, 3) if harness.stf(n).plan} == {"100014"}
