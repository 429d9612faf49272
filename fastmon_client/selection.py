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
MAX_FRACTIONS = 10
"""Further ones are ignored: with two that differ, the rule says little already."""

_SEQUENCE = re.compile(r"(\d{1,12})\.[^.]*$")


def sequence_of(stated: Any, stf_filename: str) -> int | None:
    """The number of an STF in its run, from 1: *stated*, else from the name; None without a valid one."""
    if type(stated) is not int:
        found = _SEQUENCE.search(stf_filename)
        stated = int(found[1]) if found else 0
    return stated if 1 <= stated <= MAX_SEQUENCE else None


@dataclass(slots=True)
class Selection:
    """The selection fractions of a run.

    A restarted daemon may use another one, also for STFs that it received before. So with several fractions only the
    STFs that all of them select are certainly selected, and only those that none selects certainly skipped.
    """

    fractions: list[float] = field(default_factory=list)
    """As announced, each once."""
    _exact: list[Fraction] = field(default_factory=list)
    _counted: int = 0
    """The counts of several fractions are for the STFs 1 to this one."""
    _all: int = 0
    _any: int = 0

    @property
    def is_known(self) -> bool:
        """Whether any announcement stated a fraction."""
        return bool(self.fractions)

    def record_fraction(self, fraction: Any) -> bool:
        """Record the *fraction* of an announcement; whether it is a new one. Ignores an invalid one."""
        if fraction in self.fractions or type(fraction) not in (int, float) or not 0 < fraction <= 1:
            return False
        if len(self.fractions) >= MAX_FRACTIONS:
            return False
        self.fractions.append(fraction)
        self._exact.append(Fraction(str(fraction)))  # exact decimal: 0.1 is 1/10
        self._counted = self._all = self._any = 0
        return True

    def by_all(self, sequence: int) -> bool:
        """Whether all fractions select STF *sequence*."""
        return all(_rank(sequence, each) > _rank(sequence - 1, each) for each in self._exact)

    def by_any(self, sequence: int) -> bool:
        """Whether at least one fraction selects STF *sequence*."""
        return any(_rank(sequence, each) > _rank(sequence - 1, each) for each in self._exact)

    def counts(self, last: int) -> tuple[int, int]:
        """How many of the STFs 1 to *last* all fractions select, and how many at least one; call only if `is_known`.

        *last* does not decrease from call to call.
        """
        if len(self._exact) == 1:
            [only] = self._exact
            found = _rank(last, only)
            return found, found
        for sequence in range(self._counted + 1, last + 1):
            self._all += self.by_all(sequence)
            self._any += self.by_any(sequence)
        self._counted = max(self._counted, last)
        return self._all, self._any


def _rank(sequence: int, fraction: Fraction) -> int:
    """ceil(sequence * fraction), in integers."""
    return -(-sequence * fraction.numerator // fraction.denominator)
