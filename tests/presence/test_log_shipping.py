"""Log shipping: in which rows log lines reach the monitor, and which lines are dropped."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import requests
from loguru import logger

from fastmon_daemon.base.logs import SecretRedactor
from fastmon_daemon.monitor import AgentClient, OutcomeUnknown, RequestRejected
from fastmon_daemon.presence.log_shipping import BUFFER, MAX_ATTEMPTS, LogShipper
from fastmon_daemon.service import ProcessContext
from fastmon_daemon.service.clients import agent_client
from fastmon_daemon.settings import Settings
from fastmon_daemon.testbed.monitor import MonitorThread
from tests.builders import NO_RELOAD, HandClock
from tests.presence.builders import TOKEN, agent_client_for


@pytest.fixture(scope="module")
def monitor() -> Iterator[MonitorThread]:
    with MonitorThread(TOKEN) as running:
        yield running


def shipper_for(monitor: MonitorThread, name: str) -> LogShipper:
    return LogShipper(agent_client_for(monitor), name, SecretRedactor("hush-hush").redact, lambda: None, lambda: 0.0)


def rows_of(monitor: MonitorThread, name: str) -> list[dict[str, Any]]:
    rows = requests.get(f"{monitor.url}/api/logs/", timeout=20).json()
    return [row for row in rows if row["instance_name"] == name]


@pytest.fixture
def shipper(monitor: MonitorThread) -> Iterator[LogShipper]:
    shipper = shipper_for(monitor, "shared")
    shipper.begin("INFO")
    yield shipper
    shipper.on_stop()


def test_rows_of_one_level_share_a_row_and_a_warning_has_its_own(monitor: MonitorThread, shipper: LogShipper) -> None:
    for n in range(5):
        logger.debug("not at this level")
        logger.info("step {}", n)
    logger.success("between two levels of the monitor, hush-hush")
    logger.warning("mind\0 the gap")
    try:
        raise ValueError("hush-hush")
    except ValueError:
        logger.exception("it broke")
    shipper.tick()
    error, warning, info = rows_of(monitor, "shared")
    assert (error["level"], warning["level"], info["level"]) == (40, 30, 20)
    assert info["message"].splitlines()[:5] == [f"step {n}" for n in range(5)]
    assert len(info["extra_data"]["lines"]) == 6
    assert warning["message"] == "mind\ufffd the gap"
    assert "ValueError: ***" in error["message"]
    assert "hush-hush" not in json.dumps(rows_of(monitor, "shared"))


def test_the_oldest_lines_are_dropped_and_counted_when_the_buffer_is_full(monitor: MonitorThread) -> None:
    shipper = shipper_for(monitor, "dropping")
    shipper.begin("INFO")
    for n in range(BUFFER + 7):
        logger.info("line {}", n)
    shipper.on_stop()
    logger.info("after the end")
    rows = rows_of(monitor, "dropping")
    assert rows[0]["extra_data"]["lines_dropped_before"] == 7
    assert rows[0]["message"].splitlines()[:2] == ["(7 log lines before this one were dropped)", "line 7"]
    assert rows[-1]["message"].splitlines()[-1] == f"line {BUFFER + 6}"


class PickyClient(AgentClient):
    """A client of a monitor that never accepts rows with the word "poison", and rejects those with "invalid"."""

    def log(self, row: Mapping[str, Any]) -> None:
        if "invalid" in row["message"]:
            raise RequestRejected("POST logs/: 400", "{}")
        if "poison" in row["message"]:
            raise OutcomeUnknown("POST logs/: 500")
        super().log(row)


class Picky:
    """A log shipper to a monitor that never accepts rows with the word "poison"."""

    def __init__(self, monitor: MonitorThread, name: str) -> None:
        self.monitor, self.name, self.time = monitor, name, HandClock()
        client = agent_client_for(monitor, PickyClient)
        self.shipper = LogShipper(client, name, str, lambda: None, self.time.clock().monotonic)
        self.shipper.begin("INFO")

    def log(self, *lines: str, ticks: int = 3) -> None:
        """Log *lines*, then let minutes pass."""
        for line in lines:
            logger.info(line)
        for _ in range(ticks):
            self.shipper.tick()
            self.time.pass_(seconds=61)

    def lines(self) -> list[str]:
        """The lines that the monitor accepted."""
        return [line for row in rows_of(self.monitor, self.name) for line in row["message"].splitlines()]


@pytest.fixture
def picky(monitor: MonitorThread, request: pytest.FixtureRequest) -> Iterator[Picky]:
    picky = Picky(monitor, request.node.name[:90])
    yield picky
    monitor.faults()
    picky.shipper.on_stop()


def test_a_row_that_is_never_accepted_delays_no_other_and_is_dropped_and_counted_once(picky: Picky) -> None:
    picky.log("poison")
    for n in range(2 * MAX_ATTEMPTS):
        picky.log(f"line {n}")
        assert f"line {n}" in picky.lines()
    (dropped,) = [line for line in picky.lines() if "dropped, the monitor" in line]
    assert "1 dropped, the monitor accepts others but never these: POST logs/: 500" in dropped
    assert picky.lines().count("(1 log lines before this one were dropped)") == 1
    assert len([line for line in picky.lines() if "not sent to the monitor" in line]) == 1


def test_a_row_that_is_rejected_is_dropped_at_once(picky: Picky) -> None:
    picky.log("invalid")
    picky.log("line")
    assert "line" in picky.lines()
    assert picky.lines().count("(1 log lines before this one were dropped)") == 1


def test_two_rows_that_are_never_accepted_are_both_dropped(picky: Picky) -> None:
    logger.warning("poison")
    picky.log("poison of another level")
    for n in range(2 * MAX_ATTEMPTS):
        picky.log(f"line {n}")
    assert len([line for line in picky.lines() if "dropped, the monitor" in line]) == 2


def test_no_row_is_dropped_while_the_monitor_accepts_none(picky: Picky) -> None:
    picky.log("before")
    picky.monitor.faults(error_rate=1, endpoints=["/api/logs/"])
    for n in range(4 * MAX_ATTEMPTS):
        picky.log(f"kept {n}", ticks=2)
    picky.monitor.faults()
    picky.log("after")
    kept = sorted(line for line in picky.lines() if line.startswith("kept"))
    assert kept == sorted(f"kept {n}" for n in range(4 * MAX_ATTEMPTS))
    assert not any("dropped" in line for line in picky.lines())


def test_another_url_for_log_lines_gets_no_token(monitor: MonitorThread) -> None:
    with MonitorThread("another token") as other:  # it would reject our token, but accepts logs without one
        settings = Settings(monitor_url=monitor.url, logs_url=other.url, monitor_token=TOKEN, namespace="ns")
        context = ProcessContext(
            settings=settings, values={}, database=Path("none"), database_rule="", secrets=SecretRedactor(), **NO_RELOAD
        )
        shipper = LogShipper(agent_client(context, logs_url=other.url), "elsewhere", str, lambda: None, lambda: 0.0)
        shipper.begin("INFO")
        logger.info("hello")
        shipper.on_stop()
        assert [row["message"] for row in rows_of(other, "elsewhere")] == ["hello"]
        assert rows_of(monitor, "elsewhere") == []
