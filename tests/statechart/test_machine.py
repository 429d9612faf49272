"""The charts answer as their files say, refuse everything else, and a chart that contradicts itself is not loaded."""

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from fastmon_daemon.statechart import MachineError, StatechartError, StateMachine, load_statechart, parse_statechart

REPOSITORY = Path(__file__).parents[2]
CHARTS = [load_statechart("stf"), load_statechart("run")]


def arrows_of_the_file(name: str) -> dict[tuple[str, str], str]:
    """(state, trigger) -> state, read from the file without the help of the loader."""
    config = yaml.safe_load((REPOSITORY / "statecharts" / f"{name}.yaml").read_text(encoding="utf-8"))
    arrows = {}
    for arrow in config["transitions"]:
        sources = arrow["source"] if isinstance(arrow["source"], list) else [arrow["source"]]
        arrows.update({(source, arrow["trigger"]): arrow["dest"] for source in sources})
    return arrows


EVERY_PAIR = [
    pytest.param(chart, state, trigger, id=f"{chart.name}-{state}-{trigger}")
    for chart in CHARTS
    for state in [*chart.states, "no_such_state"]
    for trigger in [*chart.triggers, "no_such_trigger", f"to_{chart.initial}"]
]


@pytest.mark.parametrize(("chart", "state", "trigger"), EVERY_PAIR)
def test_a_legal_arrow_leads_where_the_file_says_and_any_other_raises_and_changes_nothing(
    chart: StateMachine, state: str, trigger: str
) -> None:
    dest = arrows_of_the_file(chart.name).get((state, trigger))
    before = chart.transitions

    for _ in range(2):  # asked twice, since a question must not change the next answer
        assert chart.may(state, trigger) is (dest is not None)
        if dest is None:
            with pytest.raises(MachineError):
                chart.after(state, trigger)
        else:
            assert chart.after(state, trigger) == dest
    assert chart.transitions == before


@pytest.mark.parametrize("chart", CHARTS, ids=lambda chart: chart.name)
def test_the_arrows_of_a_chart_are_those_of_its_file(chart: StateMachine) -> None:
    assert {(arrow.source, arrow.trigger): arrow.dest for arrow in chart.transitions} == arrows_of_the_file(chart.name)


def test_an_stf_walks_from_step_to_step_until_it_rests() -> None:
    chart = load_statechart("stf")
    walk = []
    state = chart.initial
    while step := chart.step_from(state):
        state = chart.after(state, step)
        walk.append((step, state))

    assert walk == [
        ("sample_tfs", "sampled"),
        ("register_tfs", "tf_registered"),
        ("notify_clients", "notified"),
        ("close_stf", "completed"),
    ]
    assert chart.steps == tuple(step for step, _ in walk)


def test_an_stf_can_fail_wherever_a_step_is_owed_and_only_there() -> None:
    chart = load_statechart("stf")
    assert all(chart.may(state, "fail") is not chart.is_finalized(state) for state in chart.states)


def test_an_stf_is_owed_nothing_when_completed_skipped_failed_or_discarded() -> None:
    chart = load_statechart("stf")
    assert [state for state in chart.states if chart.is_finalized(state)] == [
        "completed",
        "skipped",
        "failed",
        "discarded",
    ]
    assert chart.finals == ("completed", "discarded")


def test_the_monitor_is_told_nothing_of_skipped_and_discarded_stfs() -> None:
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


def test_every_decision_has_its_owner() -> None:
    assert load_statechart("stf").decisions == {
        "skip": "engine",
        "fail": "engine",
        "retry": "operator",
        "discard": "operator",
        "include": "operator",
    }
    assert set(load_statechart("run").decisions) == set(load_statechart("run").triggers)


@pytest.mark.parametrize("state", ["imminent", "running", "paused"])
def test_a_run_ends_from_wherever_it_was_last_heard_of(state: str) -> None:
    assert load_statechart("run").after(state, "end_run") == "ended"


@pytest.mark.parametrize("trigger", ["run_imminent", "start_run", "pause_run", "resume_run", "hear_stf", "end_run"])
def test_nothing_late_opens_an_ended_run_again(trigger: str) -> None:
    chart = load_statechart("run")
    assert not chart.may("ended", trigger)
    assert not chart.may("complete", trigger)


def test_an_stf_starts_a_run_of_which_nobody_told_us_but_ends_no_pause() -> None:
    chart = load_statechart("run")
    assert chart.after("imminent", "hear_stf") == "running"
    assert not chart.may("paused", "hear_stf")


