"""The account can fail: each thing that must not be is found in a world that has it, and in a good world nothing is."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from fastmon_daemon.engine.sampling import draw_sample, seed_of
from fastmon_daemon.outbox import HistoryRow, Origin, Stf, Tf
from fastmon_daemon.outbox.models import SamplePlan
from tests.faults.account import Account, Life, account_of

AT = "2026-11-21T20:00:00.000+00:00"
WAY = (
    (None, None, "received"),
    ("sample_tfs", "received", "sampled"),
    ("register_tfs", "sampled", "tf_registered"),
    ("notify_clients", "tf_registered", "notified"),
    ("close_stf", "notified", "completed"),
)


@dataclass
class Good:
    """A world in which two STFs of two TF files each went their whole way; a test spoils it."""

    sent: list[str] = field(default_factory=lambda: ["a.stf", "b.stf"])
    lives: list[Life] = field(default_factory=lambda: [completed("a.stf"), completed("b.stf")])
    rows: list[dict[str, Any]] = field(default_factory=list)
    heard: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for stf, _ in self.lives:
            for tf in stf.tfs:
                facts = {
                    "tf_filename": tf.filename, "tf_first": tf.first, "tf_last": tf.last, "tf_count": tf.count,
                    "file_size_bytes": tf.size_bytes, "tf_file_id": tf.monitor_id,
                }  # fmt: skip
                self.rows.append({**facts, "stf_file": stf.filename})
                self.heard.append(json.dumps({**facts, "stf_filename": stf.filename, "event_id": f"e{tf.filename}"}))

    def account(self) -> Account:
        return account_of(self.sent, self.lives, self.rows, self.heard)


def completed(name: str) -> Life:
    plan = SamplePlan(seed=seed_of("ns", "1", name), tf_count=40, tf_files=2, size_fraction=0.25, sequence_start=1)
    tfs = tuple(
        Tf(sequence=block.sequence, filename=block.filename, first=block.first, last=block.last, count=block.count,
           size_bytes=50, monitor_id=f"id-{name}-{block.sequence}", registered_at=AT, announced_at=AT)
        for block in draw_sample(plan, name)
    )  # fmt: skip
    stf = Stf(
        id=1, namespace="ns", run="1", run_id=1, filename=name, sequence=1, size_bytes=None, checksum=None,
        tf_count=None, execution_id=None, body="{}", origin=Origin.MESSAGE, included=False, state="completed", life=1,
        since=AT, received_at=AT, born_at=AT, due_at=None, attempts=0, spent_s=0.0, last_error=None, remark=None,
        plan=plan, tfs=tfs,
    )  # fmt: skip
    return stf, [HistoryRow(life=1, trigger=t, source=s, dest=d, at=AT, note=None) for t, s, d in WAY]


def spoil_life(world: Good, change: Callable[[list[HistoryRow]], object]) -> None:
    change(world.lives[0][1])  # type: ignore[arg-type]


def test_in_a_good_world_nothing_is_found() -> None:
    account = Good().account()
    assert account.problems == []
    assert (account.sent, account.completed, account.announced, account.announced_twice) == (2, 2, 4, 0)


def fewer_tfs(world: Good) -> None:
    stf, history = world.lives[0]
    world.lives[0] = replace(stf, tfs=stf.tfs[:1]), history


def unfinished(world: Good) -> None:
    world.lives[1] = (replace(world.lives[1][0], state="sampled"), world.lives[1][1][:2])


LOST: dict[str, Callable[[Good], object]] = {
    "not in the outbox": lambda world: world.sent.append("c.stf"),
    "is sampled": unfinished,
    "not in the monitor": lambda world: world.rows.pop(),
    "never announced": lambda world: world.heard.pop(),
}
TWICE: dict[str, Callable[[Good], object]] = {
    "2 rows of that name": lambda world: world.rows.append(world.rows[0]),
    "but not in the outbox": lambda world: world.rows.append({**world.rows[0], "tf_filename": "again", "tf_first": 90}),
    "the monitor has [99, ": lambda world: world.rows[0].update(tf_first=99),
    "the same TFs in both": lambda world: world.rows[0].update(tf_last=39),
    ", 51, ": lambda world: world.rows[0].update(file_size_bytes=51),
    "a.stf: not the sample that": fewer_tfs,
}
ILLEGAL: dict[str, Callable[[list[HistoryRow]], object]] = {
    "leaves sampled, but was received": lambda history: history.pop(1),
    "begins with received -> sampled": lambda history: history.pop(0),
    "its history ends in notified": lambda history: history.pop(),
    "twice in life 1": lambda history: history.insert(2, history[1]),
    "no arrow skip leads": lambda history: history.__setitem__(2, replace(history[2], trigger="skip")),
    "no arrow register_tfs leads": lambda history: history.__setitem__(2, replace(history[2], dest="completed")),
    "life 2 after life 1": lambda history: history.__setitem__(4, replace(history[4], life=2)),
}
STRANGE: dict[str, Callable[[Good], object]] = {
    "nobody sent it": lambda world: world.sent.pop(),
    "announced as [99,": lambda world: retell(world, tf_first=99),
    "announced, but not in the outbox": lambda world: retell(world, tf_filename="other"),
    "not one to one": lambda world: retell(world, event_id="another"),
}


def retell(world: Good, **changes: Any) -> None:
    world.heard.append(json.dumps({**json.loads(world.heard[0]), **changes}))


@pytest.mark.parametrize("reason", LOST)
def test_what_is_lost_is_found(reason: str) -> None:
    world = Good()
    LOST[reason](world)
    assert any(reason in found for found in world.account().lost), world.account()


@pytest.mark.parametrize("reason", TWICE)
def test_what_is_registered_twice_or_otherwise_is_found(reason: str) -> None:
    world = Good()
    TWICE[reason](world)
    assert any(reason in found for found in world.account().registered_twice), world.account()


@pytest.mark.parametrize("reason", ILLEGAL)
def test_an_illegal_history_is_found(reason: str) -> None:
    world = Good()
    spoil_life(world, ILLEGAL[reason])
    assert any(reason in found for found in world.account().illegal), world.account()


@pytest.mark.parametrize("reason", STRANGE)
def test_what_is_strange_is_found(reason: str) -> None:
    world = Good()
    STRANGE[reason](world)
    assert any(reason in found for found in world.account().strange), world.account()


def test_a_second_announcement_is_counted() -> None:
    world = Good()
    retell(world, timestamp="later")
    assert (world.account().announced, world.account().announced_twice) == (5, 1)
    assert world.account().problems == []


def test_an_stf_that_was_to_fail_and_did_not_is_lost() -> None:
    world = Good()
    found = account_of(world.sent, world.lives, world.rows, world.heard, failing={"a.stf"})
    assert "a.stf: is completed, and not failed" in found.lost


def test_what_an_stf_that_was_to_fail_has_left_behind_is_found() -> None:
    world = Good()
    world.lives[0] = (replace(world.lives[0][0], state="failed"), world.lives[0][1])
    found = account_of(world.sent, world.lives, world.rows, world.heard, failing={"a.stf"})
    assert [reason.partition(": ")[2] for reason in found.lost] == [
        "registered or announced, though its STF failed"
    ] * 2
