"""Statecharts follow their files, raise on everything else, and do not load if they contradict themselves."""

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from fastmon_daemon.statechart import StateMachine, load_statechart
from fastmon_daemon.statechart.machine import MachineError, StatechartError, parse_statechart

REPOSITORY = Path(__file__).parents[2]
CHARTS = [load_statechart("stf"), load_statechart("run")]


def transitions_in_file(name: str) -> dict[tuple[str, str], str]:
    """(state, trigger) -> state, read from the file without the loader."""
    config = yaml.safe_load((REPOSITORY / "statecharts" / f"{name}.yaml").read_text(encoding="utf-8"))
    found = {}
    for each in config["transitions"]:
        sources = each["source"] if isinstance(each["source"], list) else [each["source"]]
        found.update({(source, each["trigger"]): each["dest"] for source in sources})
    return found


EVERY_PAIR = [
    pytest.param(chart, state, trigger, id=f"{chart.name}-{state}-{trigger}")
    for chart in CHARTS
    for state in [*chart.states, "no_such_state"]
    for trigger in [*chart.triggers, "no_such_trigger", f"to_{chart.initial}"]
]


@pytest.mark.parametrize(("chart", "state", "trigger"), EVERY_PAIR)
def test_transitions_lead_where_the_file_says_and_all_others_raise(
    chart: StateMachine, state: str, trigger: str
) -> None:
    dest = transitions_in_file(chart.name).get((state, trigger))
    before = chart.transitions

    for _ in range(2):  # a call must not change the next answer
        assert chart.may(state, trigger) is (dest is not None)
        if dest is None:
            with pytest.raises(MachineError):
                chart.after(state, trigger)
        else:
            assert chart.after(state, trigger) == dest
    assert chart.transitions == before


@pytest.mark.parametrize("chart", CHARTS, ids=lambda chart: chart.name)
def test_a_chart_has_exactly_the_transitions_of_its_file(chart: StateMachine) -> None:
    assert {(each.source, each.trigger): each.dest for each in chart.transitions} == transitions_in_file(chart.name)


def test_steps_lead_from_the_initial_state_to_completed() -> None:
    chart = load_statechart("stf")
    steps = []
    state = chart.initial
    while step := chart.step_from(state):
        state = chart.after(state, step)
        steps.append((step, state))

    assert steps == [
        ("sample_tfs", "sampled"),
        ("register_tfs", "tf_registered"),
        ("notify_clients", "notified"),
        ("close_stf", "completed"),
    ]
    assert chart.steps == tuple(step for step, _ in steps)


def test_an_stf_can_fail_exactly_in_the_states_that_are_not_finalized() -> None:
    chart = load_statechart("stf")
    assert all(chart.may(state, "fail") is not chart.is_finalized(state) for state in chart.states)


def test_completed_skipped_failed_and_discarded_are_finalized() -> None:
    chart = load_statechart("stf")
    assert [state for state in chart.states if chart.is_finalized(state)] == [
        "completed",
        "skipped",
        "failed",
        "discarded",
    ]
    assert chart.finals == ("completed", "discarded")


def test_skipped_and_discarded_stfs_are_not_reported() -> None:
    chart = load_statechart("stf")
    assert {state: chart.reported_as(state) for state in chart.states} == {
        "received": "fastmon_received",
        "sampled": "fastmon_processing",
        "tf_registered": "fastmon_processing",
        "notified": "fastmon_processing",
        "completed": "fastmon_complete",
        "failed": "failed",
        "skipped": None,
        "discarded": None,
    }


def test_each_decision_names_who_takes_it() -> None:
    assert load_statechart("stf").decisions == {
        "skip": "engine",
        "fail": "engine",
        "retry": "operator",
        "discard": "operator",
        "include": "operator",
    }
    assert set(load_statechart("run").decisions) == set(load_statechart("run").triggers)


@pytest.mark.parametrize("state", ["imminent", "running", "paused"])
def test_end_run_ends_a_run_in_any_open_state(state: str) -> None:
    assert load_statechart("run").after(state, "end_run") == "ended"


@pytest.mark.parametrize("trigger", ["run_imminent", "start_run", "pause_run", "resume_run", "stf_seen", "end_run"])
def test_late_messages_do_not_reopen_an_ended_run(trigger: str) -> None:
    chart = load_statechart("run")
    assert not chart.may("ended", trigger)
    assert not chart.may("complete", trigger)


def test_an_stf_starts_an_imminent_run_but_ends_no_pause() -> None:
    chart = load_statechart("run")
    assert chart.after("imminent", "stf_seen") == "running"
    assert not chart.may("paused", "stf_seen")


@pytest.mark.parametrize("method", ["step_from", "is_finalized", "reported_as"])
def test_an_unknown_state_raises(method: str) -> None:
    with pytest.raises(MachineError, match="'recieved'"):
        getattr(load_statechart("stf"), method)("recieved")


def test_a_chart_is_loaded_once_per_process() -> None:
    assert load_statechart("stf") is load_statechart("stf")


