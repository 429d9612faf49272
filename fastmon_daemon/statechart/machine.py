"""Asks the charts in `statecharts/`: which step leaves a state, and where does a trigger lead?

The charts answer; they never act. This module must not know rows, effects, threads or time, and it names no state: all
names stand in the charts. One `transitions` machine per chart serves the whole process; a cursor walks it and is gone.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import yaml
from transitions import Machine, MachineError

from fastmon_daemon.base.errors import PermanentError

__all__ = ["MachineError", "StateMachine", "StatechartError", "Transition", "load_statechart", "parse_statechart"]

StatechartName = Literal["stf", "run"]

_CHART_KEYS = {"name", "initial", "auto_transitions", "states", "transitions", "decisions", "reported_as"}
_STATE_KEYS = {"name", "final"}
_ARROW_KEYS = {"trigger", "source", "dest"}


class StatechartError(PermanentError):
    """A chart contradicts itself or the code: mend the file that the message names."""


class Transition(NamedTuple):
    """One transition of a chart."""

    source: str
    trigger: str
    dest: str


class _Cursor:
    """What the machine moves in place of an STF: a state and nothing else."""

    __slots__ = ("state",)

    def __init__(self, state: str) -> None:
        self.state = state


class StateMachine:
    """A state chart, checked when it is made. Immutable, hence safe to ask from any thread."""

    def __init__(self, name: str, config: Mapping[str, Any]) -> None:
        """Check *config*, the content of the file of the chart *name*. Raises `StatechartError`."""
        self.name = name
        self.decisions: Mapping[str, str] = config.get("decisions") or {}
        """Trigger -> who decides it (`engine`, `person`, `daq`, `ledger`)."""
        self._reported_as: Mapping[str, str] = config.get("reported_as") or {}
        _check_form(name, config)
        plain = {key: value for key, value in config.items() if key not in {"decisions", "reported_as"}}
        self._machine = Machine(model=None, **plain)
        self.initial: str = config["initial"]
        self.states: tuple[str, ...] = tuple(self._machine.states)
        """All states, in the order of the file."""
        self.finals: tuple[str, ...] = tuple(state.name for state in self._machine.states.values() if state.final)
        self.triggers: tuple[str, ...] = tuple(self._machine.events)
        """All triggers, steps and decisions, in the order of the file."""
        self.transitions: tuple[Transition, ...] = tuple(
            Transition(source, trigger, found.dest or source)
            for trigger, event in self._machine.events.items()
            for source, several in event.transitions.items()
            for found in several
        )
        """All arrows, in the order of the file."""
        self._dests = {(transition.source, transition.trigger): transition.dest for transition in self.transitions}
        self._check_sense()
        self._steps = {
            transition.source: transition.trigger
            for transition in self.transitions
            if transition.trigger not in self.decisions
        }

    @property
    def steps(self) -> tuple[str, ...]:
        """The triggers that are steps: each is the name of the function that makes the next fact true."""
        return tuple(trigger for trigger in self.triggers if trigger not in self.decisions)

    @property
    def success_state(self) -> str:
        """The state to which the steps lead from the first one when no decision comes in between."""
        state = self.initial
        while step := self._steps.get(state):
            state = self._dests[state, step]
        return state

    def step_from(self, state: str) -> str | None:
        """The step that leaves *state*, None where the chart rests there; MachineError for an unknown state."""
        return self._steps.get(self._known(state))

    def is_finalized(self, state: str) -> bool:
        """Whether no step leaves *state*: nothing is owed there. MachineError for an unknown state."""
        return self.step_from(state) is None

    def reported_as(self, state: str) -> str | None:
        """What the monitor is told in *state*, None where it is told nothing; MachineError for an unknown state."""
        return self._reported_as.get(self._known(state))

    def may(self, state: str, trigger: str) -> bool:
        """Whether *trigger* leaves *state*; False also for names that the chart does not know."""
        return (state, trigger) in self._dests

    def leads_to(self, trigger: str) -> tuple[str, ...]:
        """The states that *trigger* leads to, from wherever it may; none for a name that the chart does not know."""
        return tuple(dict.fromkeys(transition.dest for transition in self.transitions if transition.trigger == trigger))

    def after(self, state: str, trigger: str) -> str:
        """The state that *trigger* leads to from *state*; MachineError where the chart has no such arrow or name."""
        cursor = _Cursor(self._known(state))
        event = self._machine.events.get(trigger)
        if event is None:
            raise MachineError(f"chart {self.name}: no trigger is called {trigger!r}")
        event.trigger(cursor)
        return cursor.state

    def check_steps(self, step_names: Set[str]) -> None:
        """Raises `StatechartError` for a trigger that is neither step nor decision and for a step without arrow."""
        if neither := sorted(set(self.steps) - step_names):
            raise StatechartError(f"chart {self.name}: {', '.join(neither)}: neither a step with code nor a decision")
        if strange := sorted(step_names - set(self.steps)):
            raise StatechartError(f"chart {self.name}: no arrow of a step is called {', '.join(strange)}")

    def _known(self, state: str) -> str:
        if state not in self._machine.states:
            raise MachineError(f"chart {self.name}: no state is called {state!r}")
        return state

    def _check_sense(self) -> None:
        """What can only be asked of the whole: is every state reachable, every name known, every step the only one?"""
        reached = {self.initial}
        while more := {transition.dest for transition in self.transitions if transition.source in reached} - reached:
            reached |= more
        step_sources = [
            transition.source for transition in self.transitions if transition.trigger not in self.decisions
        ]
        problems = {
            "no way leads to the state": set(self.states) - reached,
            "an arrow leaves the final state": {transition.source for transition in self.transitions}
            & set(self.finals),
            "more than one step leaves the state": {state for state in self.states if step_sources.count(state) > 1},
            "decisions: no trigger is called": set(self.decisions) - set(self.triggers),
            "reported_as: no state is called": set(self._reported_as) - set(self.states),
        }
        for problem, culprits in problems.items():
            if culprits:
                raise StatechartError(f"chart {self.name}: {problem} {', '.join(sorted(map(repr, culprits)))}")


def _check_form(name: str, config: Mapping[str, Any]) -> None:
    """Refuse what `transitions` would accept in silence: unknown states, doubled arrows, callbacks, `to_state`."""
    _only(f"chart {name}", config, _CHART_KEYS)
    if config.get("auto_transitions") is not False:
        raise StatechartError(f"chart {name}: auto_transitions must be false, or every state leads to every other")
    states = [state if isinstance(state, dict) else {"name": state} for state in config["states"]]
    for state in states:
        _only(f"chart {name}: state {state.get('name')!r}", state, _STATE_KEYS)
    seen: set[tuple[str, str]] = set()
    known = {state["name"] for state in states}
    if config["initial"] not in known:
        raise StatechartError(f"chart {name}: initial: no state is called {config['initial']!r}")
    for transition in config["transitions"]:
        _only(f"chart {name}: arrow {transition.get('trigger')!r}", transition, _ARROW_KEYS)
        sources = transition["source"] if isinstance(transition["source"], list) else [transition["source"]]
        for state in [*sources, transition["dest"]]:
            if state not in known:
                raise StatechartError(f"chart {name}: arrow {transition['trigger']!r}: no state is called {state!r}")
        for source in sources:
            if (source, transition["trigger"]) in seen:
                raise StatechartError(f"chart {name}: two arrows {transition['trigger']!r} leave {source!r}")
            seen.add((source, transition["trigger"]))


def _only(where: str, part: Mapping[str, Any], allowed: Set[str]) -> None:
    if strange := sorted(set(part) - allowed):
        raise StatechartError(
            f"{where}: {', '.join(strange)} may not stand in a chart (a chart is asked, it calls nothing)"
        )


def parse_statechart(name: str, text: str) -> StateMachine:
    """The chart that *text* (YAML) describes; StatechartError names the chart and the culprit."""
    try:
        return StateMachine(name, yaml.safe_load(text))
    except (yaml.YAMLError, AttributeError, KeyError, TypeError) as error:
        raise StatechartError(f"chart {name}: not the form of a chart: {error!r}") from error


@cache
def load_statechart(name: StatechartName) -> StateMachine:
    """The chart *name* that travels with the program: inside the package when installed, beside it in a checkout."""
    package = Path(__file__).parents[1]
    inside = package / "statecharts"
    folder = inside if inside.is_dir() else package.parent / "statecharts"
    return parse_statechart(name, (folder / f"{name}.yaml").read_text(encoding="utf-8"))
