"""Engine, outbox, intake and ledger against a simple model, by hypothesis: messages, faults, deaths and clock jumps.

The database lies in a folder in memory where there is one: what a power cut leaves of a file is the subject of other
tests, and 200 examples of 50 steps (`make test-model`) are to take a minute. FASTMON_TEST_MODEL=N runs N; more than 200
are other ones each time.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from loguru import logger

from fastmon_daemon.actions.operator_actions import ActionRequest
from fastmon_daemon.base.errors import FastmonError, PermanentError, TransientError
from tests.engine.model_processes import TFS, WORKERS, Processes
from tests.engine.model_world import CHART, Seen, is_cut, run_message, stf_name, stf_ready

EXAMPLES = int(os.environ.get("FASTMON_TEST_MODEL", "15"))
SAME_EACH_TIME = 200
"""More examples than these are other ones each time."""
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
ORPHAN = 7
"""The data agent never registers this one."""
ALL = range(1, 9)
NUMBERS = st.sampled_from(ALL)
GARBAGE = ["", "[]", '{"msg_type": "stf_ready"}', '{"msg_type": "stf_ready", "run_id": null}']
TROUBLES: list[FastmonError | None] = [None, TransientError("always 500"), PermanentError("413")]


class Lives(Processes, RuleBasedStateMachine):
    """The rules: what may happen at any moment."""

    def __init__(self) -> None:
        RuleBasedStateMachine.__init__(self)
        logger.disable("fastmon_daemon")
        Processes.__init__(self, Path(tempfile.mkdtemp(prefix="fastmon-model-", dir=MEMORY)))

    @initialize(late=st.sets(NUMBERS, max_size=4), first=st.lists(NUMBERS, max_size=4))
    def begin(self, late: set[int], first: list[int]) -> None:
        self.start()
        self.data_agent_registers(set(ALL) - late)
        self.deliver(first, turns=0)

    # What arrives

    @rule(numbers=st.lists(NUMBERS, min_size=1, max_size=4), turns=st.integers(0, 6))
    def deliver(self, numbers: list[int], turns: int) -> None:
        """In any order, some twice; what is in no list was dropped on its way."""
        for number in numbers:
            self.accept(number)
        self.work(turns)

    @rule(number=NUMBERS)
    def deliver_with_other_content(self, number: int) -> None:
        self.accept(number, 77)

    @rule(body=st.sampled_from(GARBAGE))
    def deliver_garbage(self, body: str) -> None:
        self.intake.handle(body)
        self.refused.add(body)

    @rule(kind=st.sampled_from(["run_imminent", "start_run", "pause_run", "resume_run", "end_run"]))
    def deliver_run_message(self, kind: str) -> None:
        self.intake.handle(run_message(kind, **({"total_stf_files": len(ALL)} if kind == "end_run" else {})))

    @rule(numbers=st.sets(NUMBERS, min_size=1))
    def data_agent_registers(self, numbers: set[int]) -> None:
        for number in numbers - {ORPHAN}:
            self.monitor.registers(number)

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

    @rule(now=st.sampled_from(["well", "well", "down", "blocked"]))
    def monitor_is(self, now: str) -> None:
        self.monitor.down, self.monitor.blocked = now == "down", now == "blocked"

    @rule(up=st.booleans())
    def broker_goes_or_comes(self, up: bool) -> None:
        self.broker.comes() if up else self.broker.goes()

    @rule(number=NUMBERS, trouble=st.sampled_from(TROUBLES))
    def stf_is_sick_or_well(self, number: int, trouble: FastmonError | None) -> None:
        self.monitor.trouble.pop(stf_name(number), None)
        if trouble:
            self.monitor.trouble[stf_name(number)] = trouble

    # Time, the process, a person

    @rule(seconds=st.sampled_from([0.1, 1, 5, 61, 600, 86_400]), turns=st.integers(0, 6))
    def time_passes(self, seconds: float, turns: int) -> None:
        self.world.time.pass_(seconds=seconds)
        self.work(turns)

    @rule(hours=st.sampled_from([-30, -1, -0.1, 0.1, 1, 30]))
    def wall_clock_jumps(self, hours: float) -> None:
        seconds = self.world.time.seconds
        self.world.time.pass_(hours=hours)
        self.world.time.seconds = seconds

    @rule(turns=st.integers(1, 12))
    def work(self, turns: int) -> None:
        for _ in range(turns):
            self.turn()

    @rule()
    def restart(self) -> None:
        self.die(self.engine.busy)

    @rule(seam=st.integers(1, 25))
    def power_is_cut_at_work(self, seam: int) -> None:
        if is_cut(seam, lambda: [self.engine.tick(0) for _ in range(12)]):
            self.die(WORKERS)

    @rule(seam=st.integers(1, 2), number=NUMBERS)
    def power_is_cut_at_an_arrival(self, seam: int, number: int) -> None:
        """Before or after the commit, and in any case before the acknowledgement: the broker sends it again."""
        if is_cut(seam, partial(self.intake.handle, stf_ready(number))):
            self.die(self.engine.busy)
        self.accept(number)

    @rule(act=st.sampled_from(["retry", "discard", "include"]), number=NUMBERS)
    def person_acts(self, act: str, number: int) -> None:
        name = stf_name(number)
        before = Seen.of(self.outbox).stfs.get(name)
        possible = before is not None and not self.engine.busy and CHART.may(before["state"], act)
        answer = self.engine.inbox.submit(
            partial(self.acts.perform, ActionRequest(action=act, by="shifter", stfs=(name,)))
        )
        self.engine.tick(0)
        assert bool(answer.result(0).done) >= possible, answer.result(0).rejected

    @invariant()
    def all_is_well(self) -> None:
        self.check()

    def teardown(self) -> None:
        try:
            self.heal(set(ALL) - {ORPHAN})
        finally:
            self.outbox.close()
            shutil.rmtree(self.folder)
            logger.enable("fastmon_daemon")


Lives.TestCase.settings = settings(
    max_examples=EXAMPLES, stateful_step_count=50, deadline=None, derandomize=EXAMPLES <= SAME_EACH_TIME,
    database=None, suppress_health_check=list(HealthCheck),
)  # fmt: skip


@pytest.mark.timeout(600)
class TestEveryLife(Lives.TestCase):  # type: ignore[misc, name-defined]
    """Every STF of every life."""
