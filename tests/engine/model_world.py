"""The world of the model-based test: edges that fail in every way we know of, and what must be true at every moment."""

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
from fastmon_daemon.monitor import StfFile, TfFile
from fastmon_daemon.outbox import Outbox
from fastmon_daemon.statechart import load_statechart
from tests.builders import START, FakeMonitor

CHART = load_statechart("stf")
NEXT_LIFE = {"retry", "include"}
LINK_OF = {"sampled": "monitor", "tf_registered": "broker"}
"""The link without which an STF in that state cannot go on."""
BY_BUDGET = ("always_failing", "stf_not_registered")
LEAST_FAILURES = 16
"""So often must an STF fail by its own fault before its budget of 900 s is spent: no pause is longer than 60 s."""


def stf_name(number: int) -> str:
    return f"swf.100014.{number:06d}.stf"


def stf_ready(number: int, size: int | None = None) -> str:
    """A message of the data agent."""
    return json.dumps({
        "msg_type": "stf_ready", "namespace": "ns", "run_id": "100014", "filename": stf_name(number),
        "sequence": number, "size_bytes": size or 1000 * number,
    })  # fmt: skip


def run_message(kind: str, **fields: object) -> str:
    return json.dumps({"msg_type": kind, "namespace": "ns", "run_id": "100014", **fields})


class FaultyMonitor(FakeMonitor):
    """A monitor whose next answers may go wrong as the real edge tells it: see `MonitorClient.register_tf`."""

    def __init__(self) -> None:
        super().__init__()
        self.known: dict[str, StfFile] = {}
        """STFs that the data agent has registered."""
        self.blamed: Counter[str] = Counter()
        """How often a call failed by the fault of its STF, and not of the link."""
        self.blocked = False
        self.mishaps: list[str] = []

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

    def stf_files(self, run_number: int, at_least: int = 0) -> list[StfFile]:
        self.probe()
        return list(self.known.values())

    def run_numbers(self) -> list[int]:
        return [100014]

    def run_ended_at(self, run_key: int) -> str | None:
        self.probe()
        return None

    def tf_files(self, stf_filename: str) -> list[TfFile]:
        self.probe()
        return [tf for tf in self.rows.values() if tf.stf_filename == stf_filename]

    def register_tf(self, tf: TfFile) -> tuple[TfFile, str | None]:
        try:
            return self._register_tf(tf)
        except FastmonError as exc:
            self.blamed[tf.stf_filename] += not isinstance(exc, LinkDown)
            raise

    def _register_tf(self, tf: TfFile) -> tuple[TfFile, str | None]:
        self.probe()
        mishap = self.mishaps.pop(0) if self.mishaps else ""
        if mishap == "500":
            raise TransientError("500, and no such row stands")
        if mishap == "busy":
            raise TransientError("503", retry_after_s=30)
        if mishap == "lost before":
            raise LinkDown("timeout, and the name could not be looked up")
        if tf.stf_filename not in self.known:
            raise ParentNotRegistered("Object with stf_filename does not exist.")
        answer = super().register_tf(tf)
        if mishap == "lost after":  # it stands, but nobody could tell us
            raise LinkDown("timeout, and the name could not be looked up")
        return answer

    def taken_by_another(self, stf: str, sequence: int) -> str | None:
        """Another writer registers a TF of that name; its name, or None where it stands already."""
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
    """A broker that remembers what reached it, also where its RECEIPT was lost."""

    up: bool = True
    announced: Counter[str] = field(default_factory=Counter)
    """By the name of the TF."""
    event_ids: dict[str, str] = field(default_factory=dict)
    mishaps: list[str] = field(default_factory=list)
    tell: Callable[[bool], None] = lambda _: None
    """Tells the engine that the link went or came."""
    lost_receipts: int = 0
    summaries: int = 0

    def announce(self, body: str, event_id: str) -> None:
        name = json.loads(body)["tf_filename"]
        assert self.event_ids.setdefault(name, event_id) == event_id
        mishap = self.mishaps.pop(0) if self.mishaps and self.up else ""
        if mishap == "stale news":  # the link is back before this call has told that it was down
            self.tell(True)
            raise LinkDown("the link was lost")
        if mishap == "cut before":
            self.goes()
        if not self.up:
            raise LinkDown("the link is down")
        self.announced[name] += 1
        if mishap == "receipt lost":
            self.lost_receipts += 1
            self.goes()
            raise LinkDown("the link was lost before the RECEIPT came")

    def tell_summary(self, _body: str, _event_id: str) -> None:
        self.probe()
        self.summaries += 1

    def probe(self) -> None:
        if not self.up:
            raise LinkDown("the link is down")

    def goes(self) -> None:
        self.up = False
        self.tell(False)

    def comes(self) -> None:
        if not self.up:
            self.up = True
            self.tell(True)


class PowerCut(BaseException):
    """The process is gone, at this very instruction."""


def is_cut(nth: int, life: Callable[[], object]) -> bool:
    """Live until the power is cut at the *nth* seam; False if there were fewer."""
    met = itertools.count(1)

    def fuse(name: str) -> None:
        if next(met) == nth:
            failpoints.set_hook(None)
            raise PowerCut(name)

    failpoints.set_hook(fuse)
    try:
        life()
    except PowerCut:
        return True
    finally:
        failpoints.set_hook(None)
    return False


