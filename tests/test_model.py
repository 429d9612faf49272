"""Engine and outbox against a simple model, by hypothesis: any order of messages, faults, deaths and clock jumps.

The database lies in memory-backed storage where there is some: what a power cut leaves of a file is another test's
subject, and 200 examples of 50 steps are to take a minute. FASTMON_TEST_MODEL=N runs N other examples.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from loguru import logger

from fastmon_daemon import seams
from fastmon_daemon.acts import Acts, Wish
from fastmon_daemon.engine import LinkNews
from fastmon_daemon.errors import PermanentError, TransientError
from fastmon_daemon.intake import Intake
from fastmon_daemon.lifecycle import load_chart
from fastmon_daemon.settings import Settings
from tests.model_world import (
    CHART,
    LINK_OF,
    FaultyBroker,
    FaultyMonitor,
    Seen,
    check_history,
    check_registered,
    check_sample,
    stf_name,
    stf_ready,
)
from tests.worlds import World

MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
WORKERS = 4
NUMBERS = st.integers(1, 8)
ORPHAN = 7
"""The data agent never registers this one."""
TFS = 3


class PowerCut(BaseException):
    """The process is gone, at this very instruction."""


class Lives(RuleBasedStateMachine):
    """What was acknowledged, what may have been announced twice, and which samples were seen: the whole model."""

    def __init__(self) -> None:
        super().__init__()
        logger.disable("fastmon_daemon")
        self.folder = Path(tempfile.mkdtemp(prefix="fastmon-model-", dir=MEMORY))
        self.monitor, self.broker = FaultyMonitor(), FaultyBroker()
        told = Settings(namespace="ns", selection_fraction=0.7, tf_files_per_stf=TFS)
        self.world = World(self.folder, monitor=self.monitor, settings=told)
        self.world.announce = self.broker.announce  # type: ignore[method-assign]
        self.world.probe_broker = self.broker.probe  # type: ignore[method-assign]
        self.accepted: dict[str, int] = {}
        self.refused: set[str] = set()
        self.samples: dict[str, list[dict[str, Any]]] = {}
        self.others: set[str] = set()
        self.in_doubt = 0
        """Announcements that may be made again: those in flight at each death."""

    @initialize(late=st.sets(NUMBERS, max_size=4), first=st.lists(NUMBERS, max_size=4))
    def begin(self, late: set[int], first: list[int]) -> None:
        """The data agent has registered most STFs beforehand."""
        self.monitor.known = {stf_name(number) for number in range(1, 9) if number not in {*late, ORPHAN}}
        self.start()
        self.deliver(first, turns=0)

    def start(self) -> None:
        """A process begins."""
        self.outbox = self.world.outbox()
        self.engine = self.world.engine(self.outbox, workers=WORKERS, late_rate=20.0)
        self.intake = Intake(self.folder / "outbox.db", "ns", "fastmon-agent-test-1", (CHART, load_chart("run")))
        self.intake.clock = self.world.time.clock()
        self.acts = Acts(CHART, self.intake, alone=False)
        self.broker.tell = lambda up: self.engine.tell(LinkNews("broker", up=up, reason="" if up else "cut"))
        self.broker.tell(self.broker.up)

    # What arrives

    def accept(self, number: int, size: int | None = None) -> None:
        """The broker delivers a message; it is acknowledged when `accept` returns."""
        name, told = stf_name(number), size or 1000 * number
        self.intake.accept(stf_ready(number, size))
        if self.accepted.setdefault(name, told) != told:
            self.refused.add(stf_ready(number, size))

    @rule(numbers=st.lists(NUMBERS, min_size=1, max_size=4), turns=st.integers(0, 6))
    def deliver(self, numbers: list[int], turns: int) -> None:
        """In any order, some twice; what is in no list was dropped on the way."""
        for number in numbers:
            self.accept(number)
        self.work(turns)

    @rule(number=NUMBERS)
    def deliver_with_other_content(self, number: int) -> None:
        self.accept(number, 77)

    @rule(body=st.sampled_from(["", "[]", '{"msg_type": "stf_ready"}', '{"msg_type": "stf_ready", "run_id": null}']))
    def deliver_garbage(self, body: str) -> None:
        self.intake.accept(body)
        self.refused.add(body)

    @rule(kind=st.sampled_from(["run_imminent", "start_run", "pause_run", "resume_run", "end_run"]))
    def deliver_run_message(self, kind: str) -> None:
        self.intake.accept(f'{{"msg_type": "{kind}", "namespace": "ns", "run_id": "100014", "total_stf_files": 8}}')

    @rule(numbers=st.sets(NUMBERS, min_size=1))
    def data_agent_registers(self, numbers: set[int]) -> None:
        self.monitor.known |= {stf_name(number) for number in numbers if number != ORPHAN}

    @rule(number=NUMBERS, sequence=st.integers(1, TFS))
    def another_agent_registers_a_tf(self, number: int, sequence: int) -> None:
        name = self.monitor.taken_by_another(stf_name(number), sequence)
        self.others |= {name} if name else set()

    # What goes wrong

    @rule(what=st.lists(st.sampled_from(["", "500", "busy", "lost before", "lost after"]), min_size=1, max_size=3))
    def monitor_falters(self, what: list[str]) -> None:
        self.monitor.mishaps = what

    @rule(what=st.lists(st.sampled_from(["", "cut before", "receipt lost", "stale news"]), min_size=1, max_size=3))
    def broker_falters(self, what: list[str]) -> None:
        self.broker.mishaps = what

    @rule(now=st.sampled_from(["well", "well", "down", "held"]))
    def monitor_is(self, now: str) -> None:
        self.monitor.down, self.monitor.held = now == "down", now == "held"

    @rule(up=st.booleans())
    def broker_goes_or_comes(self, up: bool) -> None:
        self.broker.comes() if up else self.broker.goes()

    @rule(number=NUMBERS, trouble=st.sampled_from([None, TransientError("always 500"), PermanentError("413")]))
    def stf_is_sick_or_well(self, number: int, trouble: TransientError | PermanentError | None) -> None:
        self.monitor.trouble.pop(stf_name(number), None)
        if trouble:
            self.monitor.trouble[stf_name(number)] = trouble

    # Time

    @rule(seconds=st.sampled_from([0.1, 1, 5, 61, 600, 86_400]), turns=st.integers(0, 6))
    def time_passes(self, seconds: float, turns: int) -> None:
        self.world.time.pass_(seconds=seconds)
        self.work(turns)

    @rule(hours=st.sampled_from([-30, -1, -0.1, 0.1, 1, 30]))
    def wall_clock_jumps(self, hours: float) -> None:
        seconds = self.world.time.seconds
        self.world.time.pass_(hours=hours)
        self.world.time.seconds = seconds

    # The process

    @rule(turns=st.integers(1, 12))
    def work(self, turns: int) -> None:
        for _ in range(turns):
            self.turn()

    def turn(self) -> None:
        """One turn, in which nothing that needs a shut gate is touched."""
        shut = {link for link in LINK_OF.values() if not self.engine.busy and not self.engine.is_open(link)}
        before = Seen.of(self.outbox).stfs if shut else {}
        self.engine.turn(0)
        shut = {link for link in shut if not self.engine.is_open(link)}
        if not shut:
            return
        after = Seen.of(self.outbox).stfs
        for name, row in before.items():
            if LINK_OF.get(row["state"]) in shut:
                assert after[name] == row, f"{name} was touched with its gate shut"

    @rule()
    def restart(self) -> None:
        self.die(self.engine.busy)

    def die(self, in_flight: int) -> None:
        self.in_doubt += in_flight
        self.outbox.close()
        self.start()

    @rule(seam=st.integers(1, 25))
    def power_is_cut_at_work(self, seam: int) -> None:
        if self.cut_at(seam, lambda: [self.engine.turn(0) for _ in range(12)]):
            self.die(WORKERS)

    @rule(seam=st.integers(1, 2), number=NUMBERS)
    def power_is_cut_at_an_arrival(self, seam: int, number: int) -> None:
        """Before or after the commit, and in any case before the acknowledgement: the broker sends it again."""
        if self.cut_at(seam, partial(self.intake.accept, stf_ready(number))):
            self.die(self.engine.busy)
        self.accept(number)

    @staticmethod
    def cut_at(nth: int, life: object) -> bool:
        met = iter(range(1, nth))

        def fuse(name: str) -> None:
            if next(met, None) is None:
                seams.set_hook(None)
                raise PowerCut(name)

        seams.set_hook(fuse)
        try:
            life()  # type: ignore[operator]
        except PowerCut:
            return True
        finally:
            seams.set_hook(None)
        return False

    # A person

    @rule(act=st.sampled_from(["retry", "discard", "admit"]), number=NUMBERS)
    def person_acts(self, act: str, number: int) -> None:
        before = Seen.of(self.outbox).stfs.get(stf_name(number))
        wish = Wish(act=act, by="shifter", stfs=(stf_name(number),))
        answer = self.engine.ask(partial(self.acts.do, wish))
        self.turn_for_act()
        done = bool(answer.result(0).done)
        if done:
            assert before is not None

    def turn_for_act(self) -> None:
        self.engine.turn(0)

    # What is true at every moment

    @invariant()
    def all_is_well(self) -> None:
        seen = Seen.of(self.outbox)
        assert {name: row["size_bytes"] for name, row in seen.stfs.items()} == self.accepted
        assert seen.refused == self.refused
        confirmed = set()
        for name, row in seen.stfs.items():
            check_history(seen.history[name], row["state"])
            assert (row["due_at"] is None) == CHART.is_resting(row["state"])
            for tf in seen.tfs[name]:
                check_registered(tf, self.monitor, self.others)
                if tf["announced_at"]:
                    confirmed.add(tf["filename"])
            check_sample(self.samples.setdefault(name, seen.tfs[name]) if row["plan"] else [], seen.tfs[name])
        assert confirmed <= set(self.broker.announced)
        repeated = self.broker.announced.total() - len(self.broker.announced)
        assert repeated <= self.in_doubt + self.broker.lost_receipts

    def teardown(self) -> None:
        try:
            import collections

            print(
                "STAT",
                collections.Counter(r["state"] for r in Seen.of(self.outbox).stfs.values()),
                self.broker.announced.total(),
                self.broker.lost_receipts,
                self.in_doubt,
            )
            self.heal()
        finally:
            self.outbox.close()
            shutil.rmtree(self.folder)
            logger.enable("fastmon_daemon")

    def heal(self) -> None:
        """All faults end, and time passes: every STF comes to rest, and nothing is owed any more."""
        self.monitor.down = self.monitor.held = False
        self.monitor.mishaps, self.broker.mishaps = [], []
        self.monitor.trouble.clear()
        self.monitor.known |= {name for name in self.accepted if name != stf_name(ORPHAN)}
        self.broker.comes()
        for _ in range(100):
            while self.engine.turn(0) or not self.engine.idle:
                if not self.engine._picker.unhindered:
                    break
            if not self.outbox.unfinished():
                break
            self.world.time.pass_(seconds=61)
        self.all_is_well()
        self.all_is_done()

    def all_is_done(self) -> None:
        seen = Seen.of(self.outbox)
        assert not self.outbox.unfinished(), [
            (n, s["state"], s["due_at"], s["last_error"]) for n, s in seen.stfs.items()
        ]
        for name, row in seen.stfs.items():
            if row["state"] == "completed":
                assert len(seen.tfs[name]) == TFS
                assert all(tf["registered_at"] and tf["announced_at"] for tf in seen.tfs[name])
            else:
                assert row["state"] in {"skipped", "failed", "discarded"}
                assert row["last_error"] or row["state"] == "discarded"


EXAMPLES = int(os.environ.get("FASTMON_TEST_MODEL", "0"))
Lives.TestCase.settings = settings(
    max_examples=EXAMPLES or 200, stateful_step_count=50, deadline=None, derandomize=not EXAMPLES, database=None,
    suppress_health_check=list(HealthCheck), phases=[Phase.generate], report_multiple_bugs=False,
)  # fmt: skip
TestLives = Lives.TestCase
