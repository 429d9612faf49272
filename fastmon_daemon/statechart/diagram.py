"""Renders statecharts as Mermaid, Graphviz dot, SCXML or SVG, optionally with the number of STFs in each state.

Mermaid and dot come from the exporters of `transitions`, SVG is drawn from its Mermaid. The label of an arrow names the
trigger and who decides it; a step names nobody. In dot, steps, decisions and operator actions also differ in style; the
arrows of Mermaid's state diagrams have only one. SCXML is written here: `transitions` has no exporter for it.

This module knows neither the meaning of a state nor the source of the numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal
from xml.etree import ElementTree

from transitions.extensions import GraphMachine
from transitions.extensions.states import Tags, add_state_features

from fastmon_daemon.base.errors import ConfigError
from fastmon_daemon.statechart.machine import StateMachine

Format = Literal["mermaid", "dot", "scxml", "svg"]

_GREY = "#768390"

RENDERING = {
    "handDrawnSeed": 1,  # the same file each time
    "htmlLabels": False,  # an SVG used as an image shows none
    "themeVariables": {"lineColor": _GREY, "transitionColor": _GREY, "specialStateColor": _GREY},
    "themeCSS": ".edgeLabel rect { fill: #eaeef2 !important; opacity: 1 !important } .edgeLabel text { fill: #1b1f24 }"
    f" .statediagramTitleText {{ fill: {_GREY} }}",
}
"""Mermaid's configuration for SVG: readable on light and dark pages."""


_LAYOUT = {"rankdir": "TB"}
_STYLES: dict[str, Any] = {
    "node": {
        "default": {"shape": "box", "style": "rounded,filled", "color": "white", "fontcolor": "white"},
        "working": {"fillcolor": "#0550ae", "color": "white"},
        "finalized": {"fillcolor": "#57606a", "color": "white"},
        "final": {"fillcolor": "#1b1f24", "color": "white", "stroke": _GREY, "stroke-width": "3px"},
    },
    "edge": {"step": {"style": "bold"}, "decision": {"style": "solid"}, "action": {"style": "dashed"}},
}
"""Both exporters take these, each what it knows: Graphviz calls `color` the border, Mermaid the text."""


@add_state_features(Tags)
class _Drawing(GraphMachine):
    machine_attributes = _LAYOUT
    style_attributes = _STYLES


def render(chart: StateMachine, form: Format, counts: Mapping[str, int] | None = None) -> str:
    """Render *chart* in *form*, with *counts* (state -> number of STFs; a missing state has 0) in the labels.

    Raises: ConfigError if the renderer of `svg` is not installed.
    """
    counted = None if counts is None else {state: counts.get(state, 0) for state in chart.states}
    match form:
        case "mermaid":
            return _exported(chart, counted, "mermaid", title=f"title: {chart.name}", newline="<br>")
        case "dot":
            return _exported(chart, counted, "graphviz", title=chart.name, newline="\\n")
        case "scxml":
            return _scxml(chart, counted)
        case "svg":
            return svg_of(render(chart, "mermaid", counts))


def _exported(
    chart: StateMachine,
    counted: Mapping[str, int] | None,
    engine: Literal["mermaid", "graphviz"],
    *,
    title: str,
    newline: str,
) -> str:
    """Several triggers between two states share an arrow, in the style of the last one."""
    deciders = {trigger: f"{newline}({decider})" for trigger, decider in chart.decisions.items()}
    machine = _Drawing(
        model=None,
        initial=chart.initial,
        auto_transitions=False,
        states=[{"name": state, "tags": [str(counted[state])] if counted else []} for state in chart.states],
        transitions=[
            {"trigger": trigger, "source": source, "dest": dest, "label": trigger + deciders.get(trigger, "")}
            for source, trigger, dest in chart.transitions
        ],
        show_state_attributes=counted is not None,
        graph_engine=engine,
    )
    graph: Any = machine.graph_cls(machine)
    for state in chart.states:
        style = "final" if state in chart.finals else "finalized" if chart.is_finalized(state) else "working"
        graph.set_node_style(state, style)
    for source, trigger, dest in chart.transitions:
        kind = "action" if chart.decisions.get(trigger) == "operator" else "decision"
        graph.custom_styles["edge"][source][dest] = "step" if trigger in chart.steps else kind
    return str(graph.get_graph(title=title).source).rstrip() + "\n"


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


def svg_of(mermaid: str) -> str:
    """Draw *mermaid* as SVG. Raises: ConfigError if the renderer is not installed."""
    try:
        import mermaidx
    except ImportError as error:
        raise ConfigError(
            "--format svg: renderer not installed: pip install 'swf-fastmon[svg]', or use --format mermaid"
        ) from error
    svg = mermaidx.render(mermaid, config=RENDERING).svg()
    return svg.rstrip("\n") + "\n"
