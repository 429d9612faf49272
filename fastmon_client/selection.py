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

    _spans: list[tuple[int, Fraction]] = field(default_factory=list)
    """(last sequence number heard with it, fraction), in rising order; the last one holds for what follows, too."""

    @property
    def is_known(self) -> bool:
        """Whether any announcement told it."""
        return bool(self._spans)

    def learn(self, sequence: int | None, fraction: Any) -> None:
        """The announcement of STF *sequence* carried *fraction*; what is none is forgotten."""
        if type(fraction) not in (int, float) or not 0 < fraction <= 1:
            return
        highest, latest = self._spans[-1] if self._spans else (0, None)
        if latest is not None and (sequence or 0) <= highest:
            return
        exact = Fraction(str(fraction))  # as it was written: 0.1 is a tenth
        if exact == latest:
            self._spans.pop()
        self._spans.append((sequence or 0, exact))

    def takes(self, sequence: int) -> bool:
        """Whether STF *sequence* was selected; to be asked only where the selection is known."""
        fraction = next((fraction for last, fraction in self._spans if sequence <= last), self._spans[-1][1])
        return _rank(sequence, fraction) > _rank(sequence - 1, fraction)

    def count(self, last: int) -> int:
        """How many of the STFs 1 to *last* were selected; to be asked only where the selection is known."""
        total = begin = 0
        for number, (end, fraction) in enumerate(self._spans, 1):
            end = last if number == len(self._spans) else min(end, last)  # noqa: PLW2901 (the last span is open)
            total += _rank(end, fraction) - _rank(begin, fraction)
            begin = end
        return total


def _rank(sequence: int, fraction: Fraction) -> int:
    """How many of the first *sequence* STFs are selected: ceil(sequence * fraction), in integers."""
    return -(-sequence * fraction.numerator // fraction.denominator)
