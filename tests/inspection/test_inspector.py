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
from typing import Any

import pytest
from click.testing import CliRunner, Result

from fastmon_daemon.base.errors import ConfigError, StorageError
from fastmon_daemon.cli import cli
from fastmon_daemon.engine.sampling import draw_sample
from fastmon_daemon.outbox import Announced, NewStf, Outbox, Registered, Sampled, Stf, open_for_reading, open_outbox
from fastmon_daemon.outbox.models import SamplePlan
from fastmon_daemon.statechart import load_statechart

CHART = load_statechart("stf")
NAME = "swf.7.000001.stf"


def ago(**span: float) -> datetime:
    return datetime.now(UTC) - timedelta(**span)


class Shelf:
    """A real database that the tests fill as the daemon would."""

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
            return reports.stf(name, run)[0]

    def move(self, trigger: str, at: datetime, note: str | None = None, name: str = NAME) -> None:
        stf = self.named(name)
        dest = CHART.after(stf.state, trigger)
        with self.outbox.transaction():
            self.outbox.move(stf, trigger, dest, at, rests=CHART.is_finalized(dest), note=note)

    def inspect(self, *arguments: str, **environ: str) -> Result:
        return run_inspect("--db", str(self.path), *arguments, **environ)

    def seen(self, *arguments: str, **environ: str) -> dict[str, Any]:
        seen: dict[str, Any] = json.loads(self.inspect("--json", *arguments, **environ).stdout)
        return seen


def run_inspect(*arguments: str, **environ: str) -> Result:
    return CliRunner(env={"FASTMON_DB": "", "FASTMON_STUCK_AFTER": "", **environ}).invoke(cli, ["inspect", *arguments])


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    shelf = Shelf(tmp_path / "outbox.db")
    with closing(shelf.outbox):
        yield shelf


