"""The live view in this process, on a pty: what keys, signals and answers do; the session is hand-made."""

from __future__ import annotations

import getpass
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from fastmon_client.dashboard.acknowledgements import Acknowledgements
from fastmon_client.live import app as live
from fastmon_client.live.app import App
from fastmon_client.monitor_session import AccessDenied
from fastmon_client.monitor_tables import MonitorUnavailable
from fastmon_client.state_folder import StateFolder
from tests.client.snapshots import alarm, run, snapshot
from tests.client.terminal import Window
from tests.processes import wait_until

NAMES = {12: "swf.100014.000012.stf"}


class FakeSession:
    """A session with the snapshot *shown*, and with *all_runs*."""

    def __init__(self, shown: dict[str, Any] | None = None, all_runs: list[dict[str, Any]] | None = None) -> None:
        self.shown, self.all_runs = shown or snapshot(), all_runs or []
        self.asked_for_rows = 0

    def run(self) -> None: ...

    def stop(self) -> None: ...

    def snapshot(self) -> Any:
        return self.shown

    def rows(self, offset: int = 0, limit: int | None = None) -> Any:
        self.asked_for_rows += 1
        return self.all_runs[offset:][:limit]


class FakeTables:
    """Answers questions for a run, or raises *problem*; `held` holds the answers back."""

    def __init__(self, problem: Exception | None = None) -> None:
        self.problem, self.asked, self.held = problem, list[tuple[str, list[int]]](), threading.Event()
        self.held.set()

    async def run(self, name: str, sequences: Iterable[int]) -> dict[str, Any]:
        self.asked.append((name, list(sequences)))
        assert self.held.wait(60)
        if self.problem:
            raise self.problem
        return {"names": NAMES, "stfs": 119, "monitor_page": f"http://m/runs/{name}/", "summary": None}


class Shown:
    """A live view in `window`."""

    def __init__(self, window: Window, session: FakeSession, tables: FakeTables, known: Acknowledgements) -> None:
        self.window, self.acknowledgements = window, known
        self.app = App(session, tables, known)  # type: ignore[arg-type]

    def play(self, script: Callable[[Window], None]) -> None:
        """Run the view until *script*, which plays the person, is done; or until the view ends before."""
        failed: list[BaseException] = []

        def run() -> None:
            try:
                script(self.window)
            except BaseException as exc:  # noqa: BLE001 (raised below)
                failed.append(exc)
            finally:
                self.app.stop()

        person = threading.Thread(target=run)
        person.start()
        with closing(self.app):
            self.app.run()
            person.join()
        if failed:
            raise failed[0]


