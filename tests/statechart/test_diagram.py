"""Diagrams show each transition once, with counts if given; the checked-in pictures match the charts."""

import re
import sys
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest

from fastmon_daemon.statechart import StateMachine, load_statechart
from fastmon_daemon.statechart.diagram import Format, render
from tests.processes import run_in_process

STATECHARTS = Path(__file__).parents[2] / "statecharts"
CHARTS = [load_statechart("stf"), load_statechart("run")]
SCXML = "{http://www.w3.org/2005/07/scxml}"
every_chart = pytest.mark.parametrize("chart", CHARTS, ids=lambda chart: chart.name)

ARROWS_IN = {
    "mermaid": re.compile(r"^ *(?P<source>\w+) --> (?P<dest>\w+): (?P<labels>.*)$", re.MULTILINE),
    "dot": re.compile(
        r'^\s*(?P<source>\w+) -> (?P<dest>\w+) \[label=(?P<labels>"[^"]*"|\w+) style=(?P<style>\w+)\]$', re.MULTILINE
    ),
}


def arrows_drawn(chart: StateMachine, form: Format) -> list[tuple[str, str, str]]:
    """(source, label, dest) of every transition in the text; an arrow may have several labels."""
    return [
        (arrow["source"], re.sub(r"<br>|\\n", " ", label), arrow["dest"])
        for arrow in ARROWS_IN[form].finditer(render(chart, form))
        for label in arrow["labels"].strip('"').split(" | ")
    ]


def arrows_expected(chart: StateMachine) -> list[tuple[str, str, str]]:
    return [
        (source, f"{trigger} ({chart.decisions[trigger]})" if trigger in chart.decisions else trigger, dest)
        for source, trigger, dest in chart.transitions
    ]


@pytest.mark.field("0d")
@every_chart
@pytest.mark.parametrize("form", ["mermaid", "dot"])
def test_each_transition_is_drawn_once_with_who_decides_it(chart: StateMachine, form: Format) -> None:
    assert sorted(arrows_drawn(chart, form)) == sorted(arrows_expected(chart))


@pytest.mark.field("0d")
def test_steps_decisions_and_operator_actions_have_different_arrows_in_dot() -> None:
    arrows = ARROWS_IN["dot"].finditer(render(load_statechart("stf"), "dot"))
    styles = {arrow["labels"].strip('"'): arrow["style"] for arrow in arrows}
    assert (styles["sample_tfs"], styles["skip\\n(engine)"], styles["retry\\n(operator)"]) == (
        "bold",
        "solid",
        "dashed",
    )


@every_chart
def test_states_differ_in_style_if_work_remains_and_if_they_are_final(chart: StateMachine) -> None:
    styles = dict(re.findall(r"^ *Class (\w+) s_(\w+)$", render(chart, "mermaid"), re.MULTILINE))
    assert [state for state in chart.states if styles[state] == "final"] == list(chart.finals)
    assert all((style == "working") is not chart.is_finalized(state) for state, style in styles.items())
    assert f"[*] --> {chart.initial}\n" in render(chart, "mermaid")


@every_chart
def test_scxml_has_the_states_and_transitions_of_the_chart(chart: StateMachine) -> None:
    root = ElementTree.fromstring(render(chart, "scxml"))
    transitions = [
        (state.get("id"), each.get("event"), each.get("target"))
        for state in root
        for each in state.iter(f"{SCXML}transition")
    ]
    assert root.get("initial") == chart.initial
    assert [state.get("id") for state in root] == list(chart.states)
    assert [state.get("id") for state in root.iter(f"{SCXML}final")] == list(chart.finals)
    assert sorted(transitions) == sorted(tuple(each) for each in chart.transitions)


@pytest.mark.parametrize(
    ("form", "some", "none"),
    [
        ("mermaid", '"sampled [42]"', '"failed [0]"'),
        ("dot", 'label="sampled [42]', 'label="failed [0]'),
        ("scxml", '<state id="sampled">\n    <!-- 42 -->', '<state id="failed">\n    <!-- 0 -->'),
    ],
)
def test_labels_of_states_show_their_counts(form: Format, some: str, none: str) -> None:
    chart = load_statechart("stf")
    picture = render(chart, form, {"sampled": 42})
    assert some in picture
    assert none in picture
    assert "42" not in render(chart, form)


def test_the_svg_shows_counts() -> None:
    states = {"auto_transitions": False, "initial": "sampled", "states": ["sampled", {"name": "failed", "final": True}]}
    small = StateMachine(
        "small", {**states, "transitions": [{"trigger": "fail", "source": "sampled", "dest": "failed"}]}
    )
    texts = ElementTree.fromstring(render(small, "svg", {"sampled": 42})).iter("{http://www.w3.org/2000/svg}text")
    assert {"sampled [42]", "failed [0]"} <= {
        "".join(text.itertext()) for text in texts
    }  # a small chart: the large ones take seconds each


def test_svg_labels_need_no_html() -> None:
    root = ElementTree.parse(STATECHARTS / "stf.svg").getroot()
    words = {text for element in root.iter() if (text := element.text)}
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert set(load_statechart("stf").states) <= words
    assert not list(root.iter("{http://www.w3.org/2000/svg}foreignObject"))


def test_svg_without_its_renderer_tells_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mermaidx", None)
    done = run_in_process(("diagram", "--format", "svg"), {})
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "fastmon-daemon: mermaidx is missing: pip install '.[svg]' in the clone\n"


@every_chart
def test_the_checked_in_pictures_match_the_charts(chart: StateMachine, generate: ModuleType) -> None:
    # docs/generate.py --check also renders them, which takes some ten seconds.
    mermaid, svg = (STATECHARTS / f"{chart.name}.{suffix}" for suffix in ("mmd", "svg"))
    assert mermaid.read_text(encoding="utf-8") == render(chart, "mermaid"), "render it again: make docs"
    assert generate.is_exported_from(svg.read_text(encoding="utf-8"), render(chart, "mermaid")), (
        "render it again: make docs"
    )


def test_pictures_of_another_chart_or_changed_by_hand_are_detected(generate: ModuleType) -> None:
    svg, mermaid = (STATECHARTS / "run.svg").read_text(encoding="utf-8"), render(load_statechart("run"), "mermaid")
    assert not generate.is_exported_from(svg, mermaid.replace("paused", "halted"))
    assert not generate.is_exported_from(svg.replace("paused", "halted"), mermaid)
    assert not generate.is_exported_from(svg.rpartition("<!--")[0], mermaid)
