"""The account of a row: compares the STFs sent with the outbox, the monitor and the announcements.

It defines "lost", "registered twice", "announced twice" and "illegal history" for all rows.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from fastmon_daemon.engine.sampling import draw_sample, seed_of
from fastmon_daemon.outbox import HistoryRow, Stf, Tf, open_for_reading
from fastmon_daemon.statechart import StateMachine, load_statechart

StfAndHistory = tuple[Stf, Sequence[HistoryRow]]
Row = Mapping[str, Any]
"""A row of the monitor's table of TF files."""
_COLUMNS = ("tf_first", "tf_last", "tf_count", "file_size_bytes", "tf_file_id")


@dataclass(frozen=True, slots=True)
class Account:
    """Counts, and the problems of each kind, as sentences."""

    sent: int
    completed: int
    failed: int
    announced: int
    announced_twice: int
    lost: list[str]
    registered_twice: list[str]
    illegal: list[str]
    unexpected: list[str]
    """STFs that were not sent, and wrong announcements."""

    @property
    def problems(self) -> list[str]:
        return [*self.lost, *self.registered_twice, *self.illegal, *self.unexpected]


def read_stfs(database: Path) -> list[StfAndHistory]:
    """Every STF of the outbox with its history."""
    reports = open_for_reading(database)
    try:
        return [(stf, reports.history(stf.id)) for stf in reports.find()]
    finally:
        reports.close()


def account_of(
    sent: Collection[str],
    stfs: Sequence[StfAndHistory],
    rows: Sequence[Row],
    announcements: Iterable[str],
    failing: Collection[str] = (),
) -> Account:
    """Compare the names *sent* with the outbox (*stfs*), all TF files of the monitor (*rows*), and announcements.

    The STFs in *failing* must end in `failed`, without TF files in the monitor or announcements.
    """
    stored = {stf.filename: stf for stf, _ in stfs}
    messages = [json.loads(body) for body in announcements]
    distinct = {message["tf_file_id"] for message in messages}
    by_name = {row["tf_filename"]: row for row in rows}
    states = Counter(stf.state for stf, _ in stfs)
    return Account(
        sent=len(sent),
        completed=states["completed"],
        failed=states["failed"],
        announced=len(messages),
        announced_twice=len(messages) - len(distinct),
        lost=[reason for name in sorted(sent) for reason in _lost(name, stored, by_name, distinct, failing)],
        registered_twice=[*_registered_twice(stored, rows), *_wrong_samples(stored)],
        illegal=[reason for stf, history in stfs for reason in illegal_history(stf, history)],
        unexpected=[*_not_sent(sent, stored), *_wrong_announcements(messages, stored)],
    )


def _lost(
    name: str, stored: Mapping[str, Stf], rows: Mapping[str, Row], announced: Collection[str], failing: Collection[str]
) -> Iterator[str]:
    stf = stored.get(name)
    if stf is None:
        yield f"{name}: not in the outbox"
    elif name in failing:
        if stf.state != "failed":
            yield f"{name}: is {stf.state}, not failed"
        for tf in stf.tfs:
            if tf.filename in rows or tf.monitor_id in announced:
                yield f"{tf.filename}: registered or announced, though its STF failed"
    elif stf.state != "completed" or not stf.tfs or stf.plan is None:
        yield f"{name}: is {stf.state} with {len(stf.tfs)} TF files"
    else:
        for tf in stf.tfs:
            if tf.filename not in rows:
                yield f"{tf.filename}: not in the monitor"
            elif tf.monitor_id not in announced:
                yield f"{tf.filename}: never announced"


