"""Engine, outbox, intake and reconciler against a simple model (Hypothesis): messages, faults, kills, clock jumps.

The database is in a memory folder if there is one, so that 200 examples of 50 steps (`make test-model`) take a minute;
other tests check the file after a power cut. FASTMON_TEST_MODEL=N runs N examples; above 200 they differ each time.
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
from tests.builders import handle
from tests.engine.model_processes import TFS, WORKERS, Processes
from tests.engine.model_world import CHART, Snapshot, power_cut, run_message, stf_name, stf_ready

EXAMPLES = int(os.environ.get("FASTMON_TEST_MODEL", "15"))
MAX_REPRODUCIBLE = 200
"""Up to this many examples are the same each time."""
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
ORPHAN = 7
"""The data agent never registers this one."""
ALL = range(1, 9)
NUMBERS = st.sampled_from(ALL)
GARBAGE = ["", "[]", '{"msg_type": "stf_ready"}', '{"msg_type": "stf_ready", "run_id": null}']
ERRORS: list[FastmonError | None] = [None, TransientError("always 500"), PermanentError("413")]


class Model(Processes, RuleBasedStateMachine):
    """The rules: events that may happen at any time."""

    def __init__(self) -> None:
        RuleBasedStateMachine.__init__(self)
        logger.disable("fastmon_daemon")
        Processes.__init__(self, Path(tempfile.mkdtemp(prefix="fastmon-model-", dir=MEMORY)))

    @initialize(late=st.sets(NUMBERS, max_size=4), first=st.lists(NUMBERS, max_size=4))
    def begin(self, late: set[int], first: list[int]) -> None:
        self.start()
        self.data_agent_registers(set(ALL) - late)
        self.deliver(first, ticks=0)

    # Messages and registrations

    @rule(numbers=st.lists(NUMBERS, min_size=1, max_size=4), ticks=st.integers(0, 6))
    def deliver(self, numbers: list[int], ticks: int) -> None:
        """In any order, some twice; messages of other STFs are lost."""
        for number in numbers:
            self.accept(number)
        self.work(ticks)

    @rule(number=NUMBERS)
    def deliver_with_other_content(self, number: int) -> None:
        self.accept(number, 77)

    @rule(body=st.sampled_from(GARBAGE))
    def deliver_garbage(self, body: str) -> None:
        handle(self.intake, body)
        self.rejected.add(body)

    @rule(kind=st.sampled_from(["run_imminent", "start_run", "pause_run", "resume_run", "end_run"]))
    def deliver_run_message(self, kind: str) -> None:
        handle(self.intake, run_message(kind, **({"total_stf_files": len(ALL)} if kind == "end_run" else {})))

    @rule(numbers=st.sets(NUMBERS, min_size=1))
    def data_agent_registers(self, numbers: set[int]) -> None:
        for number in numbers - {ORPHAN}:
            self.monitor.registers(number)

    @rule(number=NUMBERS, sequence=st.integers(1, TFS))
    def another_agent_registers_a_tf(self, number: int, sequence: int) -> None:
        name = self.monitor.register_by_another(stf_name(number), sequence)
        self.others |= {name} if name else set()

    # Faults

    @rule(what=st.lists(st.sampled_from(["", "500", "busy", "lost before", "lost after"]), min_size=1, max_size=3))
    def monitor_fails(self, what: list[str]) -> None:
        self.monitor.faults = what

    @rule(what=st.lists(st.sampled_from(["", "cut before", "receipt lost", "stale event"]), min_size=1, max_size=3))
    def broker_fails(self, what: list[str]) -> None:
        self.broker.faults = what

    @rule(now=st.sampled_from(["up", "up", "down", "blocked"]))
    def monitor_is(self, now: str) -> None:
        self.monitor.down, self.monitor.blocked = now == "down", now == "blocked"

    @rule(up=st.booleans())
    def broker_link_changes(self, up: bool) -> None:
        self.broker.come_up() if up else self.broker.go_down()

    @rule(number=NUMBERS, error=st.sampled_from(ERRORS))
    def stf_fails_or_recovers(self, number: int, error: FastmonError | None) -> None:
        self.monitor.trouble.pop(stf_name(number), None)
        if error:
            self.monitor.trouble[stf_name(number)] = error

    # Time, the process, an operator

    @rule(seconds=st.sampled_from([0.1, 1, 5, 61, 600, 86_400]), ticks=st.integers(0, 6))
    def time_passes(self, seconds: float, ticks: int) -> None:
        self.testbed.time.pass_(seconds=seconds)
        self.work(ticks)

    @rule(hours=st.sampled_from([-30, -1, -0.1, 0.1, 1, 30]))
    def wall_clock_jumps(self, hours: float) -> None:
        seconds = self.testbed.time.seconds
        self.testbed.time.pass_(hours=hours)
        self.testbed.time.seconds = seconds

    @rule(ticks=st.integers(1, 12))
    def work(self, ticks: int) -> None:
        for _ in range(ticks):
            self.tick()

    @rule()
    def restart(self) -> None:
        self.kill(self.engine.busy)

    @rule(nth=st.integers(1, 25))
    def power_is_cut_at_work(self, nth: int) -> None:
        if power_cut(nth, lambda: [self.engine.tick(0) for _ in range(12)]):
            self.kill(WORKERS)

    @rule(nth=st.integers(1, 2), number=NUMBERS)
    def power_is_cut_at_a_message(self, nth: int, number: int) -> None:
        """Before or after the commit, but before the acknowledgement: the broker sends it again."""
        if power_cut(nth, partial(handle, self.intake, stf_ready(number))):
            self.kill(self.engine.busy)
        self.accept(number)

    @rule(action=st.sampled_from(["retry", "discard", "include"]), number=NUMBERS)
    def operator_acts(self, action: str, number: int) -> None:
        name = stf_name(number)
        before = Snapshot.of(self.outbox).stfs.get(name)
        possible = before is not None and not self.engine.busy and CHART.may(before["state"], action)
        answer = self.engine.inbox.submit(
            partial(self.actions.perform, ActionRequest(action=action, by="shifter", stfs=(name,)))
        )
        self.engine.tick(0)
        if not answer.done():  # it waits for results to share their transaction
            self.testbed.time.pass_(seconds=0.1)
            self.engine.tick(0)
        assert bool(answer.result(0).done) >= possible, answer.result(0).rejected

    @invariant()
    def invariants_hold(self) -> None:
        self.check()

    def teardown(self) -> None:
        try:
            self.heal(set(ALL) - {ORPHAN})
        finally:
            self.outbox.close()
            shutil.rmtree(self.folder)
            logger.enable("fastmon_daemon")


Model.TestCase.settings = settings(
    max_examples=EXAMPLES, stateful_step_count=50, deadline=None, derandomize=EXAMPLES <= MAX_REPRODUCIBLE,
    database=None, suppress_health_check=list(HealthCheck),
)  # fmt: skip


@pytest.mark.timeout(600)
class TestModel(Model.TestCase):  # type: ignore[misc, name-defined]
    """Runs the examples."""
