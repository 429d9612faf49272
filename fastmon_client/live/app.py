"""The live view: reads keys, takes snapshots, and draws them; belongs to the main thread, which receives signals."""

from __future__ import annotations

import asyncio
import getpass
import os
import select
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from typing import Any, Protocol

from fastmon_client.dashboard.acknowledgements import Acknowledgements
from fastmon_client.dashboard.details import Summaries, TableDetails
from fastmon_client.dashboard.incidents import incidents_of
from fastmon_client.live.columns import Row
from fastmon_client.live.keyboard import Keyboard
from fastmon_client.live.navigation import Acknowledge, Action, Navigation, Seen
from fastmon_client.live.run_page import incomplete_stfs
from fastmon_client.live.screen import Screen, resume_output
from fastmon_client.live.view import Model, last_top, page_lines, render
from fastmon_client.message_filter import RUN_SUMMARY
from fastmon_client.monitor_session import AccessDenied, MonitorSession
from fastmon_client.monitor_tables import MonitorUnavailable
from fastmon_client.session import now
from fastmon_client.snapshot import RunRow, Snapshot
from fastmon_client.state_folder import StateFolder

REDRAW_S = 0.5
"""Between two snapshots; a key is answered at once."""
REFRESH_S = 5.0
"""Between two questions for older runs and for the tables of the open run."""


class RunnableSession(Protocol):
    """A session: `run` runs in a thread until `stop`."""

    def run(self) -> None:
        """Run until the end."""

    def stop(self) -> None:
        """End `run`."""

    def snapshot(self) -> Snapshot:
        """The current snapshot."""

    def rows(self, offset: int = 0, limit: int | None = None) -> list[RunRow]:
        """All runs, newest first, without strips."""


class LiveView:
    """The live view of a session."""

    message_types = (RUN_SUMMARY,)
    """What its session must read beside the types that are asked for."""

    def __init__(self, folder: StateFolder | None, *, bell: bool) -> None:
        """Acknowledgements are in *folder*. Raises: OSError."""
        self.output = Summaries(bell=bell)
        """The output of its session."""
        self._acknowledgements = Acknowledgements(folder)

    def show(self, session: RunnableSession, monitor: MonitorSession) -> None:
        """Run *session* and show it until its end, or until somebody quits."""
        with (
            closing(TableDetails(monitor, self.output, session.rows)) as details,
            closing(App(session, details, self._acknowledgements)) as app,
            ThreadPoolExecutor(1, "session") as pool,
        ):
            running = pool.submit(session.run)
            running.add_done_callback(lambda _running: app.stop())
            try:
                app.run()
            finally:
                session.stop()
            running.result()


