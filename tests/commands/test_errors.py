"""Errors of the commands: as JSON with --json, with the name that was meant, and what a confirmation would do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fastmon_daemon.cli import cli
from fastmon_daemon.commands.formatting import format_names
from fastmon_daemon.outbox import Outbox
from tests.builders import FakeTestbed

NAME = "swf.100014.000001.stf"


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    testbed = FakeTestbed(tmp_path)
    with closing(testbed.outbox()) as opened:
        for sequence in range(1, 4):
            name = testbed.receive(opened, sequence)
            (stf,) = opened.find(filename=name)
            with opened.transaction():
                opened.move(stf, "fail", "failed", testbed.time.at, finalized=True, note="a bug")
        yield opened


def call(*words: str, **environ: str) -> Result:
    return CliRunner(env={"FASTMON_DB": "", **environ}).invoke(cli, list(words), input="")


@pytest.mark.field("29")
@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("inspec", "--json"), 2, "no such command: 'inspec' (did you mean inspect?)"),
        (("inspect", "--json", "--db", "{db}", "no.stf"), 3, "no STF 'no.stf' in"),
        (("inspect", "--json", "--db", "{db}", "--run", "9"), 3, "no run '9' in"),
        (("inspect", "--json", "--stat", "failed"), 2, "--stat"),
        (("inspect", "--json", "--db", "none.db"), 3, "none.db: no such database"),
        (("verdict", "9", "--json", "--db", "{db}"), 3, "no run 9"),
        (("verdict", "--json"), 2, "RUN"),
        (("reconcile", "--run", "x", "--json", "--db", "{db}"), 1, "not a run number: 'x'"),
        (("retry", "--json", "--db", "{db}"), 2, "give either STF names or --all-failed"),
        (("retry", "--all-failed", "--json", "--db", "{db}"), 2, "would retry 3 STFs"),
        (("purge", "--run", "100014", "--json", "--db", "none.db"), 3, "none.db: no such database"),
        (("backup", "{db}", "--json", "--db", "{db}"), 1, ""),
        (("check", "--json"), 78, ""),
    ],
)
def test_with_json_an_error_is_an_object_too(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], code: int, message: str
) -> None:
    monkeypatch.chdir(outbox.path.parent)
    monkeypatch.setenv("HOME", str(outbox.path.parent))
    monkeypatch.delenv("FASTMON_NAMESPACE", raising=False)
    answer = json.loads(call(*(word.format(db=outbox.path) for word in words)).stdout)
    if words[0] == "check":
        assert answer["checks"][0]["status"] == "error"
        return
    assert answer["exit_code"] == code
    assert message in answer["error"]


@pytest.mark.field("29")
@pytest.mark.parametrize(
    "word", ["swf.100014.000001", "/data/100014/swf.100014.000001.stf", "swf.100014.000001_tf_003.tf", NAME.upper()]
)
def test_the_stf_that_was_meant_is_named(outbox: Outbox, word: str) -> None:
    for command in ("inspect", "retry"):
        assert f"(did you mean {NAME}?)" in call(command, word, "--db", str(outbox.path)).stderr
    assert "did you mean" not in call("inspect", "other.stf", "--db", str(outbox.path)).stderr


@pytest.mark.field("19")
@pytest.mark.parametrize(
    "words", [("verdict",), ("inspect", "--run"), ("purge", "--yes", "--run"), ("reconcile", "--run")]
)
def test_a_run_that_is_no_plain_number_is_answered_with_what_is_accepted(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.setenv("FASTMON_NAMESPACE", "ns")
    result = call(*words, "100014.0", "--db", str(outbox.path))
    assert result.exit_code in (1, 2, 3)
    assert "in digits only" in str(result.exception) + result.output
    assert "in digits only" not in call("verdict", "100015", "--db", str(outbox.path)).output


@pytest.mark.field("29")
def test_the_setting_that_was_meant_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    shown = call("config", "--changed", FASTMON_NAMESPACE="epic", FASTMON_WORKER="3", FASTMON_ZZZ="1")
    assert (
        "FASTMON_WORKER: unknown setting ignored: correct or unset it (did you mean FASTMON_WORKERS?)" in shown.stderr
    )
    assert "FASTMON_ZZZ: unknown setting ignored: correct or unset it\n" in shown.stderr


@pytest.mark.field("29")
def test_config_shows_only_what_was_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    environ = {"FASTMON_NAMESPACE": "epic", "FASTMON_WORKERS": "many", "FASTMON_DB": str(tmp_path / "x.db")}
    shown = json.loads(call("config", "--changed", "--json", **environ).stdout)
    assert [each["name"] for each in shown["settings"]] == ["FASTMON_NAMESPACE", "FASTMON_DB", "FASTMON_WORKERS"]
    assert "FASTMON_STAGES" not in call("config", "--changed", **environ).stdout


@pytest.mark.field("29")
@pytest.mark.parametrize(
    ("words", "would"),
    [
        (("retry", "--all-failed"), "would retry 3 STFs"),
        (("retry", "--all-failed", "--run", "9"), "would retry 0 STFs"),
        (("discard", "a.stf", "b.stf", "--reason", "x"), "would discard 2 STFs"),
        (("purge", "--run", "100014"), "would purge run 100014 with 3 STFs"),
        (("replay", "--all"), "would replay 0 rejected messages"),
    ],
)
def test_without_a_terminal_a_command_says_what_it_would_do_and_does_nothing(
    outbox: Outbox, words: tuple[str, ...], would: str
) -> None:
    shown = call(*words, "--db", str(outbox.path))
    assert shown.exit_code == 2
    assert f"nothing done: {would} in {outbox.path}" in shown.stderr
    assert "add --yes" in shown.stderr
    assert outbox.counts_by_state() == {"failed": 3}


@pytest.mark.field("28")
@pytest.mark.parametrize(
    ("names", "ranges"),
    [
        ((), ""),
        (("a.stf",), "a.stf"),
        (("swf.7.000003.stf", "swf.7.000002.stf"), "swf.7.000002.stf to swf.7.000003.stf (2)"),
        (
            ("swf.7.000009.stf", "swf.7.000010.stf", "swf.7.000012.stf", "swf.8.000011.stf", "plain"),
            "swf.7.000009.stf to swf.7.000010.stf (2), swf.7.000012.stf, swf.8.000011.stf, plain",
        ),
        (("x9.stf", "x10.stf"), "x10.stf, x9.stf"),  # not the same form of number
        (("run1.v2", "run2.v2"), "run1.v2, run2.v2"),
    ],
)
def test_names_are_shown_as_ranges(names: tuple[str, ...], ranges: str) -> None:
    assert format_names(names) == ranges
