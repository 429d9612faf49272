"""Suggestions for misspelt names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(name: str, possible: Iterable[str]) -> str:
    """The nearest of the *possible* names as ` (did you mean NAME?)`; empty if none is near."""
    near = difflib.get_close_matches(name, list(possible), n=1)
    return f" (did you mean {near[0]}?)" if near else ""
