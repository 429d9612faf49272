"""What a reload changes, in memory and in the database."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from fastmon_daemon.base import failpoints
from fastmon_daemon.base.errors import StorageUnavailable
from fastmon_daemon.engine.selection_fractions import SelectionFractions
from fastmon_daemon.service import live_settings
from fastmon_daemon.service.live_settings import LIVE, LiveSettings
from fastmon_daemon.settings import Settings
from tests.builders import FakeTestbed, logged, turn_until


@pytest.fixture(autouse=True)
def no_hook() -> Iterator[None]:
    yield
    failpoints.set_hook(None)


def full(name: str) -> None:
    if name == "before_commit":
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_reload_that_cannot_be_stored_changes_nothing(tmp_path: Path) -> None:
    testbed, told, used = FakeTestbed(tmp_path), list[str](), list[Any]()
    outbox = testbed.outbox()
    engine = testbed.engine(outbox)
    fractions = SelectionFractions(0.1)
    changes = dict.fromkeys(LIVE, lambda _, value: lambda: used.append(value)) | {
        "selection_fraction": fractions.change
    }
    old, new = Settings(namespace="ns"), Settings(namespace="ns", selection_fraction=1.0, keep_days=3.0)
    live = LiveSettings(old, lambda: new, changes, told.append)

    def state() -> tuple[Any, ...]:
        return fractions.current, used, live.current.selection_fraction, live.current.keep_days, len(told)

    with ThreadPoolExecutor() as operator:
        failpoints.set_hook(full)
        failed = operator.submit(live.reload, engine.inbox, "shifter")
        turn_until(engine, failed.done)
        with pytest.raises(StorageUnavailable):
            failed.result()
        assert state() == (0.1, [], 0.1, old.keep_days, 0)
        failpoints.set_hook(None)
        testbed.time.pass_(seconds=2)
        done = operator.submit(live.reload, engine.inbox, "shifter")
        turn_until(engine, done.done)
    assert len(done.result().changed) == 2
    assert state() == (1.0, [3.0], 1.0, 3.0, 1)
    assert SelectionFractions.load(outbox, 1.0).current == 1.0
    assert [act.count for act in outbox.acts.since("")] == [2]


def test_a_change_that_takes_effect_after_the_timeout_is_logged_at_any_level_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_settings, "TIMEOUT_S", 0.0)
    testbed, told = FakeTestbed(tmp_path), list[str]()
    engine = testbed.engine(testbed.outbox())
    old, new = Settings(namespace="ns"), Settings(namespace="ns", keep_days=3.0, log_level="ERROR", drain_s=1.0)
    live = LiveSettings(old, lambda: new, dict.fromkeys(LIVE, lambda _, value: lambda: None), told.append)
    with logged("ERROR") as lines:
        with pytest.raises(TimeoutError):
            live.reload(engine.inbox, "shifter")
        assert (live.current.keep_days, told, lines) == (old.keep_days, [], [])
        turn_until(engine, lambda: live.current.keep_days == 3.0)
    change = "FASTMON_KEEP_DAYS: 7 -> 3, SWF_LOG_LEVEL: INFO -> ERROR"
    assert told == [f"settings changed (shifter): {change}"]
    assert lines == [
        f"settings read again (shifter): {change}\n", "changed settings that need a restart: FASTMON_DRAIN_S\n",
    ]  # fmt: skip
