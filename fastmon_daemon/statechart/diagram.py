"""Renders statecharts as Mermaid, Graphviz dot, SCXML or SVG, optionally with the number of STFs in each state.

All formats follow `StateMachine.transitions` in the order of the file: the same chart always gives the same text.
This module knows neither the meaning of a state nor the source of the numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal
from xml.etree import ElementTree

from fastmon_daemon.base.errors import ConfigError
from fastmon_daemon.statechart.machine import StateMachine

Format = Literal["mermaid", "dot", "scxml", "svg"]
Kind = Literal["step", "decision", "action"]

# Grey arrows and labels, white text on dark states: readable on light and dark pages.
_GREY = "#768390"
_FILLS = {"working": "#0550ae", "finalized": "#57606a", "final": "#1b1f24"}

_MERMAID_ARROWS: Mapping[Kind, str] = {"step": "==>", "decision": "-->", "action": "-.->"}
_DOT_STYLES: Mapping[Kind, str] = {"step": "bold", "decision": "solid", "action": "dashed"}

# With this spacing and curve the labels of neighbouring arrows do not overlap.
_LAYOUT = '%%{init: {"flowchart": {"nodeSpacing": 80, "curve": "monotoneY"}}}%%'

# A fixed seed gives the same file each time; an SVG used as an image shows no HTML labels; an opaque background keeps
# the labels of arrows readable on a dark page.
RENDERING = {
    "handDrawnSeed": 1,
    "htmlLabels": False,
    "flowchart": {"htmlLabels": False},
    "themeCSS": ".edgeLabel rect { fill: #eaeef2 !important; opacity: 1 !important } .edgeLabel text { fill: #1b1f24 }",
}


def render(chart: StateMachine, form: Format, counts: Mapping[str, int] | None = None) -> str:
    """Render *chart* in *form*, with *counts* (state -> number of STFs; a missing state has 0) in the labels.

    Steps are thick arrows, decisions of the software thin ones, operator actions dashed ones.

    Raises: ConfigError if the renderer of `svg` is not installed.
    """
    counted = None if counts is None else {state: counts.get(state, 0) for state in chart.states}
    match form:
        case "mermaid":
            return _mermaid(chart, counted)
        case "dot":
            return _dot(chart, counted)
        case "scxml":
            return _scxml(chart, counted)
        case "svg":
            return _svg(_mermaid(chart, counted))


def _edges(chart: StateMachine) -> dict[tuple[str, str, Kind], list[str]]:
    """(source, dest, kind) -> labels: one arrow per kind and pair of states; parallel ones would hide each other."""
    bundles: dict[tuple[str, str, Kind], list[str]] = {}
    for source, trigger, dest in chart.transitions:
        decider = chart.decisions.get(trigger)
        kind: Kind = "step" if decider is None else "action" if decider == "operator" else "decision"
        bundles.setdefault((source, dest, kind), []).append(trigger if decider is None else f"{trigger} ({decider})")
    return bundles


def _label(state: str, counted: Mapping[str, int] | None, newline: str) -> str:
    return state if counted is None else f"{state}{newline}{counted[state]}"


def _style(chart: StateMachine, state: str) -> str:
    """The key of `_FILLS` for a state."""
    if state in chart.finals:
        return "final"
    return "finalized" if chart.is_finalized(state) else "working"


def _mermaid(chart: StateMachine, counted: Mapping[str, int] | None) -> str:
    # A flowchart, because Mermaid's state diagrams have only one style of arrow.
    lines = [_LAYOUT, "flowchart TB", "    start(( )):::start --> " + chart.initial]
    for state in chart.states:
        opening, closing = ("([", "])") if state in chart.finals else ("(", ")")
        lines.append(f'    {state}{opening}"{_label(state, counted, "<br>")}"{closing}:::{_style(chart, state)}')
    for (source, dest, kind), labels in _edges(chart).items():
        lines.append(f'    {source} {_MERMAID_ARROWS[kind]}|"{"<br>".join(labels)}"| {dest}')
    lines.append(f"    classDef start fill:{_GREY},stroke:{_GREY}")
    for style, fill in _FILLS.items():
        border = "3px" if style == "final" else "1px"
        lines.append(f"    classDef {style} fill:{fill},stroke:{_GREY},stroke-width:{border},color:#ffffff")
    lines.append(f"    linkStyle default stroke:{_GREY}")
    return "\n".join(lines) + "\n"


def _dot(chart: StateMachine, counted: Mapping[str, int] | None) -> str:
    lines = [
        f"digraph {chart.name} {{",
        '    graph [rankdir=TB, bgcolor=transparent, fontname="sans-serif"]',
        f'    node [shape=box, style="rounded,filled", color="{_GREY}", fontcolor=white, fontname="sans-serif"]',
        f'    edge [color="{_GREY}", fontcolor="{_GREY}", fontname="sans-serif"]',
        f'    start [shape=circle, label="", width=0.2, fillcolor="{_GREY}"]',
    ]
    for state in chart.states:
        style = _style(chart, state)
        border = ", peripheries=2" if style == "final" else ""
        lines.append(
            f'    "{state}" [label="{_label(state, counted, chr(92) + "n")}", fillcolor="{_FILLS[style]}"{border}]'
        )
    lines.append(f'    start -> "{chart.initial}"')
    for (source, dest, kind), labels in _edges(chart).items():
        text = "\\n".join(labels)
        lines.append(f'    "{source}" -> "{dest}" [label="{text}", style={_DOT_STYLES[kind]}]')
    lines.append("}")
    return "\n".join(lines) + "\n"


def _scxml(chart: StateMachine, counted: Mapping[str, int] | None) -> str:
    """W3C SCXML 1.0. It has no element for numbers of STFs: they are comments."""
    namespace = "http://www.w3.org/2005/07/scxml"
    root = ElementTree.Element("scxml", xmlns=namespace, version="1.0", name=chart.name, initial=chart.initial)
    for state in chart.states:
        element = ElementTree.SubElement(root, "final" if state in chart.finals else "state", id=state)
        if counted is not None:
            element.append(ElementTree.Comment(f" {counted[state]} "))
        for source, trigger, dest in chart.transitions:
            if source == state:
                ElementTree.SubElement(element, "transition", event=trigger, target=dest)
    ElementTree.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ElementTree.tostring(root, encoding="unicode")}\n'


def _svg(mermaid: str) -> str:
    try:
        import mermaidx
    except ImportError as error:
        raise ConfigError(
            "--format svg: renderer not installed: pip install 'swf-fastmon[svg]', or use --format mermaid"
        ) from error
    svg = mermaidx.render(mermaid, config=RENDERING).svg()
    return svg.rstrip("\n") + "\n"
