"""The account of a row: what was sent, set against the outbox, the monitor and the topic, row by row.

Owns the one definition of "lost", "registered twice", "announced twice" and "illegal history" that all rows use. It
must not know brokers, processes or faults.
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

Life = tuple[Stf, Sequence[HistoryRow]]
Row = Mapping[str, Any]
"""A row of the monitor's table of TF files."""
_STORED = ("tf_first", "tf_last", "tf_count", "file_size_bytes", "tf_file_id")


@dataclass(frozen=True, slots=True)
class Account:
    """Counts, and for each thing that must not be the sentences that name it."""

    sent: int
    completed: int
    failed: int
    announced: int
    announced_twice: int
    lost: list[str]
    registered_twice: list[str]
    illegal: list[str]
    strange: list[str]
    """STFs that nobody sent, announcements of what is not so."""

    @property
    def problems(self) -> list[str]:
        return [*self.lost, *self.registered_twice, *self.illegal, *self.strange]


def read_lives(database: Path) -> list[Life]:
    """Every STF of the outbox with its history."""
    reports = open_for_reading(database)
    try:
        return [(stf, reports.history(stf.id)) for stf in reports.list_stfs(limit=-1)]
    finally:
        reports.close()


def account_of(
    sent: Collection[str],
    lives: Sequence[Life],
    rows: Sequence[Row],
    heard: Iterable[str],
    failing: Collection[str] = (),
) -> Account:
    """*sent*: names of the STFs; *rows*: all TF files of the monitor; *heard*: bodies of the distinct announcements.

    *failing* are those of the sent that must end in `failed` and leave nothing behind.
    """
    known = {stf.filename: stf for stf, _ in lives}
    told = [json.loads(body) for body in heard]
    distinct = {message["tf_file_id"] for message in told}
    by_name = {row["tf_filename"]: row for row in rows}
    states = Counter(stf.state for stf, _ in lives)
    return Account(
        sent=len(sent),
        completed=states["completed"],
        failed=states["failed"],
        announced=len(told),
        announced_twice=len(told) - len(distinct),
        lost=[reason for name in sorted(sent) for reason in _lost(name, known, by_name, distinct, failing)],
        registered_twice=[*_registered_twice(known, rows), *_drawn_otherwise(known)],
        illegal=[reason for stf, history in lives for reason in illegal_history(stf, history)],
        strange=[*_never_sent(sent, known), *_told_wrongly(told, known)],
    )


def _lost(
    name: str, known: Mapping[str, Stf], rows: Mapping[str, Row], announced: Collection[str], failing: Collection[str]
) -> Iterator[str]:
    stf = known.get(name)
    if stf is None:
        yield f"{name}: not in the outbox"
    elif name in failing:
        if stf.state != "failed":
            yield f"{name}: is {stf.state}, and not failed"
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


def _registered_twice(known: Mapping[str, Stf], rows: Sequence[Row]) -> Iterator[str]:
    """Each row of the monitor must be one TF of the outbox, equal in name, STF, range, size and id; once."""
    for name, count in Counter(row["tf_filename"] for row in rows).items():
        if count > 1:
            yield f"{name}: {count} rows of that name"
    ranges = defaultdict(list)
    for row in rows:
        ranges[row["stf_file"]].append((row["tf_first"], row["tf_last"], row["tf_filename"]))
        stf = known.get(row["stf_file"])
        tf = next((tf for tf in stf.tfs if tf.filename == row["tf_filename"]), None) if stf else None
        if tf is None:
            yield f"{row['tf_filename']}: in the monitor, but not in the outbox"
        elif tuple(row[name] for name in _STORED) != _as_stored(tf):
            stands = [row[name] for name in _STORED]
            yield f"{row['tf_filename']}: the monitor has {stands}, the outbox {_as_stored(tf)}"
    for blocks in ranges.values():
        blocks.sort()
        for (_, last, one), (first, _, other) in pairwise(blocks):
            if first <= last:
                yield f"{one} and {other}: the same TFs in both"


def _drawn_otherwise(known: Mapping[str, Stf]) -> Iterator[str]:
    """The sample is that which any process draws of that STF, all of it; no row has another writer before us."""
    for stf in known.values():
        if stf.plan is None:
            continue
        due = draw_sample(replace(stf.plan, seed=seed_of(stf.namespace, stf.run, stf.filename)), stf.filename)
        if [(tf.filename, tf.first, tf.last) for tf in stf.tfs] != [(tf.filename, tf.first, tf.last) for tf in due]:
            yield f"{stf.filename}: not the sample that is drawn of it"


def _as_stored(tf: Tf) -> tuple[Any, ...]:
    return tf.first, tf.last, tf.count, tf.size_bytes, tf.monitor_id


def illegal_history(stf: Stf, history: Sequence[HistoryRow]) -> Iterator[str]:
    """Walk a history along the arrows of the chart, from the first state to the one in which the STF is."""
    chart = load_statechart("stf")
    state, life, seen = None, 1, set()
    for row in history:
        problem = _misstep(chart, row, state, life)
        if problem:
            yield f"{stf.filename}: {problem}"
        if (row.life, row.source, row.trigger) in seen:
            yield f"{stf.filename}: {row.source} -> {row.dest} twice in life {row.life}"
        seen.add((row.life, row.source, row.trigger))
        state, life = row.dest, row.life
    if (state, life) != (stf.state, stf.life):
        yield f"{stf.filename}: its history ends in {state} (life {life}), but it is {stf.state} (life {stf.life})"


def _misstep(chart: StateMachine, row: HistoryRow, state: str | None, life: int) -> str | None:
    if state is None:
        fits = row.trigger is None and row.source is None and row.dest == chart.initial
        return None if fits else f"begins with {row.source} -> {row.dest}"
    if row.source != state:
        return f"leaves {row.source}, but was {state}"
    if not chart.may(state, str(row.trigger)) or chart.after(state, str(row.trigger)) != row.dest:
        return f"no arrow {row.trigger} leads from {state} to {row.dest}"
    reborn = row.trigger in {"retry", "include"}
    return None if row.life == life + reborn else f"life {row.life} after life {life} by {row.trigger}"


def _never_sent(sent: Collection[str], known: Mapping[str, Stf]) -> Iterator[str]:
    for name in sorted(set(known) - set(sent)):
        yield f"{name}: in the outbox, but nobody sent it"


def _told_wrongly(told: Sequence[Row], known: Mapping[str, Stf]) -> Iterator[str]:
    """Each announcement must say what the outbox has of that TF; one TF has one event id, and no other TF has it."""
    events = {(message["event_id"], message["tf_file_id"]) for message in told}
    if len(events) != len({event for event, _ in events}) or len(events) != len({tf for _, tf in events}):
        yield "event ids and TF files are not one to one"
    for message in told:
        stf = known.get(message["stf_filename"])
        tf = next((tf for tf in stf.tfs if tf.filename == message["tf_filename"]), None) if stf else None
        if tf is None:
            yield f"{message['tf_filename']}: announced, but not in the outbox"
        elif tuple(message[name] for name in _STORED) != _as_stored(tf):
            yield f"{message['tf_filename']}: announced as {[message[name] for name in _STORED]}, is {_as_stored(tf)}"
