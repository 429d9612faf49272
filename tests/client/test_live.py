"""`fastmon-client start` on terminals of any size and kind."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from tests.client.client_process import TOKEN, Experiment
from tests.client.snapshots import ESCAPES, HOSTILE
from tests.client.terminal import Terminal

LEAVES = b"\x1b[?1049l"
CURSOR = b"\x1b[?25h"


@pytest.fixture
def experiment() -> Iterator[Experiment]:
    with Experiment(per_stf=3, heartbeat_s=1.0) as running:
        yield running


def start(experiment: Experiment, *options: str, columns: int = 80, rows: int = 24, **environment: str) -> Terminal:
    words = ("fastmon_client", "start", "--monitor-url", experiment.monitor.url, *options)
    return Terminal(*words, columns=columns, rows=rows, SWF_API_TOKEN=TOKEN, **environment)


def test_live_view_fills_a_window_of_any_size(experiment: Experiment) -> None:
    with start(experiment, columns=80, rows=24) as terminal:
        terminal.wait_for("LIVE")
        experiment.send("start_run")
        experiment.publish(1)
        lines = terminal.wait_for("swf.100014.000001_tf_003.tf")
        assert lines[0].startswith(" LIVE  since")
        assert any(line.startswith("100014  running") for line in lines)
        assert "Ctrl-C to stop" in lines[23]
        terminal.resize(200, 50)
        lines = terminal.wait_for(lambda lines: "Ctrl-C to stop" in lines[49])
        assert any("lag p50/p95 s" in line and "backfilled" in line for line in lines)
        terminal.resize(60, 12)
        terminal.wait_for(lambda lines: "Ctrl-C" in lines[11] and "swf.100014.000001" in " ".join(lines))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_signal_restores_the_screen_and_prints_the_summary(experiment: Experiment, number: int, code: int) -> None:
    with start(experiment) as terminal:
        terminal.wait_for("LIVE")
        terminal.process.send_signal(number)
        assert terminal.ended() == code
        after = terminal.raw.rpartition(LEAVES)[2]
        assert LEAVES in terminal.raw
        assert CURSOR in terminal.raw[terminal.raw.rindex(b"\x1b[?25l") :]
        assert b"TF files" in after
        assert b"Traceback" not in terminal.raw


@pytest.mark.field("20")
def test_hostile_names_do_not_move_the_cursor(experiment: Experiment) -> None:
    with start(experiment, columns=200, rows=50) as terminal:
        terminal.wait_for("LIVE")
        experiment.publish(1, stf=f"{HOSTILE}{ESCAPES}", tf=f"tf{ESCAPES}")
        terminal.wait_for("tf\\x1b[2J\\x1b]0;owned\\x07[bold red]evil[/]")
        terminal.wait_for(HOSTILE)
        assert b"\x1b]0;owned" not in terminal.raw


def test_lost_monitor_is_shown_without_colour(experiment: Experiment) -> None:
    with start(experiment, NO_COLOR="1") as terminal:
        terminal.wait_for("LIVE")
        experiment.monitor.stop()
        try:
            terminal.wait_for(" DEAD ")
            terminal.wait_for("current state is UNKNOWN")
            terminal.wait_for("ALARM stream dead")
        finally:
            experiment.monitor.start()
        terminal.wait_for(" LIVE ")
        assert terminal.colours() == {"default"}


def test_dumb_terminal_gets_lines(experiment: Experiment) -> None:
    with start(experiment, TERM="dumb") as terminal:
        terminal.wait_for("connected")
        experiment.publish(1)
        terminal.wait_for("swf.100014.000001_tf_003.tf")
        assert b"\x1b" not in terminal.raw


def test_rejected_token_ends_the_live_view_with_a_hint(experiment: Experiment) -> None:
    with Terminal(
        "fastmon_client", "start", "--monitor-url", experiment.monitor.url, columns=200, SWF_API_TOKEN="wrong"
    ) as terminal:
        assert terminal.ended() == 3
        assert b"set SWF_API_TOKEN" in terminal.raw.rpartition(LEAVES)[2]