class App:
    """Runs until `stop`."""

    def __init__(self, session: RunnableSession, details: TableDetails, acknowledgements: Acknowledgements) -> None:
        self._session, self._acknowledgements = session, acknowledgements
        self._questions = _Questions(details)
        self._screen, self._keyboard = Screen(), Keyboard()
        self._events, self._signal = _pipe()
        self._is_stopped = self._is_suspended = False
        self._older: list[RunRow] = []
        self._older_at = -REFRESH_S
        self._model = Model(
            snapshot=session.snapshot(), navigation=Navigation(name=_own_name()),
            has_keys=self._keyboard.fd is not None,
        )  # fmt: skip

    def stop(self) -> None:
        """End `run`; callable from any thread and from a signal handler."""
        self._is_stopped = True
        resume_output()
        self._wake()

    def close(self) -> None:
        """Release what `stop` uses."""
        os.close(self._events)
        os.close(self._signal)

    def run(self) -> None:
        """Draw until `stop`; restore the terminal at the end."""
        with self._signals(), closing(self._questions):
            try:
                self._enter()
                self._loop()
            finally:
                self._leave()

    def _loop(self) -> None:
        due = 0.0
        while not self._is_stopped:
            if self._is_suspended:
                self._suspend()
            if time.monotonic() >= due:
                due = time.monotonic() + REDRAW_S
                self._look()
            size = self._screen.size
            self._screen.draw(render(self._model, *size), size)
            for key in self._keys(max(0.0, due - time.monotonic())):
                self._press(key)

    def _enter(self) -> None:
        self._keyboard.enter()
        self._screen.enter()

    def _leave(self) -> None:
        self._screen.leave()
        self._keyboard.leave()

    # What is shown

    def _look(self) -> None:
        """Take a snapshot, and what belongs to it."""
        snapshot, navigation = self._session.snapshot(), self._model.navigation
        incidents = incidents_of(snapshot["alarms"])
        self._acknowledgements.observe(incidents, now())
        if navigation.page == "overview" and not navigation.filter:
            self._older, self._older_at = [], -REFRESH_S
        elif snapshot["runs_total"] > len(snapshot["runs"]) and time.monotonic() - self._older_at >= REFRESH_S:
            self._older, self._older_at = self._session.rows(), time.monotonic()
        self._model = replace(
            self._model, snapshot=snapshot, older=[{**row, "strip": []} for row in self._older],
            incidents=[{**each, "acknowledged": self._acknowledgements.of(each)} for each in incidents],
            details=self._questions.answer(self._open_run()),
        )  # fmt: skip

    def _open_run(self) -> Row | None:
        model = self._model
        if model.navigation.page != "run":
            return None
        return next(
            (run for run in [*model.snapshot["runs"], *model.older] if run["run"] == model.navigation.run), None
        )

    # Keys and signals

    def _keys(self, timeout_s: float) -> list[str]:
        """The keys that are pressed within *timeout_s*; none at once after a signal."""
        keyboard = self._keyboard
        if keyboard.timeout_s is not None:
            timeout_s = keyboard.timeout_s
        fds = [self._events] if keyboard.fd is None else [self._events, keyboard.fd]
        ready, _, _ = select.select(fds, [], [], timeout_s)
        if self._events in ready:
            os.read(self._events, 4096)
        if keyboard.fd in ready:
            return keyboard.read()
        return [] if ready else keyboard.time_out()

    def _press(self, key: str) -> None:
        model, size = self._model, self._screen.size
        seen = Seen(
            runs=[run["run"] for run in model.runs], unacknowledged=model.unacknowledged,
            page_lines=page_lines(size[1]), last_top=last_top(model, *size),
        )  # fmt: skip
        navigation, action = model.navigation.press(key, seen)
        opens = (navigation.page, navigation.filter) != (model.navigation.page, model.navigation.filter)
        self._model = replace(model, navigation=navigation)
        if action:
            self._act(action)
        if opens or action:
            self._look()

    def _act(self, action: Action) -> None:
        if action == "quit":
            self.stop()
        elif action == "redraw":
            self._screen.forget()
        elif isinstance(action, Acknowledge):
            navigation = self._model.navigation
            try:
                self._acknowledgements.acknowledge(action.incident, action.by, action.note, now())
                text = f"Acknowledged by {action.by}."
            except OSError as exc:
                text = f"Not acknowledged: it cannot be written: {exc.strerror}."
            self._model = replace(self._model, navigation=replace(navigation, message=text))

    def _wake(self) -> None:
        with suppress(BlockingIOError):  # it is awake
            os.write(self._signal, b"x")

    def _suspend(self) -> None:
        """Give the terminal back, and stop until somebody continues us."""
        self._is_suspended = False
        self._leave()
        os.kill(os.getpid(), signal.SIGSTOP)
        self._enter()

    def _ask_to_suspend(self) -> None:
        self._is_suspended = True

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Each signal wakes the loop, which draws at a new size or gives the terminal back; handlers only set flags.

        Python itself writes into our pipe: a handler runs too late for a signal that comes just before the loop waits.
        """
        woken_before = signal.set_wakeup_fd(self._signal, warn_on_full_buffer=False)
        before = {
            signal.SIGWINCH: signal.signal(signal.SIGWINCH, lambda _number, _frame: None),
            signal.SIGTSTP: signal.signal(signal.SIGTSTP, lambda _number, _frame: self._ask_to_suspend()),
        }
        try:
            yield
        finally:
            signal.set_wakeup_fd(woken_before)
            for number, handler in before.items():
                signal.signal(number, handler)


class _Questions:
    """Asks for the details of the open run in a thread, again and again."""

    def __init__(self, details: TableDetails) -> None:
        self._details = details
        self._pool = ThreadPoolExecutor(1, "details of a run")
        self._run: str | None = None
        self._asked_at = -REFRESH_S
        self._asked: Future[dict[str, Any]] | None = None
        self._answer: dict[str, Any] = {}

    def answer(self, run: Row | None) -> Mapping[str, Any]:
        """The last answer about *run*, if there is one."""
        name = run["run"] if run else None
        if name != self._run:
            self._run, self._answer, self._asked, self._asked_at = name, {}, None, -REFRESH_S
        if run is None:
            return {}
        if self._asked and self._asked.done():
            self._answer, self._asked = self._asked.result(), None
        if self._asked is None and time.monotonic() - self._asked_at >= REFRESH_S:
            self._asked_at = time.monotonic()
            self._asked = self._pool.submit(self._ask, run["run"], [*run["missing"], *incomplete_stfs(run)])
        return self._answer

    def _ask(self, name: str, sequences: Sequence[int]) -> dict[str, Any]:
        try:
            return asyncio.run(self._details.run(name, sequences))
        except (MonitorUnavailable, AccessDenied) as exc:
            return {"problem": str(exc)}

    def close(self) -> None:
        """Ask no more."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _pipe() -> tuple[int, int]:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    return reading, writing


def _own_name() -> str:
    """The user's name, as a proposal for who acknowledges."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # no such user
        return ""
