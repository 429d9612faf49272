"""The state machines of `statecharts/`: which step leaves a state, and which state does a trigger lead to?

A state machine only answers; it calls nothing. This module knows no rows, calls, threads or time, and no names of
states: those are in the charts.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, NamedTuple

import yaml
from transitions import Machine, MachineError

from fastmon_daemon.base.errors import PermanentError

StatechartName = Literal["stf", "run"]

_CHART_KEYS = {"name", "initial", "auto_transitions", "states", "transitions", "decisions", "reported_as"}
_STATE_KEYS = {"name", "final"}
_TRANSITION_KEYS = {"trigger", "source", "dest"}


class StatechartError(PermanentError):
    """A chart contradicts itself or the code: fix the file that the message names."""


class Transition(NamedTuple):
    """One transition of a chart."""

    source: str
    trigger: str
    dest: str


class StateMachine:
    """A statechart, validated when it is made. Immutable, hence thread-safe."""

    def __init__(self, name: str, config: Mapping[str, Any]) -> None:
        """Validate *config*, the content of the chart's file. Raises: StatechartError."""
        self.name = name
        self.decisions: Mapping[str, str] = config.get("decisions") or {}
        """Trigger -> who decides it (`engine`, `operator`, `daq`, `reconciler`)."""
        self._reported_as: Mapping[str, str] = config.get("reported_as") or {}
        _check_syntax(name, config)
        plain = {key: value for key, value in config.items() if key not in {"decisions", "reported_as"}}
        self._machine = Machine(model=None, **plain)
        self.initial: str = config["initial"]
        self.states: tuple[str, ...] = tuple(self._machine.states)
        """All states, in the order of the file (so are triggers and transitions)."""
        self.finals: tuple[str, ...] = tuple(state.name for state in self._machine.states.values() if state.final)
        self.triggers: tuple[str, ...] = tuple(self._machine.events)
        """All triggers: steps and decisions."""
        self.transitions: tuple[Transition, ...] = tuple(
            Transition(source, trigger, each.dest or source)
            for trigger, event in self._machine.events.items()
            for source, found in event.transitions.items()
            for each in found
        )
        self._dests = {(source, trigger): dest for source, trigger, dest in self.transitions}
        self._check_semantics()
        self._steps = {source: trigger for source, trigger, _ in self.transitions if trigger not in self.decisions}

    @property
    def steps(self) -> tuple[str, ...]:
        """The triggers that are steps: each is the name of a function in the engine."""
        return tuple(trigger for trigger in self.triggers if trigger not in self.decisions)

    @property
    def success_state(self) -> str:
        """The state that the steps lead to from the initial state, without any decision."""
        state = self.initial
        while step := self._steps.get(state):
            state = self._dests[state, step]
        return state

    def step_from(self, state: str) -> str | None:
        """The step that leaves *state*, or None. Raises: MachineError for an unknown state."""
        return self._steps.get(self._known(state))

    def is_finalized(self, state: str) -> bool:
        """Whether no step leaves *state*: no work remains. Raises: MachineError for an unknown state."""
        return self.step_from(state) is None

    def reported_as(self, state: str) -> str | None:
        """The status that the monitor gets in *state*, or None. Raises: MachineError for an unknown state."""
        return self._reported_as.get(self._known(state))

    def may(self, state: str, trigger: str) -> bool:
        """Whether *trigger* leaves *state*; False for unknown names."""
        return (state, trigger) in self._dests

    def leads_to(self, trigger: str) -> tuple[str, ...]:
        """The states that *trigger* leads to from any state; none for an unknown name."""
        return tuple(dict.fromkeys(each.dest for each in self.transitions if each.trigger == trigger))

    def after(self, state: str, trigger: str) -> str:
        """The state that *trigger* leads to from *state*. Raises: MachineError if the chart has no such transition."""
        cursor = SimpleNamespace(state=self._known(state))  # the model that the `transitions` package moves
        event = self._machine.events.get(trigger)
        if event is None:
            raise MachineError(f"chart {self.name}: unknown trigger {trigger!r}")
        event.trigger(cursor)
        return str(cursor.state)

    def check_steps(self, step_names: Set[str]) -> None:
        """Check that the code has exactly the chart's steps. Raises: StatechartError."""
        if missing := sorted(set(self.steps) - step_names):
            raise StatechartError(f"chart {self.name}: step without code: {', '.join(missing)}")
        if unknown := sorted(step_names - set(self.steps)):
            raise StatechartError(f"chart {self.name}: step without transition: {', '.join(unknown)}")

    def _known(self, state: str) -> str:
        if state not in self._machine.states:
            raise MachineError(f"chart {self.name}: unknown state {state!r}")
        return state

    def _check_semantics(self) -> None:
        """Check what needs the whole chart: reachable states, known names, at most one step per state."""
        reached = {self.initial}
        while more := {dest for source, _, dest in self.transitions if source in reached} - reached:
            reached |= more
        step_sources = [source for source, trigger, _ in self.transitions if trigger not in self.decisions]
        problems = {
            "unreachable state": set(self.states) - reached,
            "transition out of the final state": {each.source for each in self.transitions} & set(self.finals),
            "more than one step leaves the state": {state for state in self.states if step_sources.count(state) > 1},
            "decisions: unknown trigger": set(self.decisions) - set(self.triggers),
            "reported_as: unknown state": set(self._reported_as) - set(self.states),
        }
        for problem, culprits in problems.items():
            if culprits:
                raise StatechartError(f"chart {self.name}: {problem} {', '.join(sorted(map(repr, culprits)))}")