def _registered_twice(stored: Mapping[str, Stf], rows: Sequence[Row]) -> Iterator[str]:
    """Each row of the monitor must equal one TF file of the outbox in name, STF, range, size and id."""
    for name, count in Counter(row["tf_filename"] for row in rows).items():
        if count > 1:
            yield f"{name}: {count} rows with this name"
    ranges = defaultdict(list)
    for row in rows:
        ranges[row["stf_file"]].append((row["tf_first"], row["tf_last"], row["tf_filename"]))
        stf = stored.get(row["stf_file"])
        tf = next((tf for tf in stf.tfs if tf.filename == row["tf_filename"]), None) if stf else None
        if tf is None:
            yield f"{row['tf_filename']}: in the monitor, but not in the outbox"
        elif tuple(row[name] for name in _COLUMNS) != _as_stored(tf):
            values = [row[name] for name in _COLUMNS]
            yield f"{row['tf_filename']}: the monitor has {values}, the outbox {_as_stored(tf)}"
    for blocks in ranges.values():
        blocks.sort()
        for (_, last, one), (first, _, other) in pairwise(blocks):
            if first <= last:
                yield f"{one} and {other}: the same TFs in both"


def _wrong_samples(stored: Mapping[str, Stf]) -> Iterator[str]:
    """The TF files of each STF must be the sample that any process draws for it."""
    for stf in stored.values():
        if stf.plan is None:
            continue
        expected = draw_sample(replace(stf.plan, seed=seed_of(stf.namespace, stf.run, stf.filename)), stf.filename)
        if [(tf.filename, tf.first, tf.last) for tf in stf.tfs] != [
            (tf.filename, tf.first, tf.last) for tf in expected
        ]:
            yield f"{stf.filename}: not the sample drawn for it"


def _as_stored(tf: Tf) -> tuple[Any, ...]:
    return tf.first, tf.last, tf.count, tf.size_bytes, tf.monitor_id


def illegal_history(stf: Stf, history: Sequence[HistoryRow]) -> Iterator[str]:
    """Follow a history along the transitions of the statechart, from the initial state to the STF's state."""
    chart = load_statechart("stf")
    state, life, seen = None, 1, set()
    for row in history:
        problem = _illegal_transition(chart, row, state, life)
        if problem:
            yield f"{stf.filename}: {problem}"
        if (row.life, row.source, row.trigger) in seen:
            yield f"{stf.filename}: {row.source} -> {row.dest} twice in life {row.life}"
        seen.add((row.life, row.source, row.trigger))
        state, life = row.dest, row.life
    if (state, life) != (stf.state, stf.life):
        yield f"{stf.filename}: its history ends in {state} (life {life}), but it is {stf.state} (life {stf.life})"


def _illegal_transition(chart: StateMachine, row: HistoryRow, state: str | None, life: int) -> str | None:
    if state is None:
        valid = row.trigger is None and row.source is None and row.dest == chart.initial
        return None if valid else f"begins with {row.source} -> {row.dest}"
    if row.source != state:
        return f"leaves {row.source}, but was {state}"
    if not chart.may(state, str(row.trigger)) or chart.after(state, str(row.trigger)) != row.dest:
        return f"no transition {row.trigger} leads from {state} to {row.dest}"
    new_life = row.trigger in {"retry", "include"}
    return None if row.life == life + new_life else f"life {row.life} after life {life} by {row.trigger}"


def _not_sent(sent: Collection[str], stored: Mapping[str, Stf]) -> Iterator[str]:
    for name in sorted(set(stored) - set(sent)):
        yield f"{name}: in the outbox, but never sent"


def _wrong_announcements(messages: Sequence[Row], stored: Mapping[str, Stf]) -> Iterator[str]:
    """Each announcement must equal the outbox's TF file; each TF file has one event id of its own."""
    events = {(message["event_id"], message["tf_file_id"]) for message in messages}
    if len(events) != len({event for event, _ in events}) or len(events) != len({tf for _, tf in events}):
        yield "event ids and TF files are not one to one"
    for message in messages:
        stf = stored.get(message["stf_filename"])
        tf = next((tf for tf in stf.tfs if tf.filename == message["tf_filename"]), None) if stf else None
        if tf is None:
            yield f"{message['tf_filename']}: announced, but not in the outbox"
        elif tuple(message[name] for name in _COLUMNS) != _as_stored(tf):
            yield f"{message['tf_filename']}: announced as {[message[name] for name in _COLUMNS]}, is {_as_stored(tf)}"
