"""The account finds each kind of problem, and none in correct records."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from fastmon_daemon.engine.sampling import draw_sample, seed_of
from fastmon_daemon.outbox import HistoryRow, Origin, Stf, Tf
from fastmon_daemon.outbox.models import SamplePlan
from tests.faults.account import Account, StfAndHistory, account_of

AT = "2026-11-21T20:00:00.000+00:00"
TRANSITIONS = (
    (None, None, "received"),
    ("sample_tfs", "received", "sampled"),
    ("register_tfs", "sampled", "tf_registered"),
    ("notify_clients", "tf_registered", "notified"),
    ("close_stf", "notified", "completed"),
)


@dataclass
class Records:
    """Correct records of two completed STFs with two TF files each; a test corrupts them."""

    sent: list[str] = field(default_factory=lambda: ["a.stf", "b.stf"])
    stfs: list[StfAndHistory] = field(default_factory=lambda: [completed("a.stf"), completed("b.stf")])
    rows: list[dict[str, Any]] = field(default_factory=list)
    announcements: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for stf, _ in self.stfs:
            for tf in stf.tfs:
                facts = {
                    "tf_filename": tf.filename, "tf_first": tf.first, "tf_last": tf.last, "tf_count": tf.count,
                    "file_size_bytes": tf.size_bytes, "tf_file_id": tf.monitor_id,
                }  # fmt: skip
                self.rows.append({**facts, "stf_file": stf.filename})
                self.announcements.append(
                    json.dumps({**facts, "stf_filename": stf.filename, "event_id": f"e{tf.filename}"})
                )

    def account(self) -> Account:
        return account_of(self.sent, self.stfs, self.rows, self.announcements)


def completed(name: str) -> StfAndHistory:
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
    return stf, [HistoryRow(life=1, trigger=t, source=s, dest=d, at=AT, note=None) for t, s, d in TRANSITIONS]


def corrupt_history(records: Records, change: Callable[[list[HistoryRow]], object]) -> None:
    change(records.stfs[0][1])  # type: ignore[arg-type]


def test_correct_records_have_no_problem() -> None:
    account = Records().account()
    assert account.problems == []
    assert (account.sent, account.completed, account.announced, account.announced_twice) == (2, 2, 4, 0)


def fewer_tfs(records: Records) -> None:
    stf, history = records.stfs[0]
    records.stfs[0] = replace(stf, tfs=stf.tfs[:1]), history


def unfinished(records: Records) -> None:
    records.stfs[1] = (replace(records.stfs[1][0], state="sampled"), records.stfs[1][1][:2])


LOST: dict[str, Callable[[Records], object]] = {
    "not in the outbox": lambda records: records.sent.append("c.stf"),
    "is sampled": unfinished,
    "not in the monitor": lambda records: records.rows.pop(),
    "never announced": lambda records: records.announcements.pop(),
}
TWICE: dict[str, Callable[[Records], object]] = {
    "2 rows with this name": lambda records: records.rows.append(records.rows[0]),
    "but not in the outbox": lambda records: records.rows.append(
        {**records.rows[0], "tf_filename": "again", "tf_first": 90}
    ),
    "the monitor has [99, ": lambda records: records.rows[0].update(tf_first=99),
    "the same TFs in both": lambda records: records.rows[0].update(tf_last=39),
    ", 51, ": lambda records: records.rows[0].update(file_size_bytes=51),
    "a.stf: not the sample": fewer_tfs,
}
ILLEGAL: dict[str, Callable[[list[HistoryRow]], object]] = {
    "leaves sampled, but was received": lambda history: history.pop(1),
    "begins with received -> sampled": lambda history: history.pop(0),
    "its history ends in notified": lambda history: history.pop(),
    "twice in life 1": lambda history: history.insert(2, history[1]),
    "no transition skip leads": lambda history: history.__setitem__(2, replace(history[2], trigger="skip")),
    "no transition register_tfs leads": lambda history: history.__setitem__(2, replace(history[2], dest="completed")),
    "life 2 after life 1": lambda history: history.__setitem__(4, replace(history[4], life=2)),
}
UNEXPECTED: dict[str, Callable[[Records], object]] = {
    "never sent": lambda records: records.sent.pop(),
    "announced as [99,": lambda records: announce_again(records, tf_first=99),
    "announced, but not in the outbox": lambda records: announce_again(records, tf_filename="other"),
    "not one to one": lambda records: announce_again(records, event_id="another"),
}


def announce_again(records: Records, **changes: Any) -> None:
    records.announcements.append(json.dumps({**json.loads(records.announcements[0]), **changes}))


@pytest.mark.parametrize("reason", LOST)
def test_a_lost_stf_is_found(reason: str) -> None:
    records = Records()
    LOST[reason](records)
    assert any(reason in found for found in records.account().lost), records.account()


@pytest.mark.parametrize("reason", TWICE)
def test_a_double_or_wrong_registration_is_found(reason: str) -> None:
    records = Records()
    TWICE[reason](records)
    assert any(reason in found for found in records.account().registered_twice), records.account()


@pytest.mark.parametrize("reason", ILLEGAL)
def test_an_illegal_history_is_found(reason: str) -> None:
    records = Records()
    corrupt_history(records, ILLEGAL[reason])
    assert any(reason in found for found in records.account().illegal), records.account()


@pytest.mark.parametrize("reason", UNEXPECTED)
def test_an_unexpected_stf_or_announcement_is_found(reason: str) -> None:
    records = Records()
    UNEXPECTED[reason](records)
    assert any(reason in found for found in records.account().unexpected), records.account()


def test_a_second_announcement_is_counted() -> None:
    records = Records()
    announce_again(records, timestamp="later")
    assert (records.account().announced, records.account().announced_twice) == (5, 1)
    assert records.account().problems == []


def test_an_stf_that_should_fail_but_completes_is_lost() -> None:
    records = Records()
    found = account_of(records.sent, records.stfs, records.rows, records.announcements, failing={"a.stf"})
    assert "a.stf: is completed, not failed" in found.lost


def test_tf_files_of_an_stf_that_should_fail_are_found() -> None:
    records = Records()
    records.stfs[0] = (replace(records.stfs[0][0], state="failed"), records.stfs[0][1])
    found = account_of(records.sent, records.stfs, records.rows, records.announcements, failing={"a.stf"})
    assert [reason.partition(": ")[2] for reason in found.lost] == [
        "registered or announced, though its STF failed"
    ] * 2
