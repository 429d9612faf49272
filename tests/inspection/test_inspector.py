from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any

import pytest
from click.testing import CliRunner, Result
from freezegun import freeze_time

from fastmon_daemon.base.errors import ConfigError, StorageError
from fastmon_daemon.cli import cli
from fastmon_daemon.engine.sampling import draw_sample
from fastmon_daemon.outbox import Announced, NewStf, Outbox, Registered, Sampled, Stf, open_for_reading, open_outbox
from fastmon_daemon.outbox.models import SamplePlan
from fastmon_daemon.statechart import load_statechart
from tests.builders import START
from tests.preloaded import Program, run

CHART = load_statechart("stf")
NAME = "swf.7.000001.stf"


def ago(**span: float) -> datetime:
    return datetime.now(UTC) - timedelta(**span)


class InspectedDatabase:
    """A real database that the tests fill as the daemon would, and `inspect` on it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.outbox: Outbox = open_outbox(path)

    def receive(self, name: str = NAME, run: str | int = 7, at: datetime | None = None, **fields: Any) -> Stf:
        new = NewStf(namespace="ns", run_id=run, filename=name, **fields)
        with self.outbox.transaction():
            self.outbox.receive(new, CHART.initial, at or ago(seconds=1))
        return self.named(name, str(run))

    def named(self, name: str = NAME, run: str | None = None) -> Stf:
        with closing(open_for_reading(self.path)) as reports:
            return reports.find(filename=name, run=run)[0]

    def move(self, trigger: str, at: datetime, note: str | None = None, name: str = NAME) -> None:
        stf = self.named(name)
        dest = CHART.after(stf.state, trigger)
        with self.outbox.transaction():
            self.outbox.move(stf, trigger, dest, at, finalized=CHART.is_finalized(dest), note=note)

    def inspect(self, *arguments: str, **environ: str) -> Result:
        return run_inspect("--db", str(self.path), *arguments, **environ)

    def view(self, *arguments: str, **environ: str) -> dict[str, Any]:
        view: dict[str, Any] = json.loads(self.inspect("--json", *arguments, **environ).stdout)
        return view


def run_inspect(*arguments: str, **environ: str) -> Result:
    return CliRunner(env={"FASTMON_DB": "", "FASTMON_STUCK_AFTER": "", "COLUMNS": "300", **environ}).invoke(
        cli, ["inspect", *arguments]
    )


@pytest.fixture
def database(tmp_path: Path) -> Iterator[InspectedDatabase]:
    opened = InspectedDatabase(tmp_path / "outbox.db")
    with closing(opened.outbox):
        yield opened


@contextmanager
def daemon_of(path: Path) -> Iterator[int]:
    """A process that has the database lock during the block; yields its id."""
    script = (
        "import sys, pathlib; from fastmon_daemon.outbox import DatabaseLock\n"
        "with DatabaseLock(pathlib.Path(sys.argv[1])): print('locked', flush=True); sys.stdin.read()"
    )
    waits, ends = os.pipe()
    process = Program(["-c", script, str(path)], env={}, stdin=waits, stdout=subprocess.PIPE, text=True)
    os.close(waits)
    assert process.stdout is not None
    with process.stdout, os.fdopen(ends, "wb"):
        assert process.stdout.readline() == "locked\n"
        yield process.pid
    process.wait(60)


def test_nothing_is_stuck_in_an_empty_database(database: InspectedDatabase) -> None:
    result = database.inspect()
    assert result.exit_code == 0
    assert result.stdout.splitlines()[:3] == [
        "no daemon is running: no STF is received or processed: start fastmon-daemon",
        next(line for line in result.stdout.splitlines() if line.startswith(f"database: {database.path} (--db); no")),
        "STFs: none",
    ]
    assert "nothing is stuck" in result.stdout


def test_without_a_daemon_unfinished_stfs_are_stuck_and_links_unknown(database: InspectedDatabase) -> None:
    database.receive()
    result = database.inspect()
    assert result.exit_code == 1
    assert "stuck: 1" in result.stdout
    assert "no daemon is running" in result.stdout
    view = database.view()
    assert view["daemon"] is None
    assert {link["state"] for link in view["links"].values()} == {"unknown"}
    assert view["stuck"][0]["why"] == "no daemon is running"


def test_with_a_daemon_recent_stfs_are_not_stuck(database: InspectedDatabase) -> None:
    database.receive()
    with daemon_of(database.path) as pid:
        view, result = database.view(), database.inspect()
    assert view["daemon"] == pid
    assert (view["stuck"], view["oldest"]["stf"], view["oldest"]["next"]) == ([], NAME, "sample_tfs, now")
    assert {link["state"] for link in view["links"].values()} == {"up"}
    assert result.exit_code == 0


def test_with_a_daemon_an_old_stf_is_stuck_with_error_attempts_and_next_attempt(database: InspectedDatabase) -> None:
    stf = database.receive(at=ago(minutes=3))
    with database.outbox.transaction():
        database.outbox.postpone(stf, timedelta(minutes=5), "the monitor said 400", 1.0, datetime.now(UTC))
    with daemon_of(database.path):
        result, view = database.inspect(), database.view()
        config = database.inspect(FASTMON_STUCK_AFTER="3600")
    assert result.exit_code == 1
    row = view["stuck"][0]
    assert (row["why"], row["attempts"], row["last_error"]) == ("the monitor said 400", 1, "the monitor said 400")
    assert row["next_try_at"] == database.named().due_at
    assert "(3 min ago)" in result.stdout
    assert "(in 4 min)" in result.stdout
    assert config.exit_code == 0


@freeze_time(START)
@pytest.mark.parametrize("blocked", [False, True])
def test_waiting_for_a_link_that_is_down_is_not_stuck(database: InspectedDatabase, blocked: bool) -> None:
    database.receive(at=ago(minutes=9))
    database.move("sample_tfs", ago(minutes=8))
    with database.outbox.transaction():
        database.outbox.outages.link_lost("monitor", "connection refused", ago(minutes=7), blocked=blocked)
        database.outbox.outages.next_probe("monitor", datetime.now(UTC) + timedelta(seconds=90))
    with daemon_of(database.path):
        result, view = database.inspect(), database.view()
    assert result.exit_code == 0
    assert "connection refused" in result.stdout
    assert "(7 min ago)" in result.stdout
    assert "(in 1 min)" in result.stdout
    assert view["links"]["monitor"]["state"] == ("blocked" if blocked else "down")
    assert view["links"]["broker"]["state"] == "up"
    assert view["oldest"]["next"] == "register_tfs, when the monitor is up"


@freeze_time(START)
def test_an_outage_of_another_link_does_not_count(database: InspectedDatabase) -> None:
    database.receive(at=ago(minutes=9))
    database.move("sample_tfs", ago(minutes=8))
    with database.outbox.transaction():
        database.outbox.outages.link_lost("broker", "gone", ago(minutes=7), blocked=False)
    with daemon_of(database.path):
        assert database.inspect().exit_code == 1


@freeze_time(START)
def test_after_an_outage_the_backlog_has_the_whole_limit_again(database: InspectedDatabase) -> None:
    database.receive(at=ago(minutes=9))
    database.move("sample_tfs", ago(minutes=8))
    with database.outbox.transaction():
        database.outbox.outages.link_lost("monitor", "gone", ago(minutes=7), blocked=False)
        database.outbox.outages.link_back("monitor", ago(seconds=5))
    with daemon_of(database.path):
        assert database.inspect().exit_code == 0
        assert database.inspect(FASTMON_STUCK_AFTER="6").exit_code == 0
        assert database.inspect(FASTMON_STUCK_AFTER="4").exit_code == 1


def test_a_failed_stf_needs_an_operator_with_and_without_a_daemon(database: InspectedDatabase) -> None:
    database.receive()
    database.move("fail", ago(seconds=1), note="stf_not_registered")
    with daemon_of(database.path):
        result, view = database.inspect(), database.view()
    assert result.exit_code == 1
    assert view["stuck"][0]["why"] == "stf_not_registered"
    assert view["stuck"][0]["next"] == "nothing, unless an operator acts: retry or discard"
    assert database.view()["stuck"][0]["why"] == "stf_not_registered"


def test_skipped_stfs_are_not_stuck(database: InspectedDatabase) -> None:
    database.receive()
    database.move("skip", ago(seconds=1), note="not selected")
    assert database.inspect().exit_code == 0
    assert database.view(NAME)["stfs"][0]["next"] == "nothing, unless an operator acts: include"


def test_a_long_list_is_cut_and_counted_and_all_shows_it(database: InspectedDatabase) -> None:
    for number in range(23):
        database.receive(f"swf.7.{number:06d}.stf", at=ago(hours=1, seconds=-number))
    result = database.inspect()
    assert "3 more: list them with --all" in result.stdout
    assert "swf.7.000022.stf" not in result.stdout
    assert "swf.7.000022.stf" in database.inspect("--all").stdout
    assert (database.view()["stuck_count"], len(database.view()["stuck"]), len(database.view("--all")["stuck"])) == (
        23,
        20,
        23,
    )


def test_state_and_run_filter_the_view_and_list_its_stfs(database: InspectedDatabase) -> None:
    database.receive("a.stf", run=7)
    database.receive("b.stf", run=8)
    database.move("fail", ago(seconds=1), name="b.stf")
    of_run = database.view("--run", "7")
    assert [stf["stf"] for stf in of_run["stfs"]] == ["a.stf"]
    assert (of_run["states"]["received"], of_run["states"]["failed"], of_run["stuck_count"]) == (1, 0, 1)
    failed = database.view("--state", "failed")
    assert ([stf["stf"] for stf in failed["stfs"]], failed["stf_count"]) == (["b.stf"], 1)
    assert database.inspect("--run", "7", "--state", "failed").exit_code == 0
    assert "a.stf" in database.inspect("--state", "received").stdout


def test_rejected_messages_are_counted_and_listed(database: InspectedDatabase) -> None:
    with database.outbox.transaction():
        database.outbox.reject('{"msg_type": "stf_ready"}', "run_id is missing", ago(minutes=1), 10)
    assert "rejected messages: 1 (list them with --rejected)" in database.inspect().stdout
    result = database.inspect("--rejected")
    assert (result.exit_code, "run_id is missing" in result.stdout) == (0, True)
    row = database.view("--rejected")["rejected"][0]
    assert (row["reason"], row["bytes"], row["body"]) == ("run_id is missing", 25, '{"msg_type": "stf_ready"}')


def test_runs_are_shown(database: InspectedDatabase) -> None:
    with database.outbox.transaction():
        database.outbox.runs.record_message("ns", 100014, "running", ago(minutes=2), None)
    assert re.search(r"100014 +ns +running +- +0 +0 +(\S+ )?\S+ \(2 min ago\)", database.inspect().stdout)


@pytest.mark.field("0a")
def test_updates_of_workflow_stages_are_counted(database: InspectedDatabase) -> None:
    stages = {"pending": 0, "single_updates": 0, "coalesced_updates": 0, "unreportable": 0}
    assert database.view()["stages"] == stages
    database.receive()
    with database.outbox.transaction():
        database.outbox.stages.owe(1)
        database.outbox.count("stage_updates_single", 3)
        database.outbox.count("stage_updates_coalesced", 2)
    assert database.view()["stages"] == stages | {"pending": 1, "single_updates": 3, "coalesced_updates": 2}
    text = "workflow stages: 3 single updates, 2 coalesced, 1 transition pending, 0 STFs not reportable"
    assert text in database.inspect(COLUMNS="200").stdout


def test_the_overview_has_the_keys_that_the_help_names(database: InspectedDatabase) -> None:
    database.receive()
    database.move("sample_tfs", ago(seconds=1))
    documented = set(re.findall(r"\w+", " ".join(run_inspect("--help").stdout.split("\n"))))
    for view in (database.view("--run", "7"), database.view("--rejected"), database.view(NAME)):
        assert set(view) <= documented
        assert all(set(stf) <= documented for stf in view.get("stfs", []))


def test_one_stf_is_shown_with_tfs_plan_and_history(database: InspectedDatabase) -> None:
    stf = database.receive(at=ago(minutes=5), size_bytes=2_000_000, tf_count=1000)
    plan = SamplePlan(seed="ns/7/x", tf_count=1000, tf_files=2, size_fraction=0.15, sequence_start=1)
    ranges = draw_sample(plan, NAME)
    with database.outbox.transaction():
        database.outbox.save_progress(stf.id, [Sampled(plan=plan, ranges=ranges, sizes=(300, None))], ago(minutes=4))
    database.move("sample_tfs", ago(minutes=4))
    first = database.named().tfs[0]
    registered = type(first)(**{**_fields(first), "monitor_id": "0b5e-id", "adopted": "another range"})
    with database.outbox.transaction():
        database.outbox.save_progress(stf.id, [Registered(tf=registered)], ago(minutes=3))
        database.outbox.save_progress(stf.id, [Announced(sequence=1)], ago(minutes=2))
    database.move("fail", ago(minutes=1), note="conflict")
    with database.outbox.transaction():
        database.outbox.reopen(database.named(), "retry", CHART.initial, ago(seconds=30), note="fixed")
    result, view = database.inspect(NAME), database.view(NAME)["stfs"][0]
    assert result.exit_code == 1  # no daemon is running
    for part in ("0b5e-id", f"{ranges[0].first}..{ranges[0].last}", "another range", "seed ns/7/x", "fraction 0.15",
                 "conflict", "fixed", "life 2", "2000000 bytes, 1000 TFs"):  # fmt: skip
        assert part in result.stdout
    assert [(row["life"], row["trigger"]) for row in view["history"]] == [
        (1, None), (1, "sample_tfs"), (1, "fail"), (2, "retry"),
    ]  # fmt: skip
    assert [tf["monitor_id"] for tf in view["tfs"]] == ["0b5e-id", None]
    assert view["plan"]["seed"] == "ns/7/x"


def _fields(row: object) -> dict[str, Any]:
    return {name: getattr(row, name) for name in type(row).__slots__}  # type: ignore[attr-defined]


def test_a_name_in_several_runs_is_shown_for_each(database: InspectedDatabase) -> None:
    database.receive(run=7)
    database.receive(run=8)
    assert {stf["run"] for stf in database.view(NAME)["stfs"]} == {"7", "8"}
    assert {stf["run"] for stf in database.view(NAME, "--run", "8")["stfs"]} == {"8"}


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(("no.stf",), 3), (("--run", "99"), 3), (("x.stf", "--rejected"), 2), (("--state", "lost"), 2)],
)
def test_what_is_not_there_has_its_exit_code_and_so_has_a_usage_error(
    database: InspectedDatabase, arguments: tuple[str, ...], code: int
) -> None:
    result = database.inspect(*arguments)
    assert (result.exit_code, result.stdout) == (code, "")


def test_an_unknown_stf_is_named_with_the_database(database: InspectedDatabase) -> None:
    stderr = database.inspect("no.stf").stderr
    assert "'no.stf'" in stderr
    assert str(database.path) in stderr


def test_a_bad_setting_is_named(database: InspectedDatabase) -> None:
    result = database.inspect(FASTMON_STUCK_AFTER="soon")
    assert isinstance(result.exception, ConfigError)
    assert "FASTMON_STUCK_AFTER='soon'" in str(result.exception)


def test_a_missing_database_is_a_storage_error(tmp_path: Path) -> None:
    result = run_inspect("--db", str(tmp_path / "none.db"))
    assert isinstance(result.exception, StorageError)
    assert result.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_a_missing_database_exits_with_3(tmp_path: Path) -> None:
    command = ["-m", "fastmon_daemon", "inspect", "--db", str(tmp_path / "none.db")]
    answer = run(command, env={}, timeout=60, cwd=tmp_path)
    assert (answer.returncode, answer.stdout) == (3, "")
    assert "none.db: no such database" in answer.stderr


@pytest.mark.field("20")
def test_control_characters_in_names_are_escaped(database: InspectedDatabase) -> None:
    name = "\x1b]0;owned\x07[red]x[/red]\u202e:smile:\n.stf"
    database.receive(name)
    database.move("fail", ago(seconds=1), note="\x1b[2J cleared", name=name)
    for result in (database.inspect(), database.inspect(name), database.inspect("--state", "failed")):
        assert not set(result.stdout) & {"\x1b", "\x07", "\u202e"}
        assert r"\x1b]0;owned\x07[red]x[/red]\u202e:smile:\n.stf" in result.stdout
        assert r"\x1b[2J cleared" in result.stdout
    assert database.view(name)["stfs"][0]["stf"] == name


def test_long_names_are_not_cut_in_a_pipe(database: InspectedDatabase) -> None:
    name = "n" * 236 + ".stf"
    database.receive(name)
    assert name in database.inspect().stdout


def test_inspect_writes_nothing(database: InspectedDatabase) -> None:
    database.receive()
    before = database.path.read_bytes()
    database.inspect()
    database.inspect(NAME)
    assert database.path.read_bytes() == before


@contextmanager
def watching(database: InspectedDatabase, *options: str) -> Iterator[tuple[Program, IO[str]]]:
    """A running `inspect` and its output; at the end of the block it has ended."""
    words = ["-m", "fastmon_daemon", "inspect", "--db", str(database.path), *options]
    process = Program(words, env={"NO_COLOR": "1"}, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        with process.stdout:
            yield process, process.stdout
        process.wait(60)
    finally:
        process.kill()


def test_watch_refreshes_until_ctrl_c_and_exits_with_the_code_of_the_last_view(database: InspectedDatabase) -> None:
    with watching(database, "--watch", "0.1") as (process, output):
        lines = iter(output.readline, "")
        next(line for line in lines if "nothing is stuck" in line)
        database.receive()
        next(line for line in lines if "stuck: 1" in line)
        next(line for line in lines if line.startswith("-----"))
        process.send_signal(signal.SIGINT)
        output.read()
    assert process.returncode == 1


@pytest.mark.field("27")
def test_watch_ends_by_sigint_even_if_a_script_ignored_it(database: InspectedDatabase) -> None:
    command = [sys.executable, "-m", "fastmon_daemon", "inspect", "--db", str(database.path), "--watch", "0.1"]
    with subprocess.Popen(
        ["sh", "-c", "trap '' INT; exec \"$@\"", "sh", *command], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        next(line for line in iter(process.stdout.readline, "") if line.startswith("-----"))
        process.send_signal(signal.SIGINT)
        try:
            process.communicate(timeout=20)
        finally:
            process.kill()
    assert process.returncode == 0


def test_watch_needs_no_number(database: InspectedDatabase) -> None:
    assert "Invalid value for '--watch'" in database.inspect("--watch", "0").stderr
    with watching(database, "--json", "--watch") as (process, output):
        assert next(line for line in iter(output.readline, "") if line == "}\n")
        process.send_signal(signal.SIGINT)
        output.read()  # until it ends: it may still print
    assert process.returncode == 0


def test_a_diagram_needs_no_database() -> None:
    result = CliRunner().invoke(cli, ["diagram"])
    assert result.exit_code == 0
    assert all(state in result.stdout for state in CHART.states)
    assert "paused" in CliRunner().invoke(cli, ["diagram", "--chart", "run", "--format", "dot"]).stdout


def test_a_live_diagram_counts_stfs_and_runs(database: InspectedDatabase, tmp_path: Path) -> None:
    database.receive("a.stf")
    database.receive("b.stf")
    with database.outbox.transaction():
        database.outbox.runs.record_message("ns", 7, "running", ago(minutes=2), None)
    file = tmp_path / "stf.dot"
    live = ["--live", "--db", str(database.path), "--format", "dot"]
    result = CliRunner().invoke(cli, ["diagram", *live, "--output", str(file)])
    assert (result.exit_code, result.stdout) == (0, "")
    assert str(database.path) in result.stderr
    assert 'label="received [2]' in file.read_text(encoding="utf-8")
    assert 'label="running [1]' in CliRunner().invoke(cli, ["diagram", *live, "--chart", "run"]).stdout


def test_a_database_without_live_is_a_usage_error(database: InspectedDatabase) -> None:
    assert CliRunner().invoke(cli, ["diagram", "--db", str(database.path)]).exit_code == 2
