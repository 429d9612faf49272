"""What a benchmark found: one figure with its goal, and the samples of both sides."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One figure of the table: the median of the ratios by round or, without `theirs`, the median of `ours`."""

    key: str
    title: str
    goal: float
    at_most: bool = False
    """Whether the goal is an upper limit; else it is a lower one."""
    unit: str
    """Unit of the samples."""
    ours: Sequence[float]
    theirs: Sequence[float] = ()
    """What it is compared with, measured side by side: sample *n* of both is of round *n*."""
    than: str = ""
    """What `theirs` is."""
    more: dict[str, Any] = field(default_factory=dict)
    """Further values for the JSON object."""
    also: Sequence[Figure] = ()
    """What was measured with it and has a goal of its own: a row of the table, and part of the JSON object."""

    @property
    def samples(self) -> list[float]:
        """The value of each round."""
        if not self.theirs:
            return list(self.ours)
        return [ours / theirs for ours, theirs in zip(self.ours, self.theirs, strict=True)]

    @property
    def value(self) -> float:
        """The figure."""
        return statistics.median(self.samples)

    @property
    def is_met(self) -> bool:
        """Whether the goal is reached."""
        return self.value <= self.goal if self.at_most else self.value >= self.goal

    @property
    def goal_text(self) -> str:
        """The goal with its direction: `>= 12`."""
        return f"{'<=' if self.at_most else '>='} {self.goal:g}{'' if self.theirs else ' ' + self.unit}"

    def as_json(self) -> dict[str, Any]:
        """The figure, its goal, its spread, and the medians of both sides."""
        name = "ratio" if self.theirs else "value"
        sides = {"median": rounded(statistics.median(self.ours))}
        if self.theirs:
            sides["reference_median"] = rounded(statistics.median(self.theirs))
        return {
            name: rounded(self.value),
            "goal": self.goal,
            "met": self.is_met,
            "spread": [rounded(min(self.samples)), rounded(max(self.samples))],
            "unit": self.unit,
            **sides,
            **self.more,
            **{figure.key: figure.as_json() for figure in self.also},
        }


def rounded(value: float) -> float:
    """*value* with three digits that matter."""
    return float(f"{value:.3g}")


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest of *values* that at least *percent* of them do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -int(-len(ordered) * percent // 100) - 1)]


def as_table(figures: Sequence[Figure]) -> list[tuple[str, ...]]:
    """Rows for the terminal and the document: figure, value, spread, both sides, goal, whether it is met."""
    return [
        (
            figure.title,
            f"{rounded(figure.value):g}{'' if figure.theirs else ' ' + figure.unit}",
            f"{rounded(min(figure.samples)):g} to {rounded(max(figure.samples)):g}",
            f"{rounded(statistics.median(figure.ours)):g} {figure.unit}",
            f"{rounded(statistics.median(figure.theirs)):g} {figure.unit} ({figure.than})" if figure.theirs else "-",
            figure.goal_text,
            "met" if figure.is_met else "**missed**",
        )
        for one in figures
        for figure in (one, *one.also)
    ]


HEAD = ("figure", "value", "spread", "fastmon, median", "compared with, median", "goal", "")
