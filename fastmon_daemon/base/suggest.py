"""Suggestions for names that are not found."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(name: str, possible: Iterable[str], nearness: float = 0.6) -> str:
    """The nearest of the *possible* names as ` (did you mean NAME?)`, or nothing.

    *nearness*: the least one, from 0 (any name) to 1 (the same name).
    """
    near = difflib.get_close_matches(name, list(possible), n=1, cutoff=nearness)
    return f" (did you mean {near[0]}?)" if near else ""


def how_runs_are_named(run: str) -> str:
    """What an operator may write for a run, if *run*, which was not found, is no plain number; else nothing."""
    digits = run.isascii() and run.isdigit()
    return "" if digits else ": name a run by its number, in digits only, or by its text as in the messages"
