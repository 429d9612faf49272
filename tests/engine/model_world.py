"""The parts of the model-based test: links that fail in every known way, and the invariants."""

from __future__ import annotations

import itertools
import json
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

from fastmon_daemon.base import failpoints
from fastmon_daemon.base.clock import format_timestamp
from fastmon_daemon.base.errors import FastmonError, LinkBlocked, LinkDown, ParentNotRegistered, TransientError
from fastmon_daemon.monitor import StfFile, StfListing, TfFile
from fastmon_daemon.outbox import Outbox
from fastmon_daemon.statechart import load_statechart
from tests.builders import START, FakeMonitor, NewOf, listing_of

CHART = load_statechart("stf")
NEXT_LIFE = {"retry", "include"}
LINK_OF = {"sampled": "monitor", "tf_registered": "announcements"}
"""The link without which an STF in that state cannot go on."""
BY_BUDGET = ("always_failing", "stf_not_registered")
LEAST_FAILURES = 16
"""The least failures that spend an STF's budget of 900 s: no pause is longer than 60 s."""


def stf_name(number: int) -> str:
    return f"swf.100014.{number:06d}.stf"


def stf_ready(number: int, size: int | None = None) -> str:
    """The data agent's message for an STF."""
    return json.dumps({
        "msg_type": "stf_ready", "namespace": "ns", "run_id": "100014", "filename": stf_name(number),
        "sequence": number, "size_bytes": size or 1000 * number,
    })  # fmt: skip


def run_message(kind: str, **fields: object) -> str:
    return json.dumps({"msg_type": kind, "namespace": "ns", "run_id": "100014", **fields})


class FaultyMonitor(FakeMonitor):
    """A monitor whose next answers may fail like those of `MonitorClient.register_tf`."""

    def __init__(self) -> None:
        super().__init__()
        self.known: dict[str, StfFile] = {}
        """STFs that the data agent has registered."""
        self.blamed: Counter[str] = Counter()
        """STF -> calls that failed by its own fault, not the link's."""
        self.blocked = False
        self.faults: list[str] = []

    def probe(self) -> None:
        super().probe()
        if self.blocked:
            raise LinkBlocked("401: set SWF_API_TOKEN")

    def registers(self, number: int) -> None:
        """The data agent registers an STF."""
        self.known[stf_name(number)] = StfFile(
            stf_filename=stf_name(number), file_size_bytes=1000 * number, checksum=None, tf_count=None,
            created_at=format_timestamp(START), body="{}", run_key=77,
        )  # fmt: skip

    def stf_files(self, _run_number: int, *, at_least: int, new_of: NewOf, most: int) -> StfListing:
        self.probe()
        return listing_of(self.known.values(), new_of, most)

    def stf_count(self, _run_number: int) -> tuple[int, int | None]:
        self.probe()
        return len(self.known), 77 if self.known else None

    def run_numbers(self) -> list[int]:
        return [100014]

    def run_ended_at(self, run_key: int) -> str | None:
        self.probe()
        return None

    def tf_files(self, stf_filename: str) -> list[TfFile]:
        self.probe()
        return [tf for tf in self.rows.values() if tf.stf_filename == stf_filename]

    def stf_file(self, stf_filename: str, run_number: int) -> StfFile | None:
        self.probe()
        self.blamed[stf_filename] += stf_filename not in self.known
        return self.known.get(stf_filename)

    def register_tf(self, tf: TfFile) -> tuple[TfFile, str | None]:
        try:
            return self._register_tf(tf)
        except FastmonError as exc:
            self.blamed[tf.stf_filename] += not isinstance(exc, LinkDown)
            raise

    def _register_tf(self, tf: TfFile) -> tuple[TfFile, str | None]:
        self.probe()
        fault = self.faults.pop(0) if self.faults else ""
        if fault == "500":
            raise TransientError("500, and no such row")
        if fault == "busy":
            raise TransientError("503", retry_after_s=30)
        if fault == "lost before":
            raise LinkDown("timeout, and the name could not be looked up")
        if tf.stf_filename not in self.known:
            raise ParentNotRegistered("Object with stf_filename does not exist.")
        answer = super().register_tf(tf)
        if fault == "lost after":  # it is registered, but the answer was lost
            raise LinkDown("timeout, and the name could not be looked up")
        return answer

    def register_by_another(self, stf: str, sequence: int) -> str | None:
        """Another agent registers a TF; return its name, or None if it exists already."""
        name = f"{stf.removesuffix('.stf')}_tf_{sequence:03d}.tf"
        if name in self.rows:
            return None
        self.rows[name] = TfFile(
            tf_filename=name, stf_filename=stf, tf_first=3, tf_last=9, tf_count=7, file_size_bytes=None,
            metadata=None, tf_file_id=f"id-of-{name}",
        )  # fmt: skip
        return name


