"""Log lines on their way to the monitor: in which rows they arrive, and which never do."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import requests
from loguru import logger

from fastmon_daemon.base.logs import SecretRedactor
from fastmon_daemon.monitor import AgentClient, OutcomeUnknown, RestClient
from fastmon_daemon.presence.log_shipping import BUFFER, MAX_ATTEMPTS, LogShipper
from fastmon_daemon.service import ProcessContext
from fastmon_daemon.service.agent_factory import log_client
from fastmon_daemon.settings import Settings
from fastmon_daemon.testbed.monitor import MonitorThread
from tests.builders import HandClock

TOKEN = "f" * 40


@pytest.fixture(scope="module")
def monitor() -> Iterator[MonitorThread]:
    with MonitorThread(TOKEN) as running:
        yield running


def exchange_with(monitor: MonitorThread) -> RestClient:
    return RestClient(monitor.url, lambda: TOKEN, connections=1, timeout_s=(5, 5))


def shipping_to(monitor: MonitorThread, name: str) -> LogShipper:
    return LogShipper(
        AgentClient(exchange_with(monitor)), name, SecretRedactor("hush-hush").redact, lambda: None, lambda: 0.0
    )


def lines_of(monitor: MonitorThread, name: str) -> list[dict[str, Any]]:
    rows = requests.get(f"{monitor.url}/api/logs/", timeout=20).json()
    return [row for row in rows if row["instance_name"] == name]


@pytest.fixture
def shipped(monitor: MonitorThread) -> Iterator[LogShipper]:
    shipping = shipping_to(monitor, "shipped")
    shipping.begin("INFO")
    yield shipping
    shipping.on_stop()


def test_lines_of_one_level_share_a_row_and_a_warning_has_its_own(monitor: MonitorThread, shipped: LogShipper) -> None:
    for n in range(5):
        logger.debug("not at this level")
        logger.info("step {}", n)
    logger.success("between two levels of the monitor, hush-hush")
    logger.warning("mind\0 the gap")
    try:
        raise ValueError("hush-hush")
    except ValueError:
        logger.exception("it broke")
    shipped.tick()
    error, warning, info = lines_of(monitor, "shipped")
    assert (error["level"], warning["level"], info["level"]) == (40, 30, 20)
    assert info["message"].splitlines()[:5] == [f"step {n}" for n in range(5)]
    assert len(info["extra_data"]["lines"]) == 6
    assert warning["message"] == "mind\ufffd the gap"
    assert "ValueError: ***" in error["message"]
    assert "hush-hush" not in json.dumps(lines_of(monitor, "shipped"))


def test_where_the_monitor_is_slow_the_oldest_lines_are_dropped_and_the_count_is_told(monitor: MonitorThread) -> None:
    shipping = shipping_to(monitor, "dropping")
    shipping.begin("INFO")
    for n in range(BUFFER + 7):
        logger.info("line {}", n)
    shipping.on_stop()
    logger.info("after the end")
    rows = lines_of(monitor, "dropping")
    assert rows[0]["extra_data"]["lines_dropped_before"] == 7
    assert rows[0]["message"].splitlines()[:2] == ["(7 log lines before this one were dropped)", "line 7"]
    assert rows[-1]["message"].splitlines()[-1] == f"line {BUFFER + 6}"


class PickyDesk(AgentClient):
    """The monitor's desk, where rows with a certain word are never taken."""

    def log(self, row: Mapping[str, Any]) -> None:
        if "poison" in row["message"]:
            raise OutcomeUnknown("POST logs/: 500")
        super().log(row)


class Picky:
    """Log lines on their way to a monitor that never takes those with a certain word."""

    def __init__(self, monitor: MonitorThread, name: str) -> None:
        self.monitor, self.name, self.time = monitor, name, HandClock()
        agent_client = PickyDesk(exchange_with(monitor))
        self.shipping = LogShipper(agent_client, name, str, lambda: None, self.time.clock().monotonic)
        self.shipping.begin("INFO")

    def pass_(self, *lines: str, turns: int = 3) -> None:
        """Some time passes after these lines."""
        for line in lines:
            logger.info(line)
        for _ in range(turns):
            self.shipping.tick()
            self.time.pass_(seconds=61)

    def lines(self) -> list[str]:
        """What the monitor has."""
        return [line for row in lines_of(self.monitor, self.name) for line in row["message"].splitlines()]


@pytest.fixture
def picky(monitor: MonitorThread, request: pytest.FixtureRequest) -> Iterator[Picky]:
    picky = Picky(monitor, request.node.name[:90])
    yield picky
    monitor.faults()
    picky.shipping.on_stop()


def test_a_row_that_is_never_taken_holds_up_no_other_and_is_given_up_and_counted_once(picky: Picky) -> None:
    picky.pass_("poison")
    for n in range(2 * MAX_ATTEMPTS):
        picky.pass_(f"line {n}")
        assert f"line {n}" in picky.lines()
    (given_up,) = [line for line in picky.lines() if "given up" in line]
    assert "1 are given up, the monitor takes others but never these: POST logs/: 500" in given_up
    assert picky.lines().count("(1 log lines before this one were dropped)") == 1
    assert len([line for line in picky.lines() if "not told to the monitor" in line]) == 1


def test_two_rows_that_are_never_taken_do_not_keep_each_other(picky: Picky) -> None:
    logger.warning("poison")
    picky.pass_("poison of another level")
    for n in range(2 * MAX_ATTEMPTS):
        picky.pass_(f"line {n}")
    assert len([line for line in picky.lines() if "given up" in line]) == 2


def test_while_the_monitor_takes_no_row_at_all_none_is_given_up(picky: Picky) -> None:
    picky.pass_("before")
    picky.monitor.faults(error_rate=1, endpoints=["/api/logs/"])
    for n in range(4 * MAX_ATTEMPTS):
        picky.pass_(f"kept {n}", turns=2)
    picky.monitor.faults()
    picky.pass_("after")
    kept = sorted(line for line in picky.lines() if line.startswith("kept"))
    assert kept == sorted(f"kept {n}" for n in range(4 * MAX_ATTEMPTS))
    assert not any("given up" in line or "dropped" in line for line in picky.lines())


def test_another_url_for_log_lines_gets_no_token(monitor: MonitorThread) -> None:
    with MonitorThread("another token") as other:  # it would refuse ours, but takes logs from anybody
        settings = Settings(monitor_url=monitor.url, logs_url=other.url, monitor_token=TOKEN, namespace="ns")
        world = ProcessContext(
            settings=settings, values={}, database=Path("none"), database_rule="", secrets=SecretRedactor()
        )
        shipping = LogShipper(log_client(world), "elsewhere", str, lambda: None, lambda: 0.0)
        shipping.begin("INFO")
        logger.info("hello")
        shipping.on_stop()
        assert [row["message"] for row in lines_of(other, "elsewhere")] == ["hello"]
        assert lines_of(monitor, "elsewhere") == []