@contextmanager
def daemon_of(path: Path) -> Iterator[int]:
    """Another process that owns the database until the block has ended."""
    hold = (
        "import sys, pathlib; from fastmon_daemon.outbox import DatabaseLock\n"
        "with DatabaseLock(pathlib.Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", hold, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process.pid
        process.communicate()


def test_an_empty_database_has_nothing_stuck(shelf: Shelf) -> None:
    result = shelf.inspect()
    assert result.exit_code == 0
    assert result.stdout.startswith(f"database: {shelf.path} (--db); no daemon is running")
    positions = [re.search(rf"^ +{state} +0", result.stdout, re.MULTILINE) for state in CHART.states]
    assert [found.start() for found in positions if found] == sorted(found.start() for found in positions if found)
    assert all(positions)
    assert "nothing is stuck" in result.stdout


def test_without_a_daemon_unfinished_work_is_stuck_and_links_are_unknown(shelf: Shelf) -> None:
    shelf.receive()
    result = shelf.inspect()
    assert result.exit_code == 1
    assert "stuck: 1" in result.stdout
    assert "no daemon is running" in result.stdout
    seen = shelf.seen()
    assert seen["daemon"] is None
    assert {link["state"] for link in seen["links"].values()} == {"unknown"}
    assert seen["stuck"][0]["why"] == "no daemon is running"


def test_with_a_daemon_fresh_work_is_not_stuck(shelf: Shelf) -> None:
    shelf.receive()
    with daemon_of(shelf.path) as pid:
        seen, result = shelf.seen(), shelf.inspect()
    assert seen["daemon"] == pid
    assert (seen["stuck"], seen["oldest"]["stf"], seen["oldest"]["next"]) == ([], NAME, "sample_tfs, now")
    assert {link["state"] for link in seen["links"].values()} == {"up"}
    assert result.exit_code == 0


def test_with_a_daemon_old_work_is_stuck_with_its_error_attempts_and_next_try(shelf: Shelf) -> None:
    stf = shelf.receive(at=ago(minutes=3))
    with shelf.outbox.transaction():
        shelf.outbox.postpone(stf, timedelta(minutes=5), "the monitor said 400", 1.0, datetime.now(UTC))
    with daemon_of(shelf.path):
        result, seen = shelf.inspect(), shelf.seen()
        config = shelf.inspect(FASTMON_STUCK_AFTER="3600")
    assert result.exit_code == 1
    row = seen["stuck"][0]
    assert (row["why"], row["attempts"], row["last_error"]) == ("the monitor said 400", 1, "the monitor said 400")
    assert row["next_try_at"] == shelf.named().due_at
    assert "(3 min)" in result.stdout
    assert "(in 4 min)" in result.stdout
    assert config.exit_code == 0


@pytest.mark.parametrize("blocked", [False, True])
def test_waiting_for_a_link_that_is_down_is_not_stuck(shelf: Shelf, blocked: bool) -> None:
    shelf.receive(at=ago(minutes=9))
    shelf.move("sample_tfs", ago(minutes=8))
    with shelf.outbox.transaction():
        shelf.outbox.outages.link_lost("monitor", "connection refused", ago(minutes=7), blocked=blocked)
        shelf.outbox.outages.next_probe("monitor", datetime.now(UTC) + timedelta(seconds=90))
    with daemon_of(shelf.path):
        result, seen = shelf.inspect(), shelf.seen()
    assert result.exit_code == 0
    assert "connection refused" in result.stdout
    assert "(7 min)" in result.stdout
    assert "(in 1 min)" in result.stdout
    assert seen["links"]["monitor"]["state"] == ("blocked" if blocked else "down")
    assert seen["links"]["broker"]["state"] == "up"
    assert seen["oldest"]["next"] == "register_tfs, when the monitor is back"


def test_another_link_that_is_down_excuses_nothing(shelf: Shelf) -> None:
    shelf.receive(at=ago(minutes=9))
    shelf.move("sample_tfs", ago(minutes=8))
    with shelf.outbox.transaction():
        shelf.outbox.outages.link_lost("broker", "gone", ago(minutes=7), blocked=False)
    with daemon_of(shelf.path):
        assert shelf.inspect().exit_code == 1


def test_after_an_outage_the_backlog_has_its_minute(shelf: Shelf) -> None:
    shelf.receive(at=ago(minutes=9))
    shelf.move("sample_tfs", ago(minutes=8))
    with shelf.outbox.transaction():
        shelf.outbox.outages.link_lost("monitor", "gone", ago(minutes=7), blocked=False)
        shelf.outbox.outages.link_back("monitor", ago(seconds=5))
    with daemon_of(shelf.path):
        assert shelf.inspect().exit_code == 0
        assert shelf.inspect(FASTMON_STUCK_AFTER="2").exit_code == 1


def test_a_failed_stf_needs_a_person_whether_or_not_a_daemon_runs(shelf: Shelf) -> None:
    shelf.receive()
    shelf.move("fail", ago(seconds=1), note="stf_not_registered")
    with daemon_of(shelf.path):
        result, seen = shelf.inspect(), shelf.seen()
    assert result.exit_code == 1
    assert seen["stuck"][0]["why"] == "stf_not_registered"
    assert seen["stuck"][0]["next"] == "nothing, unless an operator decides: retry or discard"
    assert shelf.seen()["stuck"][0]["why"] == "stf_not_registered"


def test_skipped_stfs_rest_in_peace(shelf: Shelf) -> None:
    shelf.receive()
    shelf.move("skip", ago(seconds=1), note="not selected")
    assert shelf.inspect().exit_code == 0
    assert shelf.seen(NAME)["stfs"][0]["next"] == "nothing, unless an operator decides: include"


def test_more_than_a_screenful_is_counted_and_all_shows_it(shelf: Shelf) -> None:
    for number in range(23):
        shelf.receive(f"swf.7.{number:06d}.stf", at=ago(hours=1, seconds=-number))
    result = shelf.inspect()
    assert "3 more: list them with --all" in result.stdout
    assert "swf.7.000022.stf" not in result.stdout
    assert "swf.7.000022.stf" in shelf.inspect("--all").stdout
    assert (shelf.seen()["stuck_count"], len(shelf.seen()["stuck"]), len(shelf.seen("--all")["stuck"])) == (23, 20, 23)


def test_state_and_run_narrow_the_view_and_list_it(shelf: Shelf) -> None:
    shelf.receive("a.stf", run=7)
    shelf.receive("b.stf", run=8)
    shelf.move("fail", ago(seconds=1), name="b.stf")
    of_run = shelf.seen("--run", "7")
    assert [stf["stf"] for stf in of_run["stfs"]] == ["a.stf"]
    assert (of_run["states"]["received"], of_run["states"]["failed"], of_run["stuck_count"]) == (1, 0, 1)
    failed = shelf.seen("--state", "failed")
    assert ([stf["stf"] for stf in failed["stfs"]], failed["stf_count"]) == (["b.stf"], 1)
    assert shelf.inspect("--run", "7", "--state", "failed").exit_code == 0
    assert "a.stf" in shelf.inspect("--state", "received").stdout


def test_refused_messages_are_counted_and_listed(shelf: Shelf) -> None:
    with shelf.outbox.transaction():
        shelf.outbox.reject('{"msg_type": "stf_ready"}', "run_id is missing", ago(minutes=1), 10)
    assert "rejected messages: 1 (list them with --rejected)" in shelf.inspect().stdout
    result = shelf.inspect("--rejected")
    assert (result.exit_code, "run_id is missing" in result.stdout) == (0, True)
    row = shelf.seen("--rejected")["rejected"][0]
    assert (row["reason"], row["bytes"], row["body"]) == ("run_id is missing", 25, '{"msg_type": "stf_ready"}')


def test_runs_are_shown(shelf: Shelf) -> None:
    with shelf.outbox.transaction():
        shelf.outbox.runs.record_message("ns", 100014, "running", ago(minutes=2), None)
    assert re.search(r"100014 +ns +running +- +0 +0 +\S+ \S+ \(2 min\)", shelf.inspect().stdout)


def test_the_overview_has_the_keys_that_the_help_names(shelf: Shelf) -> None:
    shelf.receive()
    shelf.move("sample_tfs", ago(seconds=1))
    documented = set(re.findall(r"\w+", " ".join(run_inspect("--help").stdout.split("\n"))))
    for view in (shelf.seen("--run", "7"), shelf.seen("--rejected"), shelf.seen(NAME)):
        assert set(view) <= documented
        assert all(set(stf) <= documented for stf in view.get("stfs", []))


def test_one_stf_is_shown_with_its_tfs_plan_and_lives(shelf: Shelf) -> None:
    stf = shelf.receive(at=ago(minutes=5), size_bytes=2_000_000, tf_count=1000)
    plan = SamplePlan(seed="ns/7/x", tf_count=1000, tf_files=2, size_fraction=0.15, sequence_start=1)
    ranges = draw_sample(plan, NAME)
    with shelf.outbox.transaction():
        shelf.outbox.save_progress(stf.id, Sampled(plan=plan, ranges=ranges, sizes=(300, None)), ago(minutes=4))
    shelf.move("sample_tfs", ago(minutes=4))
    first = shelf.named().tfs[0]
    registered = type(first)(**{**_fields(first), "monitor_id": "0b5e-id", "adopted": "another range"})
    with shelf.outbox.transaction():
        shelf.outbox.save_progress(stf.id, Registered(tf=registered), ago(minutes=3))
        shelf.outbox.save_progress(stf.id, Announced(sequence=1), ago(minutes=2))
    shelf.move("fail", ago(minutes=1), note="conflict")
    with shelf.outbox.transaction():
        shelf.outbox.reopen(shelf.named(), "retry", CHART.initial, ago(seconds=30), note="mended")
    result, seen = shelf.inspect(NAME), shelf.seen(NAME)["stfs"][0]
    assert result.exit_code == 1  # nobody works on it
    for part in ("0b5e-id", f"{ranges[0].first}..{ranges[0].last}", "another range", "seed ns/7/x", "fraction 0.15",
                 "conflict", "mended", "life 2", "2000000 bytes, 1000 TFs"):  # fmt: skip
        assert part in result.stdout
    assert [(row["life"], row["trigger"]) for row in seen["history"]] == [
        (1, None), (1, "sample_tfs"), (1, "fail"), (2, "retry"),
    ]  # fmt: skip
    assert [tf["monitor_id"] for tf in seen["tfs"]] == ["0b5e-id", None]
    assert seen["plan"]["seed"] == "ns/7/x"


def _fields(row: object) -> dict[str, Any]:
    return {name: getattr(row, name) for name in type(row).__slots__}  # type: ignore[attr-defined]


def test_a_name_in_several_runs_is_shown_for_each(shelf: Shelf) -> None:
    shelf.receive(run=7)
    shelf.receive(run=8)
    assert {stf["run"] for stf in shelf.seen(NAME)["stfs"]} == {"7", "8"}
    assert {stf["run"] for stf in shelf.seen(NAME, "--run", "8")["stfs"]} == {"8"}


@pytest.mark.parametrize("arguments", [("no.stf",), ("--run", "99"), ("x.stf", "--rejected"), ("--state", "lost")])
def test_what_is_not_there_is_a_usage_error(shelf: Shelf, arguments: tuple[str, ...]) -> None:
    result = shelf.inspect(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")


def test_an_unknown_stf_is_named_with_the_database(shelf: Shelf) -> None:
    stderr = shelf.inspect("no.stf").stderr
    assert "'no.stf'" in stderr
    assert str(shelf.path) in stderr


def test_a_bad_setting_is_named(shelf: Shelf) -> None:
    result = shelf.inspect(FASTMON_STUCK_AFTER="soon")
    assert isinstance(result.exception, ConfigError)
    assert "FASTMON_STUCK_AFTER='soon'" in str(result.exception)


def test_no_database_is_an_error_of_storage(tmp_path: Path) -> None:
    result = run_inspect("--db", str(tmp_path / "none.db"))
    assert isinstance(result.exception, StorageError)
    assert result.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_the_command_line_answers_3_where_there_is_no_database(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "fastmon_daemon", "inspect", "--db", str(tmp_path / "none.db")]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (answer.returncode, answer.stdout) == (3, "")
    assert "none.db: no such database" in answer.stderr


def test_hostile_names_reach_no_terminal(shelf: Shelf) -> None:
    name = "\x1b]0;owned\x07[red]x[/red]\u202e:smile:\n.stf"
    shelf.receive(name)
    shelf.move("fail", ago(seconds=1), note="\x1b[2J cleared", name=name)
    for result in (shelf.inspect(), shelf.inspect(name), shelf.inspect("--state", "failed")):
        assert not set(result.stdout) & {"\x1b", "\x07", "\u202e"}
        assert r"\x1b]0;owned\x07[red]x[/red]\u202e:smile:\n.stf" in result.stdout
        assert r"\x1b[2J cleared" in result.stdout
    assert shelf.seen(name)["stfs"][0]["stf"] == name


def test_long_names_are_whole_in_a_pipe(shelf: Shelf) -> None:
    name = "n" * 236 + ".stf"
    shelf.receive(name)
    assert name in shelf.inspect().stdout


def test_inspect_writes_nothing(shelf: Shelf) -> None:
    shelf.receive()
    before = shelf.path.read_bytes()
    shelf.inspect()
    shelf.inspect(NAME)
    assert shelf.path.read_bytes() == before


def test_watch_looks_again_until_ctrl_c_and_ends_with_the_code_of_the_last_view(shelf: Shelf) -> None:
    command = [sys.executable, "-m", "fastmon_daemon", "inspect", "--db", str(shelf.path), "--watch", "0.1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "NO_COLOR": "1"}) as process:
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        next(line for line in lines if "nothing is stuck" in line)
        shelf.receive()
        next(line for line in lines if "stuck: 1" in line)
        next(line for line in lines if line.startswith("-----"))
        process.send_signal(signal.SIGINT)
        process.stdout.read()
    assert process.returncode == 1


def test_watch_ends_by_sigint_also_where_a_script_had_it_ignored(shelf: Shelf) -> None:
    command = [sys.executable, "-m", "fastmon_daemon", "inspect", "--db", str(shelf.path), "--watch", "0.1"]
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


def test_watch_needs_no_number(shelf: Shelf) -> None:
    assert "Invalid value for '--watch'" in shelf.inspect("--watch", "0").stderr
    command = [sys.executable, "-m", "fastmon_daemon", "inspect", "--db", str(shelf.path), "--json", "--watch"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert next(line for line in iter(process.stdout.readline, "") if line == "}\n")
        process.send_signal(signal.SIGINT)
    assert process.returncode == 0


def test_a_diagram_needs_no_database() -> None:
    result = CliRunner().invoke(cli, ["diagram"])
    assert result.exit_code == 0
    assert all(state in result.stdout for state in CHART.states)
    assert "paused" in CliRunner().invoke(cli, ["diagram", "--chart", "run", "--format", "dot"]).stdout


def test_a_live_diagram_counts_stfs_and_runs(shelf: Shelf, tmp_path: Path) -> None:
    shelf.receive("a.stf")
    shelf.receive("b.stf")
    with shelf.outbox.transaction():
        shelf.outbox.runs.record_message("ns", 7, "running", ago(minutes=2), None)
    file = tmp_path / "stf.dot"
    live = ["--live", "--db", str(shelf.path), "--format", "dot"]
    result = CliRunner().invoke(cli, ["diagram", *live, "--output", str(file)])
    assert (result.exit_code, result.stdout) == (0, "")
    assert str(shelf.path) in result.stderr
    assert r'label="received\n2"' in file.read_text(encoding="utf-8")
    assert r'label="running\n1"' in CliRunner().invoke(cli, ["diagram", *live, "--chart", "run"]).stdout


def test_a_database_without_live_is_a_usage_error(shelf: Shelf) -> None:
    assert CliRunner().invoke(cli, ["diagram", "--db", str(shelf.path)]).exit_code == 2
