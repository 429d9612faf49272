"""Outages of the links: their total duration never falls, and their table stays small."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from fastmon_daemon.base.clock import format_timestamp
from fastmon_daemon.outbox import Outbox, open_outbox
from fastmon_daemon.outbox.outages import MAX_ENDED
from tests.builders import START, query


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    opened = open_outbox(tmp_path / "outbox.db")
    yield opened
    opened.close()


@pytest.mark.field("13")
def test_the_outages_of_a_flapping_link_are_pruned_and_their_duration_is_kept(outbox: Outbox) -> None:
    extra = 50
    with outbox.transaction():
        outbox.outages.link_lost("monitor", "timeout", START, blocked=False)
        for number in range(MAX_ENDED + extra):
            at = START + timedelta(seconds=6 * number)
            outbox.outages.link_lost("broker", "refused", at, blocked=False)
            outbox.outages.link_back("broker", at + timedelta(seconds=3))
        now = at + timedelta(seconds=6)
        outbox.outages.link_lost("broker", "refused", now, blocked=False)
    assert query(outbox.path, "select link, count(*) from outage group by link") == [
        ("broker", MAX_ENDED + 1), ("monitor", 1)
    ]  # fmt: skip
    seconds = outbox.outages.seconds(now + timedelta(seconds=1))
    assert seconds["broker"] == pytest.approx(3 * (MAX_ENDED + extra) + 1, abs=0.1)
    assert seconds["monitor"] == pytest.approx(6 * (MAX_ENDED + extra) + 1, abs=0.1)


@pytest.mark.field("13")
def test_a_clock_that_is_set_back_shortens_no_other_outage(outbox: Outbox) -> None:
    earlier = START - timedelta(hours=1)
    with outbox.transaction():
        outbox.outages.link_lost("broker", "refused", START, blocked=False)
        outbox.outages.link_back("broker", START + timedelta(seconds=30))
        outbox.outages.link_lost("broker", "refused", START + timedelta(minutes=1), blocked=False)
    assert outbox.outages.seconds(earlier)["broker"] == pytest.approx(30, abs=0.01)
    with outbox.transaction():
        outbox.outages.link_back("broker", earlier)
    assert outbox.outages.seconds(earlier)["broker"] == pytest.approx(30, abs=0.01)
    assert outbox.outages.latest(limit=1)[0].ended_at == format_timestamp(START + timedelta(minutes=1))
