"""`fastmon-client start` on terminals of any size and kind."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.client.client_process import QUICK, TOKEN, Dashboard, Experiment
from tests.client.snapshots import ESCAPES, HOSTILE
from tests.client.terminal import Terminal
from tests.processes import wait_until

LEAVES = b"\x1b[?1049l"
HIDES, SHOWS = b"\x1b[?25l", b"\x1b[?25h"
HELP = "? help"
SIZES = [(80, 24), (200, 50), (40, 24), (60, 12)]
Lines = list[str]


@pytest.fixture
def experiment() -> Iterator[Experiment]:
    with Experiment(per_stf=3, heartbeat_s=1.0) as running:
        yield running


def start(experiment: Experiment, *options: str, columns: int = 80, rows: int = 24, **more: str | int) -> Terminal:
    words = ("fastmon_client", "start", "--monitor-url", experiment.monitor.url, *options)
    return Terminal(*words, columns=columns, rows=rows, **{"SWF_API_TOKEN": TOKEN, **more})


def play(experiment: Experiment) -> None:
    """A run of four STFs, of which the third is missing."""
    experiment.send("start_run")
    experiment.publish(1, 2)
    experiment.register_stfs(3)
    experiment.publish(4)


def is_restored(terminal: Terminal) -> bool:
    """Whether screen, cursor, wrapping and echo are as they were."""
    left = terminal.raw.rindex(LEAVES)
    return SHOWS in terminal.raw[terminal.raw.rindex(HIDES) : left] and not terminal.is_raw()


def row_of(run: str, lines: Lines) -> str:
    return next((line for line in lines if line[2:].startswith(run)), "")


# What is shown


@pytest.mark.parametrize("size", SIZES)
def test_verdict_and_missing_are_seen_in_a_window_of_any_size(experiment: Experiment, size: tuple[int, int]) -> None:
    with start(experiment, columns=size[0], rows=size[1]) as terminal:
        play(experiment)
        terminal.wait_for(lambda lines: any("1 STF of run" in line for line in lines))
        lines = terminal.wait_for(lambda lines: "NOT FLOWING" in lines[0])
        assert HELP in lines[-1]
        assert all(len(line) <= size[0] for line in lines)


def test_a_wide_window_shows_more_than_a_narrow_one(experiment: Experiment) -> None:
    with start(experiment, columns=80, rows=24) as terminal:
        terminal.wait_for("stream LIVE")
        play(experiment)
        narrow = terminal.wait_for(lambda lines: "1: 3" in row_of("100014", lines))
        assert any("Sequence of STFs" in line for line in narrow)
        assert "██✗█" in row_of("100014", narrow)
        terminal.resize(200, 50)
        wide = terminal.wait_for(lambda lines: HELP in lines[49])
        assert any("Lag, 95 %" in line and "Volume" in line for line in wide)
        assert any("✗ missing" in line for line in wide)
        terminal.resize(60, 12)
        small = terminal.wait_for(lambda lines: HELP in lines[11])
        assert any("Missing" in line and "1 STF of run 100014" in line for line in small)


def test_a_lost_monitor_is_shown_without_colour(experiment: Experiment) -> None:
    with start(experiment, NO_COLOR="1") as terminal:
        terminal.wait_for("stream LIVE")
        experiment.monitor.stop()
        try:
            terminal.wait_for(lambda lines: "UNKNOWN" in lines[0])
            terminal.wait_for("monitor does not answer")
            terminal.wait_for("stream DEAD")
            terminal.wait_for("ALARM  Monitor's stream is dead")
        finally:
            experiment.monitor.start()
        terminal.wait_for("stream LIVE")
        assert terminal.colours() == {"default"}


@pytest.mark.field("20")
def test_hostile_names_do_not_move_the_cursor(experiment: Experiment) -> None:
    with start(experiment, columns=200, rows=50) as terminal:
        terminal.wait_for("stream LIVE")
        experiment.publish(1, stf=f"{HOSTILE}{ESCAPES}", tf=f"tf{ESCAPES}")
        terminal.wait_for("tf\\x1b[2J\\x1b]0;owned\\x07[bold red]evil[/]")
        terminal.wait_for(HOSTILE)
        assert b"\x1b]0;owned" not in terminal.raw


def test_a_terminal_without_our_characters_gets_others_of_the_same_width(experiment: Experiment) -> None:
    with start(experiment, PYTHONIOENCODING="latin-1") as terminal:
        terminal.wait_for("stream LIVE")
        play(experiment)
        terminal.wait_for(lambda lines: "##x#" in row_of("100014", lines))
        assert b"\\u" not in terminal.raw


# Keys


def test_question_mark_lists_the_keys(experiment: Experiment) -> None:
    with start(experiment) as terminal:
        terminal.wait_for("stream LIVE")
        terminal.press("?")
        terminal.wait_for("Acknowledge the first alarm")
        terminal.press("\x1b")
        terminal.wait_for("stream LIVE")


def test_q_quits_with_the_summary(experiment: Experiment) -> None:
    with start(experiment) as terminal:
        play(experiment)
        terminal.wait_for("1: 3")
        terminal.press("q")
        assert terminal.ended() == 0
        assert is_restored(terminal)
        assert b"run 100014" in terminal.raw.rpartition(LEAVES)[2]


def test_enter_opens_the_selected_run_and_esc_leads_back(experiment: Experiment) -> None:
    play(experiment)
    experiment.send("end_run", total_stf_files=4)
    experiment.begin_run(100015)
    with start(experiment, columns=100, rows=40) as terminal:
        experiment.send("start_run")
        terminal.wait_for(lambda lines: "▸ 100015" in " ".join(lines) and "1: 3" in row_of("100014", lines))
        terminal.press("\x1b[B")
        terminal.wait_for("▸ 100014")
        terminal.press("\r")
        lines = terminal.wait_for(f"{experiment.monitor.url.rstrip('/')}/runs/100014/")
        assert any("STFs in the table   4" in line for line in lines)
        terminal.wait_for("  swf.100014.000003.stf")
        assert "None was heard since this client started" in " ".join(lines)
        experiment.run = 100014
        experiment.send("fastmon_run_summary", complete=False, missing=1, expected=4, processed_by="fastmon-agent-1",
                        incomplete_reasons=["swf.100014.000003.stf failed"], outages=[])  # fmt: skip
        terminal.wait_for("swf.100014.000003.stf failed")
        terminal.wait_for("not complete by fastmon-agent-1")
        terminal.press("\x1b")
        terminal.wait_for("▸ 100014")


def test_a_run_whose_tables_cannot_be_read_says_so(experiment: Experiment) -> None:
    with start(experiment, columns=100) as terminal:
        terminal.wait_for("▸ 100014")
        experiment.monitor.stop()
        try:
            terminal.press("\r")
            terminal.wait_for("The monitor's tables cannot be read: no response from the monitor")
        finally:
            experiment.monitor.start()


def test_r_shows_all_runs_and_the_filter_limits_them(experiment: Experiment) -> None:
    for run in range(100015, 100075):
        experiment.begin_run(run)
    with start(experiment, "--last", "70", rows=12) as terminal:
        terminal.wait_for(lambda lines: "of run" not in lines[0] and any("more" in line for line in lines))
        terminal.press("r")
        terminal.wait_for(lambda lines: sum(line[2:].startswith("1000") for line in lines) == 6)
        terminal.press("G")
        terminal.wait_for("▸ 100014")
        terminal.press("/")
        terminal.press("10004")
        terminal.wait_for(lambda lines: "Filter the runs: 10004" in lines[-1] and "▸ 100049" in " ".join(lines))
        terminal.press("\x7f")
        terminal.press("99\r")
        terminal.wait_for("No run matches the filter")
        terminal.press("/\x1b")
        terminal.wait_for("▸ 100014")
        terminal.press("\x1b")
        terminal.wait_for("stream LIVE")


def test_a_acknowledges_with_a_name_and_a_note(experiment: Experiment) -> None:
    with start(experiment, columns=120, LOGNAME="ana") as terminal:
        play(experiment)
        terminal.wait_for("ALARM  STFs are missing · run 100014")
        terminal.press("a")
        terminal.wait_for("Your name: ana")
        terminal.press("Ben q\r")
        terminal.wait_for("Note (optional):")
        terminal.press("DAQ called\r")
        terminal.wait_for("noted  STFs are missing · run 100014")
        lines = terminal.wait_for("acknowledged by Ben q at")
        assert any(": DAQ called" in line for line in lines)
        terminal.press("a")
        terminal.wait_for("No alarm to acknowledge")


def test_acknowledgements_are_shared_with_the_dashboard_of_the_folder(experiment: Experiment, tmp_path: Path) -> None:
    with (
        Dashboard(experiment.monitor.url, "--state", str(tmp_path), **QUICK) as dashboard,
        start(experiment, "--state", str(tmp_path), columns=120) as terminal,
    ):
        play(experiment)
        terminal.wait_for("ALARM  STFs are missing · run 100014")
        terminal.press("aAna\r\r")
        terminal.wait_for("acknowledged by Ana at")

        def is_acknowledged_on_the_page() -> bool:
            incidents = dashboard.until("LIVE")["incidents"]
            return any(each["acknowledged"] and each["acknowledged"]["by"] == "Ana" for each in incidents)

        wait_until(is_acknowledged_on_the_page, "the page shows the acknowledgement")


@pytest.mark.parametrize(("options", "term"), [(("--plain",), "xterm"), ((), "dumb")])
def test_state_without_a_live_view_is_refused(experiment: Experiment, options: tuple[str, ...], term: str) -> None:
    with start(experiment, "--state", "x", *options, TERM=term) as terminal:
        assert terminal.ended() == 2
        assert b"--state is for the live view" in terminal.raw


def test_state_of_a_folder_that_cannot_be_used_is_refused(experiment: Experiment) -> None:
    with start(experiment, "--state", "/proc/x") as terminal:
        assert terminal.ended() == 2
        assert b"use a folder that you may write" in terminal.raw


def test_without_a_keyboard_the_view_runs_until_a_signal(experiment: Experiment) -> None:
    with start(experiment, stdin=subprocess.DEVNULL) as terminal:
        terminal.wait_for("stream LIVE")
        terminal.wait_for("Ctrl-C to stop")
        terminal.press("\x03")
        assert terminal.ended() == 130


# The end


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0), (signal.SIGHUP, 129), (signal.SIGQUIT, 131)]
)
def test_signal_restores_the_terminal_and_prints_the_summary(experiment: Experiment, number: int, code: int) -> None:
    with start(experiment) as terminal:
        terminal.wait_for("stream LIVE")
        assert terminal.is_raw()
        terminal.process.send_signal(number)
        assert terminal.ended() == code
        assert is_restored(terminal)
        assert b"TF files" in terminal.raw.rpartition(LEAVES)[2]
        assert b"Traceback" not in terminal.raw


@pytest.mark.parametrize(("key", "code"), [("\x03", 130), ("\x1c", 131)])
def test_typed_signal_restores_the_terminal(experiment: Experiment, key: str, code: int) -> None:
    with start(experiment) as terminal:
        terminal.wait_for("stream LIVE")
        terminal.press(key)
        assert terminal.ended() == code
        assert is_restored(terminal)


def test_closed_window_ends_the_client(experiment: Experiment) -> None:
    with start(experiment) as terminal:
        terminal.wait_for("stream LIVE")
        terminal.hang_up()
        assert terminal.ended() == 129


def test_closed_window_ends_a_client_that_ignores_its_signal(experiment: Experiment) -> None:
    command = f"trap '' HUP; exec {sys.executable} -m fastmon_client start --monitor-url {experiment.monitor.url}"
    with Terminal("tests.client.shell", command, SWF_API_TOKEN=TOKEN) as terminal:
        terminal.wait_for("stream LIVE")
        terminal.hang_up()
        assert terminal.ended() == 74


def test_suspended_client_gives_the_terminal_back_and_takes_it_again(experiment: Experiment) -> None:
    with start(experiment) as terminal:
        terminal.wait_for("stream LIVE")
        terminal.press("\x1a")
        terminal.wait_until_stopped()
        wait_until(lambda: LEAVES in terminal.raw, "the screen is restored")
        assert is_restored(terminal)
        before = len(terminal.raw)
        terminal.process.send_signal(signal.SIGCONT)
        wait_until(lambda: b"stream" in terminal.raw[before:], "the screen is drawn again")
        assert terminal.is_raw()


def test_rejected_token_ends_the_live_view_with_a_hint(experiment: Experiment) -> None:
    with start(experiment, columns=200, SWF_API_TOKEN="wrong") as terminal:
        assert terminal.ended() == 3
        assert b"set SWF_API_TOKEN" in terminal.raw.rpartition(LEAVES)[2]
        assert is_restored(terminal)


# A reader that stands still


def stop_by_ctrl_s(terminal: Terminal) -> None:
    terminal.press("\x13")


@pytest.mark.parametrize("stop", [stop_by_ctrl_s, Terminal.stop_reading])
def test_stopped_output_grows_no_memory(experiment: Experiment, stop: Callable[[Terminal], None]) -> None:
    with start(experiment, columns=200, rows=50) as terminal:
        terminal.wait_for("stream LIVE")
        experiment.publish(*range(1, 400))
        terminal.wait_for("000399_tf_003")
        stop(terminal)
        status = Path(f"/proc/{terminal.process.pid}/status")

        def resident_kb() -> int:
            return int(next(line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmRSS")))

        experiment.publish(*range(400, 800))
        before = resident_kb()
        for first in range(800, 2400, 400):
            experiment.publish(*range(first, first + 400))
        assert resident_kb() - before < 8000
        terminal.process.send_signal(signal.SIGTERM)
        assert terminal.ended() == 0


def test_output_that_was_stopped_is_restored_at_the_end(experiment: Experiment) -> None:
    with start(experiment) as terminal:
        terminal.wait_for("stream LIVE")
        stop_by_ctrl_s(terminal)
        terminal.process.send_signal(signal.SIGTERM)
        assert terminal.ended() == 0
        assert is_restored(terminal)


# No terminal


def test_dumb_terminal_gets_lines(experiment: Experiment) -> None:
    with start(experiment, TERM="dumb") as terminal:
        terminal.wait_for("connected")
        experiment.publish(1)
        terminal.wait_for("swf.100014.000001_tf_003.tf")
        assert b"\x1b" not in terminal.raw


def test_background_process_writes_lines_and_leaves_the_screen_alone(experiment: Experiment) -> None:
    command = (
        f"set -m; {sys.executable} -m fastmon_client start --count 3 --monitor-url {experiment.monitor.url} & wait"
    )
    with Terminal("tests.client.shell", command, SWF_API_TOKEN=TOKEN) as terminal:
        terminal.wait_for("connected")
        experiment.publish(1)
        terminal.wait_for("swf.100014.000001_tf_003.tf")
        assert b"\x1b" not in terminal.raw
