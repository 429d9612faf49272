"""Fixtures of the tests of stage reports."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fastmon_daemon.testbed.monitor import MonitorThread
from tests.presence.builders import TOKEN
from tests.presence.stage_bench import Bench, bench_with


@pytest.fixture
def monitor() -> Iterator[MonitorThread]:
    with MonitorThread(TOKEN) as running:
        yield running


@pytest.fixture
def bench(tmp_path: Path, monitor: MonitorThread) -> Bench:
    return bench_with(tmp_path, monitor)
