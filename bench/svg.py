"""Draws line plots as SVG, readable on light and dark pages."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 640, 360
LEFT, RIGHT, TOP, BOTTOM = 64, 32, 40, 64
COLORS = ("#2a7de1", "#d9822b", "#29a634", "#c23b8b", "#8f6bd9")
_STYLE = """
text { font: 12px sans-serif; fill: #333 } .title { font-size: 14px; font-weight: bold }
.axis { stroke: #333 } .grid { stroke: #8884; } .line { fill: none; stroke-width: 2 }
@media (prefers-color-scheme: dark) { text { fill: #ddd } .axis { stroke: #ddd } }
"""

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One axis: its label, and whether it is logarithmic (then all values are above 0)."""

    label: str
    log: bool = False

    def scale(self, values: Sequence[float]) -> Scale:
        """A scale that has room for *values*."""
        low, high = min(values, default=1.0), max(values, default=1.0)
        if self.log:
            first, last = math.floor(math.log10(low) + 1e-9), math.ceil(math.log10(high) - 1e-9)
            last = max(last, first + 1)
            return Scale(self.log, first, last, tuple(10.0**power for power in range(first, last + 1)))
        step = _step(high or 1.0)
        count = max(1, math.ceil(high / step - 1e-9))
        return Scale(self.log, 0, step * count, tuple(step * number for number in range(count + 1)))


@dataclass(frozen=True)
class Scale:
    """Maps values to the interval from 0 to 1; *ticks* are values to label."""

    log: bool
    first: float
    last: float
    ticks: tuple[float, ...]

    def place(self, value: float) -> float:
        """Where *value* lies."""
        position = math.log10(value) if self.log else value
        return (position - self.first) / (self.last - self.first)


def line_plot(title: str, x: Axis, y: Axis, series: Mapping[str, Points]) -> str:
    """Return an SVG document with one line for each of *series*, marked at each point if there are few."""
    points = [point for line in series.values() for point in line]
    across, up = x.scale([point[0] for point in points]), y.scale([point[1] for point in points])

    def at(point: tuple[float, float]) -> tuple[float, float]:
        inner_width, inner_height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
        return LEFT + inner_width * across.place(point[0]), HEIGHT - BOTTOM - inner_height * up.place(point[1])

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
        f"<title>{escape(title)}</title>",
        f"<style>{_STYLE}</style>",
        f'<text class="title" x="{LEFT}" y="22">{escape(title)}</text>',
        *_axes(across, up),
        _label(x.label, f'x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - BOTTOM + 34}"'),
        _label(y.label, f'transform="translate(14 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)"'),
    ]
    for number, (name, line) in enumerate(series.items()):
        color = COLORS[number % len(COLORS)]
        places = [at(point) for point in line]
        path = " ".join(f"{left:.1f},{top:.1f}" for left, top in places)
        parts.append(f'<polyline class="line" stroke="{color}" points="{path}"/>')
        if len(places) <= 10:
            parts += [f'<circle cx="{left:.1f}" cy="{top:.1f}" r="3" fill="{color}"/>' for left, top in places]
        parts.append(_legend(number, len(series), name, color))
    return "\n".join([*parts, "</svg>", ""])


def _axes(across: Scale, up: Scale) -> list[str]:
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts = []
    for tick in across.ticks:
        left = LEFT + (right - LEFT) * across.place(tick)
        parts.append(f'<line class="grid" x1="{left:.1f}" x2="{left:.1f}" y1="{TOP}" y2="{bottom}"/>')
        parts.append(f'<text x="{left:.1f}" y="{bottom + 16}" text-anchor="middle">{_number(tick)}</text>')
    for tick in up.ticks:
        top = bottom - (bottom - TOP) * up.place(tick)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{right}" y1="{top:.1f}" y2="{top:.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{top + 4:.1f}" text-anchor="end">{_number(tick)}</text>')
    parts.append(f'<line class="axis" x1="{LEFT}" x2="{right}" y1="{bottom}" y2="{bottom}"/>')
    parts.append(f'<line class="axis" x1="{LEFT}" x2="{LEFT}" y1="{TOP}" y2="{bottom}"/>')
    return parts


def _label(text: str, place: str) -> str:
    return f'<text {place} text-anchor="middle">{escape(text)}</text>'


def _legend(number: int, count: int, name: str, color: str) -> str:
    left = LEFT + (WIDTH - LEFT - RIGHT) * number / max(count, 2)
    top = HEIGHT - 14
    return (
        f'<rect x="{left:.0f}" y="{top - 9}" width="12" height="10" fill="{color}"/>'
        f'<text x="{left + 18:.0f}" y="{top}">{escape(name)}</text>'
    )


def _step(high: float) -> float:
    """A round step of which about five reach *high*."""
    power = 10.0 ** math.floor(math.log10(high / 5))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor * 5 >= high)


def _number(value: float) -> str:
    return f"{value:,.0f}".replace(",", " ") if value >= 1000 else f"{value:g}"