@pytest.mark.parametrize("question", ["step_from", "is_finalized", "reported_as"])
def test_an_unknown_state_is_never_taken_for_one_at_rest(question: str) -> None:
    with pytest.raises(MachineError, match="'recieved'"):
        getattr(load_statechart("stf"), question)("recieved")


def test_a_chart_is_loaded_once_per_process() -> None:
    assert load_statechart("stf") is load_statechart("stf")


def test_the_code_must_have_exactly_the_steps_of_the_chart() -> None:
    chart = load_statechart("stf")
    chart.check_steps(set(chart.steps))
    with pytest.raises(StatechartError, match="stf: close_stf: neither a step with code nor a decision"):
        chart.check_steps(set(chart.steps) - {"close_stf"})
    with pytest.raises(StatechartError, match="no arrow of a step is called archive_stf"):
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


def arrow(trigger: str, source: Any, dest: Any, **more: Any) -> dict[str, Any]:
    return {"trigger": trigger, "source": source, "dest": dest, **more}


def test_the_small_chart_of_these_tests_is_sound() -> None:
    assert parse_statechart("small", yaml.safe_dump(small_chart())).step_from("new") == "age"


REFUSED_ARROWS = {
    "unknown source": (arrow("age", "nwe", "old"), "'age': no state is called 'nwe'"),
    "unknown destination": (arrow("age", "broken", "odl"), "'age': no state is called 'odl'"),
    "wildcard": (arrow("repair", "*", "new"), r"'repair': no state is called '\*'"),
    "no destination": (arrow("repair", "broken", None), "'repair': no state is called None"),
    "twice from one state": (arrow("age", ["broken", "new"], "broken"), "two arrows 'age' leave 'new'"),
    "out of a final state": (arrow("break_it", "old", "broken"), "an arrow leaves the final state 'old'"),
    "second step": (arrow("hurry", "new", "old"), "more than one step leaves the state 'new'"),
} | {
    callback: (arrow("age", "broken", "old", **{callback: "shout"}), f"'age': {callback} may not stand in a chart")
    for callback in ("before", "after", "conditions", "unless", "prepare")
}


@pytest.mark.parametrize(("extra", "complaint"), REFUSED_ARROWS.values(), ids=REFUSED_ARROWS)
def test_a_chart_with_a_senseless_arrow_is_refused_by_name(extra: dict[str, Any], complaint: str) -> None:
    config = small_chart()
    config["transitions"].append(extra)
    with pytest.raises(StatechartError, match=f"^chart small: .*{complaint}"):
        parse_statechart("small", yaml.safe_dump(config))


REFUSED_CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "unreachable state": ({"states": ["new", "old", "broken", "lost"]}, "no way leads to the state 'lost'"),
    "callback of a state": ({"states": ["new", "old", {"name": "broken", "on_enter": "x"}]}, "'broken': on_enter"),
    "callback on leaving": ({"states": ["new", "old", {"name": "broken", "on_exit": "x"}]}, "'broken': on_exit"),
    "callback of the machine": ({"before_state_change": "x"}, "before_state_change"),
    "unknown initial state": ({"initial": "newer"}, "initial: no state is called 'newer'"),
    "automatic transitions": ({"auto_transitions": True}, "auto_transitions must be false"),
    "decision on no trigger": (
        {"decisions": {"break_it": "operator", "mend": "operator"}},
        "no trigger is called 'mend'",
    ),
    "report of no state": ({"reported_as": {"newer": "fresh"}}, "no state is called 'newer'"),
    "no arrows at all": ({"transitions": None}, "not the form of a chart"),
}


@pytest.mark.parametrize(("change", "complaint"), REFUSED_CHANGES.values(), ids=REFUSED_CHANGES)
def test_a_chart_that_contradicts_itself_is_refused_by_name(change: dict[str, Any], complaint: str) -> None:
    with pytest.raises(StatechartError, match=f"^chart small: .*{complaint}"):
        parse_statechart("small", yaml.safe_dump(small_chart() | change))


@pytest.mark.parametrize("text", ["", "a: [", "just words", "[1, 2]"])
def test_a_file_that_is_no_chart_is_refused_by_name(text: str) -> None:
    with pytest.raises(StatechartError, match=r"^chart odd: "):
        parse_statechart("odd", text)


def test_the_charts_are_found_inside_an_installed_package(tmp_path: Path) -> None:
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
