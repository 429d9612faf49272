"""The log on stderr: secrets, and what others sent."""

from __future__ import annotations

import json
import logging
import os
import socket
import struct
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from loguru import logger

from fastmon_daemon.base import logs
from fastmon_daemon.base.log_throttle import MAX_LINES, MAX_PROBLEMS, WINDOW_S, LogThrottle, is_written
from tests.builders import HandClock
from tests.processes import live_testbed, name, wait_until

SENT = "502 \x1b[2J\x00gone\r\n<3>2026-11-21T20:00:00.000Z CRITICAL forged\u2028\u202e"


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    before = sys.excepthook, threading.excepthook
    yield
    logger.remove()
    logger.configure(patcher=lambda _: None)
    logging.captureWarnings(capture=False)
    sys.excepthook, threading.excepthook = before


@pytest.mark.field("20")
@pytest.mark.parametrize("form", ["text", "journal"])
def test_what_others_sent_is_escaped_once_and_is_one_line(
    capsys: pytest.CaptureFixture[str], form: logs.LogFormat
) -> None:
    logs.configure("INFO", logs.SecretRedactor(), form)
    logger.warning("the monitor said {}: {}", "no", SENT)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(
        r"the monitor said no: 502 \x1b[2J\x00gone\r\n<3>2026-11-21T20:00:00.000Z CRITICAL forged\u2028\u202e"
    )


@pytest.mark.field("20")
@pytest.mark.parametrize("form", ["text", "journal"])
def test_no_line_of_a_traceback_can_look_like_a_log_line(
    capsys: pytest.CaptureFixture[str], form: logs.LogFormat
) -> None:
    logs.configure("INFO", logs.SecretRedactor("hush-hush"), form)
    try:
        raise ValueError(f"hush-hush {SENT}")
    except ValueError as exc:
        logger.opt(exception=exc).error("unexpected\nerror")
    out = capsys.readouterr().err
    first, *more = out.split("\n")[:-1]
    assert first.endswith(r"ERROR    unexpected\nerror")
    prefix = "<3>    " if form == "journal" else "    "
    assert more[0] == f"{prefix}Traceback (most recent call last):"
    assert all(line.startswith(prefix) for line in more)
    assert "hush" not in out
    assert "\x1b" not in out