def _check_syntax(name: str, config: Mapping[str, Any]) -> None:
    """Reject what `transitions` would silently accept: unknown states, duplicates, callbacks, automatic `to_state`."""
    _check_keys(f"chart {name}", config, _CHART_KEYS)
    if config.get("auto_transitions") is not False:
        raise StatechartError(f"chart {name}: auto_transitions must be false, or every state leads to every other")
    states = [state if isinstance(state, dict) else {"name": state} for state in config["states"]]
    for state in states:
        _check_keys(f"chart {name}: state {state.get('name')!r}", state, _STATE_KEYS)
    known = {state["name"] for state in states}
    if config["initial"] not in known:
        raise StatechartError(f"chart {name}: initial: unknown state {config['initial']!r}")
    seen: set[tuple[str, str]] = set()
    for transition in config["transitions"]:
        trigger, sources = transition.get("trigger"), transition["source"]
        _check_keys(f"chart {name}: transition {trigger!r}", transition, _TRANSITION_KEYS)
        sources = sources if isinstance(sources, list) else [sources]
        for state in [*sources, transition["dest"]]:
            if state not in known:
                raise StatechartError(f"chart {name}: transition {trigger!r}: unknown state {state!r}")
        for source in sources:
            if (source, trigger) in seen:
                raise StatechartError(f"chart {name}: two transitions {trigger!r} leave {source!r}")
            seen.add((source, trigger))


def _check_keys(where: str, part: Mapping[str, Any], allowed: Set[str]) -> None:
    if unknown := sorted(set(part) - allowed):
        raise StatechartError(f"{where}: key not allowed: {', '.join(unknown)}")


def parse_statechart(name: str, text: str) -> StateMachine:
    """The chart in *text* (YAML). Raises: StatechartError, which names the chart and the problem."""
    try:
        return StateMachine(name, yaml.safe_load(text))
    except (yaml.YAMLError, AttributeError, KeyError, TypeError) as error:
        raise StatechartError(f"chart {name}: not a statechart: {error!r}") from error


@cache
def load_statechart(name: StatechartName) -> StateMachine:
    """The chart *name* from `statecharts/`: inside the package if installed, beside it in a checkout."""
    package = Path(__file__).parents[1]
    inside = package / "statecharts"
    folder = inside if inside.is_dir() else package.parent / "statecharts"
    return parse_statechart(name, (folder / f"{name}.yaml").read_text(encoding="utf-8"))
