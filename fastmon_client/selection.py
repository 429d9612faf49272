"""Which STFs of a run were selected, derived from the announcements. Pure.

The rule is the daemon's systematic sampling: of n STFs, ceil(n * fraction) are selected, evenly spaced,
from the first on.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

MAX_SEQUENCE = 1_000_000
"""Highest valid sequence number: a week of a run at the full DAQ rate."""

_SEQUENCE = re.compile(r"(\d{1,12})\.[^.]*$")


def sequence_of(stated: Any, stf_filename: str) -> int | None:
    """The number of an STF in its run, from 1: *stated*, else from the name; None without a valid one."""
    if type(stated) is not int:
        found = _SEQUENCE.search(stf_filename)
        stated = int(found[1]) if found else 0
    return stated if 1 <= stated <= MAX_SEQUENCE else None


@dataclass(slots=True)
class Selection:
    """The selection fractions of a run; a restarted daemon may use another one."""

    _spans: list[tuple[int, tuple[Fraction, ...]]] = field(default_factory=list)
    """(last sequence number of the span, its fractions), ascending; the last span is open.

    Between the last STF with one fraction and the first with another, both fractions apply.
    """
    _last_fraction: Any = None
    """As received."""

    @property
    def is_known(self) -> bool:
        """Whether any announcement stated a fraction."""
        return bool(self._spans)

    def record_fraction(self, sequence: int | None, fraction: Any) -> None:
        """Record the *fraction* of an announcement of STF *sequence*; ignores an invalid one."""
        if type(fraction) not in (int, float) or not 0 < fraction <= 1:
            return
        number = sequence or 0
        highest, latest = self._spans[-1] if self._spans else (0, ())
        if latest and number <= highest:
            return
        if fraction == self._last_fraction:
            self._spans[-1] = (number, latest)
            return
        exact = (Fraction(str(fraction)),)  # exact decimal: 0.1 is 1/10
        if latest and number > highest + 1:
            self._spans.append((number - 1, latest + exact))
        self._spans.append((number, exact))
        self._last_fraction = fraction

    def includes(self, sequence: int) -> bool:
        """Whether STF *sequence* was selected; call only if `is_known`."""
        fractions = next((found for last, found in self._spans if sequence <= last), self._spans[-1][1])
        return all(_rank(sequence, each) > _rank(sequence - 1, each) for each in fractions)

    def count(self, last: int) -> int:
        """How many of the STFs 1 to *last* were selected; call only if `is_known`."""
        total = begin = 0
        for number, (end, fractions) in enumerate(self._spans, 1):
            end = last if number == len(self._spans) else min(end, last)  # noqa: PLW2901 (the last span is open)
            if len(fractions) == 1:
                total += _rank(end, fractions[0]) - _rank(begin, fractions[0])
            else:
                total += sum(map(self.includes, range(begin + 1, end + 1)))
            begin = max(begin, end)
        return total


def _rank(sequence: int, fraction: Fraction) -> int:
    """ceil(sequence * fraction), in integers."""
    return -(-sequence * fraction.numerator // fraction.denominator)