def test_code_and_chart_must_have_the_same_steps() -> None:
    chart = load_statechart("stf")
    chart.check_steps(set(chart.steps))
    with pytest.raises(StatechartError, match="stf: step without code: close_stf"):
        chart.check_steps(set(chart.steps) - {"close_stf"})
    with pytest.raises(StatechartError, match="step without transition: archive_stf"):
        chart.check_steps({*chart.steps, "archive_stf"})


def small_chart() -> dict[str, Any]:
    return {
        "name": "small",
        "initial": "new",
        "auto_transitions": False,
        "states": ["new", {"name": "old", "final": True}, "broken"],
        "transitions": [
            {"trigger": "age", "source": "new", "dest": "old"},
            {"trigger": "break_it", "source": ["new"], "dest": "broken"},
        ],
        "decisions": {"break_it": "operator"},
        "reported_as": {"new": "fresh"},
    }


def transition(trigger: str, source: Any, dest: Any, **more: Any) -> dict[str, Any]:
    return {"trigger": trigger, "source": source, "dest": dest, **more}


def test_the_small_chart_is_valid() -> None:
    assert parse_statechart("small", yaml.safe_dump(small_chart())).step_from("new") == "age"


INVALID_TRANSITIONS = {
    "unknown source": (transition("age", "nwe", "old"), "'age': unknown state 'nwe'"),
    "unknown destination": (transition("age", "broken", "odl"), "'age': unknown state 'odl'"),
    "wildcard": (transition("repair", "*", "new"), r"'repair': unknown state '\*'"),
    "no destination": (transition("repair", "broken", None), "'repair': unknown state None"),
    "twice from one state": (transition("age", ["broken", "new"], "broken"), "two transitions 'age' leave 'new'"),
    "out of a final state": (transition("break_it", "old", "broken"), "transition out of the final state 'old'"),
    "second step": (transition("hurry", "new", "old"), "more than one step leaves the state 'new'"),
} | {
    callback: (
        transition("age", "broken", "old", **{callback: "shout"}),
        f"'age': key not allowed: {callback}",
    )
    for callback in ("before", "after", "conditions", "unless", "prepare")
}


@pytest.mark.parametrize(("extra", "problem"), INVALID_TRANSITIONS.values(), ids=INVALID_TRANSITIONS)
def test_a_chart_with_an_invalid_transition_is_rejected(extra: dict[str, Any], problem: str) -> None:
    config = small_chart()
    config["transitions"].append(extra)
    with pytest.raises(StatechartError, match=f"^chart small: .*{problem}"):
        parse_statechart("small", yaml.safe_dump(config))


INVALID_CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "unreachable state": ({"states": ["new", "old", "broken", "lost"]}, "unreachable state 'lost'"),
    "callback of a state": (
        {"states": ["new", "old", {"name": "broken", "on_enter": "x"}]},
        "key not allowed: on_enter",
    ),
    "callback on leaving": (
        {"states": ["new", "old", {"name": "broken", "on_exit": "x"}]},
        "key not allowed: on_exit",
    ),
    "callback of the machine": ({"before_state_change": "x"}, "before_state_change"),
    "unknown initial state": ({"initial": "newer"}, "initial: unknown state 'newer'"),
    "automatic transitions": ({"auto_transitions": True}, "auto_transitions must be false"),
    "decision on no trigger": (
        {"decisions": {"break_it": "operator", "repair": "operator"}},
        "unknown trigger 'repair'",
    ),
    "report of no state": ({"reported_as": {"newer": "fresh"}}, "unknown state 'newer'"),
    "no transitions": ({"transitions": None}, "not a statechart"),
}


@pytest.mark.parametrize(("change", "problem"), INVALID_CHANGES.values(), ids=INVALID_CHANGES)
def test_a_chart_that_contradicts_itself_is_rejected(change: dict[str, Any], problem: str) -> None:
    with pytest.raises(StatechartError, match=f"^chart small: .*{problem}"):
        parse_statechart("small", yaml.safe_dump(small_chart() | change))


@pytest.mark.parametrize("text", ["", "a: [", "just words", "[1, 2]"])
def test_a_file_that_is_not_a_chart_is_rejected(text: str) -> None:
    with pytest.raises(StatechartError, match=r"^chart odd: "):
        parse_statechart("odd", text)


def test_charts_are_found_inside_an_installed_package(tmp_path: Path) -> None:
    pyproject = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    inside = pyproject["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]["statecharts"]
    package = tmp_path / "fastmon_daemon"
    for part in ("base", "statechart"):
        shutil.copytree(REPOSITORY / "fastmon_daemon" / part, package / part)
    shutil.copy(REPOSITORY / "fastmon_daemon" / "__init__.py", package)
    shutil.copytree(REPOSITORY / "statecharts", tmp_path / inside)

    program = "from fastmon_daemon.statechart import machine as m; print(m.__file__, *m.load_statechart('stf').steps)"
    answer = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60
    )
    assert answer.stdout.split() == [str(package / "statechart" / "machine.py"), *load_statechart("stf").steps]
