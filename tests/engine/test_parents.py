"""The STF of TF files at the embedded monitor: whose run it is in, what its row says, and what it costs to know."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from fastmon_daemon.engine import CallPools, Engine
from fastmon_daemon.engine.parents import Parents
from fastmon_daemon.engine.steps import make_steps
from fastmon_daemon.monitor import MonitorClient, OutcomeUnknown
from fastmon_daemon.outbox import NewStf, Origin, Stf
from fastmon_daemon.runs.tracked_runs import TrackedRuns
from fastmon_daemon.settings import Settings
from fastmon_daemon.statechart import load_statechart
from fastmon_daemon.testbed.monitor import MonitorThread
from tests.builders import FakeTestbed, logged, named, settle, turn_until
from tests.monitor.test_stf_registrar import BEGAN, TOKEN, delete, post, rows

FIRST, SECOND = 300001, 300002
REUSED = "swf.000001.stf"


class CountingClient(MonitorClient):
    """The client of the monitor, which counts its requests."""

    def __init__(self, url: str) -> None:
        super().__init__(url, lambda: TOKEN, connections=4)
        self.calls: Counter[tuple[str, str]] = Counter()
        self.loses_answer = False
        """The next registration of a TF file is carried out, but its answer and the list of TF files are lost."""

    def request(self, method: str, path: str, *args: Any, **kwargs: Any) -> Any:
        self.calls[method, path] += 1
        answer = super().request(method, path, *args, **kwargs)
        if self.loses_answer and path == "fastmon-files/":
            self.loses_answer = method == "POST"
            raise OutcomeUnknown("timeout")
        return answer


class Lab(FakeTestbed):
    """An engine with the real client, the embedded monitor, and STFs of several runs."""

    server: MonitorThread
    client: CountingClient
    parents: Parents

    def attach(self, server: MonitorThread, **settings: Any) -> None:
        self.server = server
        self.settings = Settings(namespace="ns", selection_fraction=1.0, tf_files_per_stf=2, **settings)
        self.start()

    def start(self) -> None:
        """Start the next process."""
        self.client = CountingClient(self.server.url)
        self.live = self.outbox()
        self.engine_now = self.live_engine()

    def live_engine(self, **changes: Any) -> Engine:
        self.parents = Parents(self.client, "fastmon-agent-test-1")
        steps = make_steps(
            self.settings, "fastmon-agent-test-1", self.client, self.announce, self.time.clock(), self.parents
        )
        return self.engine(self.live, steps=steps, **changes)

    def register(self, run: int, name: str, **fields: object) -> None:
        """The data agent registers an STF."""
        numbers = {row["run_number"]: row["run_id"] for row in rows(self.server, "runs")}
        if run not in numbers:
            numbers[run] = post(self.server, "runs", {"run_number": run, "start_time": BEGAN})["run_id"]
        row = {"file_size_bytes": None, "machine_state": "physics", "status": "registered", **fields}
        post(self.server, "stf-files", {"run": numbers[run], "stf_filename": name, **row})

    def process(self, run: int, *names: str, **fields: Any) -> list[Stf]:
        """Receive STFs and process them."""
        for name in names:
            stf = NewStf(namespace="ns", run_id=run, filename=name, **fields)
            with self.live.transaction():
                self.live.receive(stf, load_statechart("stf").initial, self.time.at)
        settle(self.engine_now)
        return [self.stf(run, name) for name in names]

    def stf(self, run: int, name: str) -> Stf:
        (stf,) = self.live.find(filename=name, run=str(run))
        return stf

    def note(self, stf: Stf) -> str | None:
        return self.live.history(stf.id)[-1].note

    @property
    def tf_rows(self) -> list[dict[str, Any]]:
        return rows(self.server, "fastmon-files")


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with MonitorThread(TOKEN) as server:
        lab = Lab(tmp_path / "first")
        lab.attach(server)
        yield lab
        lab.live.close()
        lab.client.close()


def fails_as_anothers(lab: Lab, stf: Stf, tf_files: int) -> None:
    """It failed, nothing was registered or announced for it, and its history says why."""
    assert stf.state == "failed"
    assert lab.note(stf) == (
        f"the monitor knows {stf.filename} as an STF of run {FIRST}, not of {SECOND}: "
        "give the files of each run other names"
    )
    assert [tf.monitor_id for tf in stf.tfs] == [None, None]
    assert len(lab.tf_rows) == tf_files
    assert len(lab.announced) == tf_files


@pytest.mark.field("1")
def test_the_second_run_with_a_name_fails_where_the_first_completed(lab: Lab) -> None:
    lab.register(FIRST, REUSED)
    (first,) = lab.process(FIRST, REUSED)
    assert first.state == "completed"
    (second,) = lab.process(SECOND, REUSED)
    fails_as_anothers(lab, second, 2)


@pytest.mark.field("1")
def test_the_second_run_with_a_name_fails_where_the_first_skipped(lab: Lab) -> None:
    lab.register(FIRST, REUSED)
    lab.settings = Settings(namespace="ns", selection_fraction=0.0)
    lab.engine_now = lab.live_engine()
    (first,) = lab.process(FIRST, REUSED)
    assert first.state == "skipped"
    lab.settings = Settings(namespace="ns", selection_fraction=1.0, tf_files_per_stf=2)
    lab.engine_now = lab.live_engine()
    lab.register(SECOND, "of-its-own.stf")
    assert lab.process(SECOND, "of-its-own.stf")[0].state == "completed"  # the run is known to be right
    (second,) = lab.process(SECOND, REUSED)
    fails_as_anothers(lab, second, 2)


@pytest.mark.field("1")
@pytest.mark.parametrize("was_processed", [True, False])
def test_the_second_run_fails_in_a_database_that_does_not_know_the_first(
    lab: Lab, tmp_path: Path, *, was_processed: bool
) -> None:
    lab.register(FIRST, REUSED)
    lab.register(FIRST, "swf.000002.stf")
    if was_processed:
        lab.process(FIRST, REUSED, "swf.000002.stf")
    other = Lab(tmp_path / "second", announced=lab.announced)
    other.attach(lab.server)
    for second in other.process(SECOND, REUSED, "swf.000002.stf"):
        fails_as_anothers(other, second, 4 if was_processed else 0)
    other.live.close()
    other.client.close()


@pytest.mark.field("1")
def test_a_name_of_a_pruned_run_is_asked_for(lab: Lab) -> None:
    lab.register(FIRST, REUSED)
    lab.process(FIRST, REUSED)
    with lab.live.transaction():
        assert lab.live.retention.prune("ns", str(FIRST), lab.time.at, 10) == 1
    lab.register(SECOND, "of-its-own.stf")
    lab.process(SECOND, "of-its-own.stf")
    (second,) = lab.process(SECOND, REUSED)
    assert second.state == "failed"


def test_once_a_name_belonged_to_another_run_all_names_of_the_run_are_asked_for(lab: Lab) -> None:
    for name in ("swf.000001.stf", "swf.000003.stf"):
        lab.register(FIRST, name)
    lab.register(SECOND, "swf.000002.stf")
    stfs = lab.process(SECOND, *(f"swf.00000{n}.stf" for n in (1, 2, 3)))
    assert [stf.state for stf in stfs] == ["failed", "completed", "failed"]
    assert {row["stf_file"] for row in lab.tf_rows} == {"swf.000002.stf"}


@pytest.mark.field("1")
@pytest.mark.parametrize("later", ["swf.000005.stf", f"swf.{FIRST}.000005.stf", "swf.20261130.000005.stf"])
def test_names_that_begin_to_collide_later_are_asked_for(lab: Lab, later: str) -> None:
    """The run began with names of its own; nothing here knows the later one, and no TF file of it exists."""
    lab.register(SECOND, f"swf.{SECOND}.000001.stf")
    assert lab.process(SECOND, f"swf.{SECOND}.000001.stf")[0].state == "completed"
    lab.register(FIRST, later)
    (second,) = lab.process(SECOND, later)
    fails_as_anothers(lab, second, 2)


def test_a_run_that_begins_anew_after_a_purge_is_asked_for_again(lab: Lab) -> None:
    lab.register(SECOND, "swf.000002.stf")
    assert lab.process(SECOND, "swf.000002.stf")[0].state == "completed"
    TrackedRuns(purged=lab.parents.forget).purge("ns", str(SECOND))
    lab.register(FIRST, "swf.000001.stf")
    assert lab.process(SECOND, "swf.000001.stf")[0].state == "failed"


@pytest.mark.field("1")
def test_what_stands_there_is_adopted_only_in_our_run(lab: Lab) -> None:
    lab.register(SECOND, "of-its-own.stf")
    lab.process(SECOND, "of-its-own.stf")
    lab.register(FIRST, REUSED)
    tf = {"stf_file": REUSED, "tf_first": 1, "tf_last": 2, "tf_count": 2, "status": "registered"}
    post(lab.server, "fastmon-files", {**tf, "tf_filename": "swf.000001_tf_001.tf"})
    (second,) = lab.process(SECOND, REUSED)  # the run is known to be right, and nothing here knows the name
    assert second.state == "failed"
    (first,) = lab.process(FIRST, REUSED)
    assert first.state == "completed"
    assert first.tfs[0].adopted is not None


@pytest.mark.field("1")
@pytest.mark.parametrize("first_completed", [True, False])
def test_found_files_of_a_second_run_with_the_same_names_fail(
    lab: Lab, tmp_path: Path, *, first_completed: bool
) -> None:
    if first_completed:
        assert lab.process(FIRST, REUSED, origin=Origin.FILE)[0].state == "completed"
    else:
        lab.register(FIRST, REUSED)
    other = Lab(tmp_path / "second", announced=lab.announced)
    other.attach(lab.server)
    for each in (lab, other):
        (own,) = each.process(SECOND, f"of-its-own-{each.folder.name}.stf", origin=Origin.FILE)
        assert own.state == "completed"
        (second,) = each.process(SECOND, REUSED, origin=Origin.FILE)
        assert second.state == "failed"
        assert "as an STF of run 300001" in (each.note(second) or "")
    assert not [row for row in rows(lab.server, "stf-files") if row["stf_filename"] == REUSED][1:]
    other.live.close()
    other.client.close()


def test_the_stf_of_a_found_file_is_registered_again_if_the_monitor_loses_it_between_two_tf_files(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = lab.client.request

    def losing(method: str, path: str, *args: Any, **kwargs: Any) -> Any:
        answer = request(method, path, *args, **kwargs)
        if (method, path) == ("POST", "fastmon-files/") and lab.client.calls[method, path] == 1:
            (row,) = rows(lab.server, "stf-files")
            delete(lab.server, f"stf-files/{row['file_id']}")
        return answer

    monkeypatch.setattr(lab.client, "request", losing)
    (stf,) = lab.process(FIRST, "found.stf", origin=Origin.FILE)
    assert stf.state == "completed"
    assert lab.client.calls["POST", "stf-files/"] == 2
    assert [row["stf_filename"] for row in rows(lab.server, "stf-files")] == ["found.stf"]


@pytest.mark.field("4")
def test_a_run_costs_one_further_call_if_its_rows_say_nothing(lab: Lab) -> None:
    names = [f"swf.300001.{n:06d}.stf" for n in range(1, 21)]
    for name in names:
        lab.register(FIRST, name)
    lab.process(FIRST, *names[:10])
    lab.process(FIRST, *names[10:])
    assert lab.client.calls == {("POST", "fastmon-files/"): 40, ("GET", "stf-files/"): 1}


@pytest.mark.field("4")
def test_a_burst_of_a_new_run_asks_once(lab: Lab) -> None:
    names = [f"swf.300001.{n:06d}.stf" for n in range(1, 9)]
    for name in names:
        lab.register(FIRST, name)
        with lab.live.transaction():
            lab.live.receive(NewStf(namespace="ns", run_id=FIRST, filename=name), "received", lab.time.at)
    with ThreadPoolExecutor(8) as pool:
        pools = CallPools(workers=8, stf_calls=pool, probes=pool, background=pool)
        engine = lab.live_engine(pools=pools)
        turn_until(engine, lambda: lab.live.counts_by_state() == {"completed": 8}, "all are completed")
    assert lab.client.calls["GET", "stf-files/"] == 1


def test_an_stf_that_is_not_registered_yet_delays_no_other_of_its_run(lab: Lab) -> None:
    lab.register(FIRST, "swf.000002.stf")
    early, late = lab.process(FIRST, "swf.000001.stf", "swf.000002.stf")
    assert (early.state, early.attempts) == ("sampled", 1)
    assert "not registered yet" in str(early.last_error)
    assert late.state == "completed"
    lab.register(FIRST, "swf.000001.stf")
    lab.time.pass_(minutes=1)
    settle(lab.engine_now)
    assert named(lab.live, "swf.000001.stf").state == "completed"


def sample_of(stf: Stf) -> list[tuple[object, ...]]:
    return [(tf.filename, tf.first, tf.last, tf.count, tf.size_bytes) for tf in stf.tfs]


@pytest.mark.field("4")
@pytest.mark.parametrize("row", [
    {"tf_count": 300, "file_size_bytes": 300_000_000}, {"tf_count": 300}, {"file_size_bytes": 300_000_000},
    {"tf_count": 1, "file_size_bytes": 7}, {}, {"tf_count": -5, "file_size_bytes": -1},
])  # fmt: skip
def test_an_stf_has_one_sample_by_message_and_by_reconcile(lab: Lab, tmp_path: Path, row: dict[str, int]) -> None:
    names = ("swf.300001.000001.stf", "swf.300001.000002.stf")
    for name in names:
        lab.register(FIRST, name, **row)
    by_message = lab.process(FIRST, *names)
    other = Lab(tmp_path / "second")
    other.attach(lab.server)
    for stf, listed in zip(by_message, other.client.stf_files(FIRST).new, strict=True):
        fields = {"size_bytes": listed.file_size_bytes, "tf_count": listed.tf_count}
        (recovered,) = other.process(FIRST, listed.stf_filename, origin=Origin.RECOVERED, **fields)
        assert sample_of(recovered) == sample_of(stf)
        assert recovered.plan == stf.plan
        assert (recovered.tf_count, recovered.size_bytes) == (stf.tf_count, stf.size_bytes)
        assert {stf.state, recovered.state} == {"completed"}
        tf_count = row["tf_count"] if row.get("tf_count", 0) > 0 else 1000
        assert max(tf.last or 0 for tf in stf.tfs) < tf_count
        assert [tf["file_size_bytes"] is None for tf in lab.tf_rows] == [row.get("file_size_bytes", -1) < 0] * len(
            lab.tf_rows
        )
    assert {tf["metadata"]["tf_count_per_stf"] for tf in lab.tf_rows} == {tf_count}
    other.live.close()
    other.client.close()


@pytest.mark.field("4")
def test_what_the_message_says_counts(lab: Lab) -> None:
    lab.register(FIRST, REUSED, tf_count=300, file_size_bytes=300)
    (stf,) = lab.process(FIRST, REUSED, tf_count=50, size_bytes=5000)
    assert (stf.tf_count, stf.size_bytes) == (50, 5000)
    assert stf.plan is not None
    assert stf.plan.tf_count == 50


def test_a_sample_that_was_drawn_again_survives_a_lost_answer(lab: Lab) -> None:
    name = "swf.300001.000001.stf"
    lab.register(FIRST, name, tf_count=300)
    lab.client.loses_answer = True
    (stf,) = lab.process(FIRST, name)
    assert (stf.state, len(lab.tf_rows)) == ("sampled", 1)
    lab.time.pass_(minutes=1)
    settle(lab.engine_now)
    stf = lab.stf(FIRST, name)
    assert stf.plan is not None
    assert (stf.state, stf.plan.tf_count) == ("completed", 300)
    assert [tf.adopted for tf in stf.tfs] == [None, None]


@pytest.mark.field("1")
def test_a_row_that_a_stage_report_read_shows_the_names_of_another_run(lab: Lab) -> None:
    """A name that names its run is not asked for; the stage reports read the rows anyway."""
    lab.register(SECOND, "of-its-own.stf")
    (clean,) = lab.process(SECOND, "of-its-own.stf")
    names = (f"swf.{SECOND}.000001.stf", f"swf.{SECOND}.000002.stf")
    for name in names:
        lab.register(FIRST, name)
    (first,) = lab.process(SECOND, names[0])
    assert first.state == "completed", "it was not asked for"
    keys = {row["stf_filename"]: row["run"] for row in rows(lab.server, "stf-files")}
    with logged("ERROR") as lines:
        for stf in (clean, first, first):
            lab.parents.row_was_read(stf, keys[stf.filename])
        lab.parents.row_was_read(first, None)
    (second,) = lab.process(SECOND, names[1])
    assert second.state == "failed"
    assert [line.split(":")[0] for line in lines] == [names[0]]