@dataclass
class Seen:
    """All rows of the outbox at one moment, by the STF's filename."""

    run: dict[str, Any] | None
    stfs: dict[str, dict[str, Any]]
    tfs: dict[str, list[dict[str, Any]]]
    history: dict[str, list[dict[str, Any]]]
    refused: set[str]
    """Bodies of the messages that were kept aside."""

    @classmethod
    def of(cls, outbox: Outbox) -> Seen:
        with closing(sqlite3.connect(outbox.path)) as connection:
            connection.row_factory = sqlite3.Row
            return cls._read(lambda query: map(dict, connection.execute(query)))

    @classmethod
    def _read(cls, rows: Callable[[str], Iterator[dict[str, Any]]]) -> Seen:
        stfs = {row["filename"]: row for row in rows("select * from stf")}
        names = {row["id"]: name for name, row in stfs.items()}
        tfs: dict[str, list[dict[str, Any]]] = {name: [] for name in stfs}
        history: dict[str, list[dict[str, Any]]] = {name: [] for name in stfs}
        for row in rows("select * from tf order by stf, sequence"):
            tfs[names[row["stf"]]].append(row)
        for row in rows("select * from history order by id"):
            history[names[row["stf"]]].append(row)
        refused = {row["body"] for row in rows("select body from rejected")}
        run = next(iter(rows("select * from run")), None)
        return cls(run, stfs, tfs, history, refused)

    def is_closed(self, count: int) -> bool:
        """Whether the run of *count* STFs is complete and its summary out, if none is unknown or needs a person."""
        if len(self.stfs) < count or any(row["state"] == "failed" for row in self.stfs.values()):
            return True
        return self.run is not None and self.run["state"] == "complete" and bool(self.run["summary_at"])


def check_history(rows: list[dict[str, Any]], state: str) -> None:
    """It is a walk along the arrows of the chart, each of them once a life, and ends where the STF is."""
    assert (rows[0]["trigger"], rows[0]["dest"], rows[0]["life"]) == (None, CHART.initial, 1)
    for before, row in itertools.pairwise(rows):
        assert row["source"] == before["dest"]
        assert CHART.after(row["source"], row["trigger"]) == row["dest"]
        assert row["life"] == before["life"] + (row["trigger"] in NEXT_LIFE)
    assert rows[-1]["dest"] == state
    assert len({(row["life"], row["trigger"]) for row in rows}) == len(rows)


def check_failures(rows: list[dict[str, Any]], blamed: int) -> None:
    """No outage fails an STF: each failure is paid for by calls that failed by the STF's own fault."""
    notes = [row["note"] for row in rows if row["trigger"] == "fail"]
    least = sum(LEAST_FAILURES if note.startswith(BY_BUDGET) else 1 for note in notes)
    assert least <= blamed, f"failed ({notes}), though only {blamed} calls failed by its own fault"


def check_registered(tf: dict[str, Any], monitor: FaultyMonitor, others: set[str]) -> None:
    """What stands in the monitor is what stands here, and is our sample unless another writer was first."""
    there = monitor.rows.get(tf["filename"])
    if tf["registered_at"]:
        assert there is not None, f"{tf['filename']} counts as registered, and is not"
        assert there == replace(
            there, tf_first=tf["first"], tf_last=tf["last"], tf_count=tf["count"],
            file_size_bytes=tf["size_bytes"], tf_file_id=tf["monitor_id"],
        )  # fmt: skip
        assert bool(tf["adopted"]) == (tf["filename"] in others)
    elif there is not None and tf["filename"] not in others:
        assert (there.tf_first, there.tf_last) == (tf["first"], tf["last"]), "registered with another range"


def check_sample(drawn: list[dict[str, Any]], tfs: list[dict[str, Any]]) -> None:
    """The TFs are those that were drawn first; only what another writer registered first bears his range."""
    assert [tf["filename"] for tf in tfs] == [tf["filename"] for tf in drawn]
    for before, tf in zip(drawn, tfs, strict=True):
        assert tf["adopted"] or (before["first"], before["last"]) == (tf["first"], tf["last"])


def check_end(seen: Seen, monitor: FaultyMonitor, most: int, selected: Callable[[int, str], bool]) -> None:
    """Every STF that anybody knows of rests, and nothing is owed for it any more."""
    assert set(monitor.known) <= set(seen.stfs)
    for name, row in seen.stfs.items():
        assert CHART.is_finalized(row["state"]), (name, row["state"], row["due_at"], row["last_error"])
        if row["state"] == "completed":
            assert selected(row["sequence"], name) or row["included"]
            assert len(seen.tfs[name]) == most or row["preexisting"]
            assert all(tf["registered_at"] for tf in seen.tfs[name])
            assert all(tf["announced_at"] or row["preexisting"] for tf in seen.tfs[name])
        elif row["state"] == "skipped":
            assert not selected(row["sequence"], name)
        else:
            assert row["state"] in {"failed", "discarded"}
            assert row["last_error"] or row["state"] == "discarded"