Open = Callable[..., Shown]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    """Opens a view; the snapshot is taken once and after keys, so that whatever is seen comes from the key."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("LOGNAME", "ana")
    with ExitStack() as stack:

        def open_(
            session: FakeSession | None = None, tables: FakeTables | None = None, known: Acknowledgements | None = None,
            *, redraw_s: float = 1000.0, has_keyboard: bool = True,
        ) -> Shown:  # fmt: skip
            monkeypatch.setattr(live, "REDRAW_S", redraw_s)
            window = Window()
            stack.callback(window.close)
            out = stack.enter_context(os.fdopen(os.dup(window.theirs), "w", encoding="utf-8"))
            keyboard = os.dup(window.theirs) if has_keyboard else os.open(os.devnull, os.O_RDONLY)
            monkeypatch.setattr(sys, "stdout", out)
            monkeypatch.setattr(sys, "stdin", stack.enter_context(os.fdopen(keyboard)))
            return Shown(window, session or FakeSession(), tables or FakeTables(), known or Acknowledgements())

        yield open_


def steps(*pairs: tuple[str, str]) -> Callable[[Window], None]:
    """Presses each key when the text before it is seen; the last text is only waited for."""

    def script(window: Window) -> None:
        for text, key in pairs:
            window.wait_for(text)
            window.press(key)

    return script


# Pages


def test_an_open_run_has_the_answer_of_the_tables(opened: Open) -> None:
    tables = FakeTables()
    opened(tables=tables, redraw_s=0.05).play(
        steps(("▸ 100014", "\r"), ("http://m/runs/100014/", ""), ("STFs in the table   119", "G"), ("15: not reg", ""))
    )
    assert tables.asked == [("100014", [12, 15, 16, 99])]


@pytest.mark.parametrize("problem", [MonitorUnavailable("no answer"), AccessDenied("no answer")])
def test_tables_that_cannot_be_read_are_named(opened: Open, problem: Exception) -> None:
    opened(tables=FakeTables(problem), redraw_s=0.05).play(
        steps(("▸ 100014", "\r"), ("The monitor's tables cannot be read: no answer", ""))
    )


def test_an_answer_is_shown_for_its_own_run_only(opened: Open) -> None:
    tables = FakeTables()

    def script(window: Window) -> None:
        window.wait_for("▸ 100014")
        window.press("\r")
        window.wait_for("http://m/runs/100014/")
        tables.held.clear()
        window.press("\x1b")
        window.wait_for("▸ 100014")
        window.press("j\r")
        lines = window.wait_for("Run 100013")
        assert not any("http://m" in line for line in lines)
        wait_until(lambda: len(tables.asked) == 2, "it is asked")
        tables.held.set()
        window.wait_for("http://m/runs/100013/")

    opened(tables=tables, redraw_s=0.05).play(script)
    assert [name for name, _ in tables.asked] == ["100014", "100013"]


def test_an_open_run_is_asked_again_and_again(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "REFRESH_S", 0.0)
    tables = FakeTables()

    def script(window: Window) -> None:
        window.wait_for("▸ 100014")
        window.press("\r")
        wait_until(lambda: len(tables.asked) > 3, "it is asked again")

    opened(tables=tables, redraw_s=0.01).play(script)


def test_the_page_of_runs_has_those_that_the_snapshot_omits(opened: Open) -> None:
    session = FakeSession(snapshot(runs_total=4), [run(name) for name in ("100014", "100013", "100012", "100011")])

    def script(window: Window) -> None:
        window.wait_for("2 more")
        window.press("r")
        lines = window.wait_for("100011")
        assert [line[2:8] for line in lines if line[2:6] == "1000"] == ["100014", "100013", "100012", "100011"]
        window.press("G\r")
        window.wait_for("Run 100011")
        window.press("\x1b")
        window.wait_for("▸ 100011")
        window.press("\x1b")
        window.wait_for("2 more")

    opened(session).play(script)
    assert session.asked_for_rows == 1


def test_runs_that_are_all_in_the_snapshot_are_not_asked_for(opened: Open) -> None:
    session = FakeSession()
    opened(session).play(steps(("▸ 100014", "r"), ("Esc back", "")))
    assert session.asked_for_rows == 0


def test_a_filter_finds_runs_that_the_snapshot_omits(opened: Open) -> None:
    session = FakeSession(snapshot(runs_total=4), [run("100014"), run("100011")])
    opened(session).play(steps(("2 more", "/100011"), ("▸ 100011", "\x1b"), ("▸ 100014", "")))


def test_the_snapshot_is_taken_again(opened: Open) -> None:
    session = FakeSession()

    def script(window: Window) -> None:
        window.wait_for("▸ 100014")
        session.shown = snapshot(runs=[run("100077")])
        window.wait_for("▸ 100077")

    opened(session, redraw_s=0.05).play(script)


# Keys


def test_an_acknowledgement_is_recorded_and_said(opened: Open) -> None:
    shown = opened()
    shown.play(
        steps(("ALARM", "a"), ("Your name: ana", "\r"), ("Note (optional)", "DAQ\r"), ("Acknowledged by ana.", "x"),
              ("noted  STFs are missing", ""))
    )  # fmt: skip
    [row] = shown.acknowledgements.rows()
    assert (row["kind"], row["subject"], row["by"], row["note"]) == ("stfs_missing", "100014", "ana", "DAQ")


def test_an_acknowledgement_that_cannot_be_written_says_so(opened: Open, tmp_path: Path) -> None:
    with closing(StateFolder(tmp_path)) as folder:
        shown = opened(known=Acknowledgements(folder))
        (tmp_path / "acknowledgements.tmp").mkdir()
        shown.play(steps(("ALARM", "a\r\r"), ("Not acknowledged: it cannot be written: Is a directory.", "")))
        assert shown.acknowledgements.rows() == []


def test_the_acknowledgement_of_an_alarm_ends_with_it(opened: Open) -> None:
    session = FakeSession()

    def script(window: Window) -> None:
        steps(("ALARM", "a\r\r"), ("noted  STFs are missing", ""))(window)
        session.shown = snapshot(alarms=[])
        window.wait_for(lambda lines: not any("noted" in line for line in lines))
        session.shown = snapshot(alarms=[alarm(since="2099-01-01T00:00:00+00:00")])
        window.wait_for("ALARM  STFs are missing")

    opened(session, redraw_s=0.05).play(script)


@pytest.mark.parametrize("error", [KeyError, OSError])
def test_a_user_without_a_name_is_proposed_none(
    opened: Open, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def no_user() -> str:
        raise error("no such user")

    monkeypatch.setattr(getpass, "getuser", no_user)
    opened().play(steps(("ALARM", "a"), ("Your name:     Enter goes on", "")))


def test_ctrl_l_draws_everything_anew(opened: Open) -> None:
    def script(window: Window) -> None:
        window.wait_for("▸ 100014")
        window.wait_for("acknowledge 1")
        before = len(window.raw)
        window.press("\x0c")
        wait_until(lambda: b"DEGRADED" in window.raw[before:], "it is drawn again")

    opened().play(script)


def test_q_ends_the_view_and_restores_the_terminal(opened: Open) -> None:
    handlers = [signal.getsignal(number) for number in (signal.SIGWINCH, signal.SIGTSTP)]

    def script(window: Window) -> None:
        window.wait_for("▸ 100014")
        assert window.is_raw()
        window.press("q")
        wait_until(lambda: window.raw.endswith(b"\x1b[?1049l"), "the screen is left")

    shown = opened()
    shown.play(script)
    assert not shown.window.is_raw()
    assert [signal.getsignal(number) for number in (signal.SIGWINCH, signal.SIGTSTP)] == handlers


def test_without_a_keyboard_no_keys_are_named(opened: Open) -> None:
    opened(has_keyboard=False).play(steps(("Ctrl-C to stop", "")))


# Signals


def test_another_size_is_drawn_at_once(opened: Open) -> None:
    def script(window: Window) -> None:
        window.wait_for("▸ 100014")
        window.resize(120, 30)
        os.kill(os.getpid(), signal.SIGWINCH)
        lines = window.wait_for(lambda lines: lines[29].startswith(" ? help"))
        assert any("Volume" in line for line in lines)

    opened().play(script)


def test_a_suspended_view_gives_the_terminal_back(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process itself goes on here: what it would be stopped by is recorded."""
    kill, stopped = os.kill, []
    shown = opened()

    def record(pid: int, number: int) -> None:
        stopped.append((pid, number, shown.window.is_raw()))

    def script(window: Window) -> None:
        window.wait_for("▸ 100014")
        before = len(window.raw)
        kill(os.getpid(), signal.SIGTSTP)
        again = re.compile(rb"\x1b\[\?1049l.*\x1b\[\?1049h.*DEGRADED.*acknowledge 1", re.DOTALL)
        wait_until(lambda: again.search(window.raw[before:]) is not None, "it is drawn again")
        assert window.is_raw()

    with monkeypatch.context() as patched:
        patched.setattr(live.os, "kill", record)
        shown.play(script)
    assert stopped == [(os.getpid(), signal.SIGSTOP, False)]


def test_any_number_of_signals_is_one_redraw_at_least(opened: Open) -> None:
    """More than the pipe of the loop holds does not block the handler."""
    shown = opened()
    for _ in range(70_000):
        shown.app._wake()
    shown.play(steps(("▸ 100014", "q")))
