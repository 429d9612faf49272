"""The matrix: which rows there are, on which brokers each is run, and the form in which it is run.

Owns the decorator `fault`. It must not know what a row does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

import pytest

EMBEDDED = ("embedded",)
EVERY = ("embedded", "classic", "artemis")

T = TypeVar("T", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True, order=True)
class FaultRow:
    """One fault; `number` is that of the list in issue 4."""

    number: int
    title: str
    brokers: tuple[str, ...]


_ROWS: list[FaultRow] = []


def fault(number: int, title: str, brokers: tuple[str, ...] = EMBEDDED) -> Callable[[T], T]:
    """This test is the row *title*, run once on each of *brokers*."""

    def mark(test: T) -> T:
        _ROWS.append(FaultRow(number, title, brokers))
        test = pytest.mark.parametrize("server", brokers, indirect=True, scope="session")(test)
        return pytest.mark.fault(number, title)(test)

    return mark


def all_rows() -> list[FaultRow]:
    """Every row, in order: by importing every module of this folder that has some."""
    for module in sorted(Path(__file__).parent.glob("test_*.py")):
        import_module(f"tests.faults.{module.stem}")
    return sorted(_ROWS, key=lambda row: row.number)