def test_a_secret_with_invisible_characters_is_redacted(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("INFO", logs.SecretRedactor("pass\u00a0word"))
    logger.info("login with {}", "pass\u00a0word")
    assert capsys.readouterr().err.endswith("login with ***\n")


def test_a_message_of_a_library_is_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("INFO", logs.SecretRedactor())
    logging.getLogger("some.library").error("bad \x1b[31m %s", "{braces}")
    assert capsys.readouterr().err.endswith("some.library: bad \\x1b[31m {braces}\n")


def test_a_level_of_a_library_of_its_own_is_logged(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("INFO", logs.SecretRedactor())
    logging.getLogger("some.library").log(45, "between ERROR and CRITICAL")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("deprecated since 1.2", UserWarning, stacklevel=1)
    first, second, *_ = capsys.readouterr().err.splitlines()
    assert first.endswith("some.library: between ERROR and CRITICAL")
    assert "py.warnings: " in second
    assert "deprecated since 1.2" in second


@pytest.mark.parametrize("form", ["text", "json", "journal"])
def test_secrets_are_redacted_whoever_logs_them(capsys: pytest.CaptureFixture[str], form: logs.LogFormat) -> None:
    secret = 'hush "hush" \\ \u00fc'
    logs.configure("INFO", logs.SecretRedactor(secret), form)
    logs.log_uncaught()

    def fail() -> None:
        password = secret
        raise ValueError(password)

    logger.bind(error=secret, stf=secret).error("login as {}", secret)
    logging.getLogger("some.library").error("login as %s", secret)
    try:
        fail()
    except ValueError as exc:
        logger.opt(exception=exc).error("unexpected")
        logging.getLogger("some.library").exception("unexpected")
        sys.excepthook(type(exc), exc, exc.__traceback__)
    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
    said = capsys.readouterr().err
    assert "hush" not in said
    assert said.count("ValueError: ***") == 4, "each has its traceback"
    assert said.count("***") >= 6


def entry(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    (line,) = capsys.readouterr().err.splitlines()
    return dict(json.loads(line))


def test_json_has_the_documented_keys(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("INFO", logs.SecretRedactor(), "json")
    logger.info("plain {}", "line")
    assert entry(capsys).keys() == {"time", "level", "message"}
    logger.bind(stf="a.stf", run="1", source="notified", dest="completed", seconds=1.5, link=None).info("a.stf: done")
    found = entry(capsys)
    assert found.pop("time").endswith("Z")
    assert found == {
        "level": "INFO", "message": "a.stf: done", "stf": "a.stf", "run": "1", "from": "notified", "to": "completed",
        "seconds": 1.5,
    }  # fmt: skip
    logger.bind(link="monitor", error=SENT).error("link down: {}", SENT)
    found = entry(capsys)
    assert (found["error"], found["link"]) == (SENT, "monitor")
    try:
        raise ValueError("why")
    except ValueError as exc:
        logger.opt(exception=exc).error("unexpected")
    assert entry(capsys)["traceback"].endswith("ValueError: why")


def fields_of(datagram: bytes) -> dict[str, str]:
    """Read the native protocol of the journal: name, newline, length, value, newline."""
    found = {}
    while datagram:
        name, _, rest = datagram.partition(b"\n")
        (length,) = struct.unpack_from("<Q", rest)
        found[name.decode()], datagram = rest[8 : 8 + length].decode(), rest[8 + length + 1 :]
    return found


def test_the_journal_gets_fields(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    path = str(tmp_path / "journal")
    monkeypatch.setattr(logs, "JOURNAL", path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind(path)
        logs.configure("INFO", logs.SecretRedactor("hush-hush"), "journal")
        logger.bind(stf="a.stf", source="received", dest="failed", error="hush-hush\nPRIORITY=0").error("a.stf: lost")
        assert fields_of(journal.recv(65536)) == {
            "MESSAGE": "a.stf: lost", "PRIORITY": "3", "SYSLOG_IDENTIFIER": "fastmon-daemon",
            "STF": "a.stf", "FROM": "received", "TO": "failed",
            "ERROR": r"***\nPRIORITY=0",
        }  # fmt: skip
        logger.info("x" * 10_000_000)  # longer than a datagram may be
        assert capsys.readouterr().err.startswith("<6>INFO     xxx")
    logger.info("the journal is gone")
    assert capsys.readouterr().err == "<6>INFO     the journal is gone\n"


def test_stderr_is_the_journal_only_if_it_is_that_file() -> None:
    status = os.fstat(2)
    mine = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
    assert logs.choose_format("auto", mine) == "journal"
    assert logs.choose_format("auto", {"JOURNAL_STREAM": "1:2"}) == "text", "a shell below the unit redirected it"
    assert [logs.choose_format(wanted, mine) for wanted in ("text", "json")] == ["text", "json"]
    assert logs.choose_format("auto", {}) == "text"


class Throttled:
    """A log that is throttled by a clock that the test moves."""

    def __init__(self) -> None:
        self.time = HandClock()
        self.timers: list[tuple[float, Callable[[], None]]] = []
        self.lines: list[str] = []
        throttle = LogThrottle(self.time.clock().monotonic, self.start)
        self.end_all = throttle.end_all
        logger.remove()
        logger.configure(patcher=throttle.mark)
        logger.add(lambda line: self.lines.append(line.rstrip()), format="{level} {message}", filter=is_written)

    def start(self, seconds: float, function: Callable[[], None]) -> None:
        self.timers.append((self.time.seconds + seconds, function))

    def pass_(self, seconds: float) -> None:
        self.time.pass_(seconds=seconds)
        due = [timer for timer in self.timers if timer[0] <= self.time.seconds]
        self.timers = [timer for timer in self.timers if timer not in due]
        for _, function in due:
            function()


def test_a_backlog_of_100_000_writes_a_few_hundred_lines_and_their_sum() -> None:
    log = Throttled()
    for number in range(100_000):
        logger.info("{}.stf: notified -> completed", number)
    assert len(log.lines) == MAX_LINES
    log.pass_(WINDOW_S)
    assert len(log.lines) == MAX_LINES + 1
    assert log.lines[-1].startswith(f"INFO {100_000 - MAX_LINES} more lines like this one since ")
    assert log.lines[-1].endswith(": 99999.stf: notified -> completed")


def test_a_repeated_error_is_summed_up_with_its_level() -> None:
    log = Throttled()
    for _ in range(412):
        logger.error("monitor unreachable")
    log.pass_(WINDOW_S)
    assert log.lines[:MAX_PROBLEMS] == ["ERROR monitor unreachable"] * MAX_PROBLEMS
    (sum_line,) = log.lines[MAX_PROBLEMS:]
    assert sum_line.startswith("ERROR monitor unreachable (412 times since ")


def test_other_places_and_later_windows_are_not_throttled() -> None:
    log = Throttled()
    for minute in range(5):
        for number in range(MAX_PROBLEMS):
            logger.warning("{} in minute {}", number, minute)
        logger.warning("another place")
        log.pass_(WINDOW_S)
    assert len(log.lines) == 5 * (MAX_PROBLEMS + 1)
    assert log.timers == [], "no timer runs without need"
    for _ in range(1000):
        logger.debug("who wants these, wants all")
    assert len(log.lines) == 5 * (MAX_PROBLEMS + 1) + 1000


def test_the_end_of_the_process_writes_the_sums() -> None:
    log = Throttled()
    for _ in range(MAX_PROBLEMS + 2):
        logger.error("monitor unreachable")
    log.end_all()
    assert log.lines[-1].startswith(f"ERROR monitor unreachable ({MAX_PROBLEMS + 2} times since ")
    log.end_all()
    log.pass_(WINDOW_S)
    assert len(log.lines) == MAX_PROBLEMS + 1


def test_a_daemon_logs_json_that_programs_read(tmp_path: Path) -> None:
    with live_testbed(tmp_path) as testbed:
        testbed.register(1)
        testbed.daemon(FASTMON_LOG_FORMAT="json")
        testbed.announce(1)
        testbed.wait_for(completed=1)
        testbed.monitor.stop()
        testbed.announce(2)
        wait_until(lambda: "link to the monitor is down" in testbed.log(), "it says so")
        entries = [json.loads(line) for line in testbed.log().splitlines()]
    assert all({"time", "level", "message"} <= each.keys() for each in entries)
    assert all(each.keys() <= {"time", "level", "message", "traceback", *logs.FIELDS.values()} for each in entries)
    (done,) = [each for each in entries if each.get("to") == "completed"]
    assert (done["stf"], done["run"], done["from"]) == (name(1), "100014", "notified")
    assert done["seconds"] > 0
    (run,) = [each for each in entries if each.get("to") == "running"]
    assert (run["run"], run["from"]) == ("100014", "imminent")
    down = next(each for each in entries if each.get("link") == "monitor" and "error" in each)
    assert down["error"] in down["message"]
