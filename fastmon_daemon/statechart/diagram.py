"""Draws the charts: as Mermaid, Graphviz dot, SCXML or SVG, each with the number of STFs in every state where wanted.

All four are written from `StateMachine.transitions` alone, in the order of the file, so the same chart always gives
the same text. This module must not know what a state means, nor where the numbers come from.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Literal, NamedTuple, get_args
from xml.sax.saxutils import quoteattr

from fastmon_daemon.base.errors import ConfigError
from fastmon_daemon.statechart.machine import StatechartName, StateMachine, load_statechart

Format = Literal["mermaid", "dot", "scxml", "svg"]
Kind = Literal["step", "decision", "act"]

# One grey for arrows and their labels, and white on deep colours for states: legible on a light and on a dark page.
_GREY = "#768390"
_FILLS = {"working": "#0550ae", "resting": "#57606a", "final": "#1b1f24"}

_MERMAID_ARROWS: Mapping[Kind, str] = {"step": "==>", "decision": "-->", "act": "-.->"}
_DOT_STYLES: Mapping[Kind, str] = {"step": "bold", "decision": "solid", "act": "dashed"}

# This spacing and this curve keep the labels of neighbouring arrows off each other.
_LAYOUT = '%%{init: {"flowchart": {"nodeSpacing": 80, "curve": "monotoneY"}}}%%'

# The seed makes the renderer give the same file each time; labels in HTML would be lost where an SVG is only an image;
# labels of arrows lie on opaque plates, legible on a dark page too.
_RENDERING = {
    "handDrawnSeed": 1,
    "htmlLabels": False,
    "flowchart": {"htmlLabels": False},
    "themeCSS": ".edgeLabel rect { fill: #eaeef2 !important; opacity: 1 !important } .edgeLabel text { fill: #1b1f24 }",
}


class _Edge(NamedTuple):
    """The arrows of one kind between two states, drawn as one line that bears all their names."""

    source: str
    dest: str
    kind: Kind
    labels: tuple[str, ...]


def render(chart: StateMachine, form: Format, counts: Mapping[str, int] | None = None) -> str:
    """The picture of *chart* as text in *form*; *counts* (state -> number of STFs) go into the labels of the states.

    Steps are thick arrows, decisions of a program thin ones, acts of a person dashed. A state that *counts* leaves out
    has none: 0 is written. ConfigError where `svg` lacks its renderer.
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


def export_all(folder: Path) -> list[Path]:
    """Write `{chart}.mmd` and `{chart}.svg` of every chart into *folder*; the files written, in order.

    Run it on `statecharts/` after a change of a chart there: the pictures that travel with the charts are made so.
    """
    written = []
    for name in get_args(StatechartName):
        mermaid = render(load_statechart(name), "mermaid")
        for path, text in (
            (folder / f"{name}.mmd", mermaid),
            (folder / f"{name}.svg", _marked(_svg(mermaid), mermaid)),
        ):
            path.write_text(text, encoding="utf-8")
            written.append(path)
    return written


def is_exported_from(svg: str, mermaid: str) -> bool:
    """Whether `export_all` made *svg* from *mermaid* and nobody changed it since; to render it again takes seconds."""
    picture, _, _ = svg.rpartition("<!-- drawn from ")
    return svg == _marked(picture, mermaid)


def _marked(svg: str, mermaid: str) -> str:
    digest = sha256(f"{mermaid}{_RENDERING}{svg}".encode()).hexdigest()
    return f"{svg}<!-- drawn from {digest} -->\n"


def _edges(chart: StateMachine) -> Iterator[_Edge]:
    """The arrows, those that run side by side bundled: five lines between two states would hide one another."""
    bundles: dict[tuple[str, str, Kind], list[str]] = {}
    for source, trigger, dest in chart.transitions:
        who = chart.decisions.get(trigger)
        kind: Kind = "step" if who is None else "act" if who == "operator" else "decision"
        bundles.setdefault((source, dest, kind), []).append(trigger if who is None else f"{trigger} ({who})")
    for (source, dest, kind), labels in bundles.items():
        yield _Edge(source, dest, kind, tuple(labels))


def _label(state: str, counted: Mapping[str, int] | None, newline: str) -> str:
    return state if counted is None else f"{state}{newline}{counted[state]}"


def _look(chart: StateMachine, state: str) -> str:
    """How a state is coloured: by what the chart says of it, never by its name."""
    if state in chart.finals:
        return "final"
    return "resting" if chart.is_finalized(state) else "working"


def _mermaid(chart: StateMachine, counted: Mapping[str, int] | None) -> str:
    # A flowchart, since Mermaid's state diagrams cannot draw one arrow differently from another.
    lines = [_LAYOUT, "flowchart TB", "    start(( )):::start --> " + chart.initial]
    for state in chart.states:
        opening, closing = ("([", "])") if state in chart.finals else ("(", ")")
        lines.append(f'    {state}{opening}"{_label(state, counted, "<br>")}"{closing}:::{_look(chart, state)}')
    for source, dest, kind, labels in _edges(chart):
        lines.append(f'    {source} {_MERMAID_ARROWS[kind]}|"{"<br>".join(labels)}"| {dest}')
    lines.append(f"    classDef start fill:{_GREY},stroke:{_GREY}")
    for look, fill in _FILLS.items():
        border = "3px" if look == "final" else "1px"
        lines.append(f"    classDef {look} fill:{fill},stroke:{_GREY},stroke-width:{border},color:#ffffff")
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
        look = _look(chart, state)
        border = ", peripheries=2" if look == "final" else ""
        lines.append(
            f'    "{state}" [label="{_label(state, counted, chr(92) + "n")}", fillcolor="{_FILLS[look]}"{border}]'
        )
    lines.append(f'    start -> "{chart.initial}"')
    for source, dest, kind, labels in _edges(chart):
        text = "\\n".join(labels)
        lines.append(f'    "{source}" -> "{dest}" [label="{text}", style={_DOT_STYLES[kind]}]')
    lines.append("}")
    return "\n".join(lines) + "\n"


def _scxml(chart: StateMachine, counted: Mapping[str, int] | None) -> str:
    """W3C SCXML 1.0. It has no place for a number of STFs, so they stand in comments."""
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        '<scxml xmlns="http://www.w3.org/2005/07/scxml" version="1.0"',
        f"       name={quoteattr(chart.name)} initial={quoteattr(chart.initial)}>",
    ]
    for state in chart.states:
        element = "final" if state in chart.finals else "state"
        lines.append(f"  <{element} id={quoteattr(state)}>")
        if counted is not None:
            lines.append(f"    <!-- {counted[state]} -->")
        lines += [
            f"    <transition event={quoteattr(transition.trigger)} target={quoteattr(transition.dest)}/>"
            for transition in chart.transitions
            if transition.source == state
        ]
        lines.append(f"  </{element}>")
    lines.append("</scxml>")
    return "\n".join(lines) + "\n"


def _svg(mermaid: str) -> str:
    try:
        import mermaidx
    except ImportError as error:
        raise ConfigError(
            "--format svg: its renderer is not installed: pip install 'swf-fastmon[svg]', or take --format mermaid"
        ) from error
    svg = mermaidx.render(mermaid, config=_RENDERING).svg()
    return svg.rstrip("\n") + "\n"
