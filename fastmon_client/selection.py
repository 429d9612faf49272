"""Which STFs of a run were selected, as far as the announcements tell. Pure.

The rule is the daemon's systematic sampling: of n STFs of a run ceil(n * fraction) are selected, the first of them
always, then evenly spaced ones.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

MAX_SEQUENCE = 5_000_000
"""A greater number is no sequence number: a month of a run at the DAQ's full rate has fewer."""

_SEQUENCE = re.compile(r"(\d{1,12})\.[^.]*$")


def sequence_of(stated: Any, stf_filename: str) -> int | None:
    """The number of an STF in its run, from 1: as it is stated, else from the name; None where there is none."""
    if type(stated) is not int:
        found = _SEQUENCE.search(stf_filename)
        stated = int(found[1]) if found else 0
    return stated if 1 <= stated <= MAX_SEQUENCE else None


@dataclass(slots=True)
class Selection:
    """The selection fractions of a run: there may be several, where the daemon was restarted with another one."""

    _spans: list[tuple[int, tuple[Fraction, ...]]] = field(default_factory=list)
    """(last sequence number of the span, its fraction), in rising order; the last one holds for what follows, too.

    Between the last STF heard with one fraction and the first with another both stand: who decided is not known.
    """
    _told: Any = None
    """The last fraction, as it came."""

    @property
    def is_known(self) -> bool:
        """Whether any announcement told it."""
        return bool(self._spans)

    def learn(self, sequence: int | None, fraction: Any) -> None:
        """The announcement of STF *sequence* carried *fraction*; what is none is forgotten."""
        if type(fraction) not in (int, float) or not 0 < fraction <= 1:
            return
        number = sequence or 0
        highest, latest = self._spans[-1] if self._spans else (0, ())
        if latest and number <= highest:
            return
        if fraction == self._told:
            self._spans[-1] = (number, latest)
            return
        exact = (Fraction(str(fraction)),)  # as it was written: 0.1 is a tenth
        if latest and number > highest + 1:
            self._spans.append((number - 1, latest + exact))
        self._spans.append((number, exact))
        self._told = fraction

    def takes(self, sequence: int) -> bool:
        """Whether STF *sequence* was selected, for all that is known; to be asked only where the selection is known."""
        fractions = next((found for last, found in self._spans if sequence <= last), self._spans[-1][1])
        return all(_rank(sequence, each) > _rank(sequence - 1, each) for each in fractions)

    def count(self, last: int) -> int:
        """How many of the STFs 1 to *last* were selected; to be asked only where the selection is known."""
        total = begin = 0
        for number, (end, fractions) in enumerate(self._spans, 1):
            end = last if number == len(self._spans) else min(end, last)  # noqa: PLW2901 (the last span is open)
            if len(fractions) == 1:
                total += _rank(end, fractions[0]) - _rank(begin, fractions[0])
            else:
                total += sum(map(self.takes, range(begin + 1, end + 1)))
            begin = max(begin, end)
        return total


def _rank(sequence: int, fraction: Fraction) -> int:
    """How many of the first *sequence* STFs are selected: ceil(sequence * fraction), in integers."""
    return -(-sequence * fraction.numerator // fraction.denominator)