@dataclass
class FaultyBroker:
    """A broker that records what reached it, even if the RECEIPT was lost."""

    up: bool = True
    announced: Counter[str] = field(default_factory=Counter)
    """By TF file name."""
    event_ids: dict[str, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    report: Callable[[bool], None] = lambda _: None
    """Reports to the engine that the link is up or down."""
    lost_receipts: int = 0
    summaries: int = 0

    def announce(self, body: str, event_id: str) -> None:
        name = json.loads(body)["tf_filename"]
        assert self.event_ids.setdefault(name, event_id) == event_id
        fault = self.faults.pop(0) if self.faults and self.up else ""
        if fault == "stale event":  # the link is back before this call reports that it was down
            self.report(True)
            raise LinkDown("the link was lost")
        if fault == "cut before":
            self.go_down()
        if not self.up:
            raise LinkDown("the link is down")
        self.announced[name] += 1
        if fault == "receipt lost":
            self.lost_receipts += 1
            self.go_down()
            raise LinkDown("the link was lost before the RECEIPT came")

    def announce_summary(self, _body: str, _event_id: str) -> None:
        self.probe()
        self.summaries += 1

    def probe(self) -> None:
        if not self.up:
            raise LinkDown("the link is down")

    def go_down(self) -> None:
        self.up = False
        self.report(False)

    def come_up(self) -> None:
        if not self.up:
            self.up = True
            self.report(True)


class PowerCut(BaseException):
    """The process ends at this instruction."""


def power_cut(nth: int, run: Callable[[], object]) -> str | None:
    """Run until the *nth* failpoint, and cut the power there; its name, or None if there were fewer."""
    passed = itertools.count(1)

    def hook(name: str) -> None:
        if next(passed) == nth:
            failpoints.set_hook(None)
            raise PowerCut(name)

    failpoints.set_hook(hook)
    try:
        run()
    except PowerCut as cut:
        return str(cut)
    finally:
        failpoints.set_hook(None)
    return None


@dataclass
class Snapshot:
    """All rows of the outbox at one moment, by the STF's file name."""

    run: dict[str, Any] | None
    stfs: dict[str, dict[str, Any]]
    tfs: dict[str, list[dict[str, Any]]]
    history: dict[str, list[dict[str, Any]]]
    rejected: set[str]
    """Bodies of the rejected messages."""

    @classmethod
    def of(cls, outbox: Outbox) -> Snapshot:
        with closing(sqlite3.connect(outbox.path)) as connection:
            connection.row_factory = sqlite3.Row
            return cls._read(lambda query: map(dict, connection.execute(query)))

    @classmethod
    def _read(cls, rows: Callable[[str], Iterator[dict[str, Any]]]) -> Snapshot:
        stfs = {row["filename"]: row for row in rows("select * from stf")}
        names = {row["id"]: name for name, row in stfs.items()}
        tfs: dict[str, list[dict[str, Any]]] = {name: [] for name in stfs}
        history: dict[str, list[dict[str, Any]]] = {name: [] for name in stfs}
        for row in rows("select * from tf order by stf, sequence"):
            tfs[names[row["stf"]]].append(row)
        for row in rows("select * from history order by id"):
            history[names[row["stf"]]].append(row)
        rejected = {row["body"] for row in rows("select body from rejected")}
        run = next(iter(rows("select * from run")), None)
        return cls(run, stfs, tfs, history, rejected)

    def run_is_settled(self, count: int) -> bool:
        """Whether the run is complete and its summary sent; True also if STFs are unknown or need an operator."""
        if len(self.stfs) < count or any(row["state"] == "failed" for row in self.stfs.values()):
            return True
        return self.run is not None and self.run["state"] == "complete" and bool(self.run["summary_at"])


def check_history(rows: list[dict[str, Any]], state: str) -> None:
    """The history follows the chart, has each transition once per life, and ends in the STF's state."""
    assert (rows[0]["trigger"], rows[0]["dest"], rows[0]["life"]) == (None, CHART.initial, 1)
    for before, row in itertools.pairwise(rows):
        assert row["source"] == before["dest"]
        assert CHART.after(row["source"], row["trigger"]) == row["dest"]
        assert row["life"] == before["life"] + (row["trigger"] in NEXT_LIFE)
    assert rows[-1]["dest"] == state
    assert len({(row["life"], row["trigger"]) for row in rows}) == len(rows)


def check_failures(rows: list[dict[str, Any]], blamed: int) -> None:
    """No outage fails an STF: calls that failed by its own fault precede each failure."""
    notes = [row["note"] for row in rows if row["trigger"] == "fail"]
    least = sum(LEAST_FAILURES if note.startswith(BY_BUDGET) else 1 for note in notes)
    assert least <= blamed, f"failed ({notes}), but only {blamed} calls failed by its own fault"


def check_registered(tf: dict[str, Any], monitor: FaultyMonitor, others: set[str]) -> None:
    """The monitor's row equals ours, and is our sample unless another agent was first."""
    there = monitor.rows.get(tf["filename"])
    if tf["registered_at"]:
        assert there is not None, f"{tf['filename']} is not registered at the monitor"
        assert there == replace(
            there, tf_first=tf["first"], tf_last=tf["last"], tf_count=tf["count"],
            file_size_bytes=tf["size_bytes"], tf_file_id=tf["monitor_id"],
        )  # fmt: skip
        assert bool(tf["adopted"]) == (tf["filename"] in others)
    elif there is not None and tf["filename"] not in others:
        assert (there.tf_first, there.tf_last) == (tf["first"], tf["last"]), "registered with another range"


def check_sample(drawn: list[dict[str, Any]], tfs: list[dict[str, Any]]) -> None:
    """The sample never changes, except for the ranges of TFs that another agent registered first."""
    assert [tf["filename"] for tf in tfs] == [tf["filename"] for tf in drawn]
    for before, tf in zip(drawn, tfs, strict=True):
        assert tf["adopted"] or (before["first"], before["last"]) == (tf["first"], tf["last"])


def check_end(snapshot: Snapshot, monitor: FaultyMonitor, tf_files: int, selected: Callable[[int, str], bool]) -> None:
    """Every STF is known and finalized, and no work remains."""
    assert set(monitor.known) <= set(snapshot.stfs)
    for name, row in snapshot.stfs.items():
        assert CHART.is_finalized(row["state"]), (name, row["state"], row["due_at"], row["last_error"])
        if row["state"] == "completed":
            assert selected(row["sequence"], name) or row["included"]
            assert len(snapshot.tfs[name]) == tf_files or row["preexisting"]
            assert all(tf["registered_at"] for tf in snapshot.tfs[name])
            assert all(tf["announced_at"] or row["preexisting"] for tf in snapshot.tfs[name])
        elif row["state"] == "skipped":
            assert not selected(row["sequence"], name)
        else:
            assert row["state"] in {"failed", "discarded"}
            assert row["last_error"] or row["state"] == "discarded"
