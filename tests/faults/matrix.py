"""The matrix of faults: its rows, and the brokers on which each row is run."""

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
    """One fault; rows of one kind have the same `number`."""

    number: int
    title: str
    brokers: tuple[str, ...]


_ROWS: list[FaultRow] = []


def fault(number: int, title: str, brokers: tuple[str, ...] = EMBEDDED) -> Callable[[T], T]:
    """Make a test the row *title*, run once on each of *brokers*."""

    def mark(test: T) -> T:
        _ROWS.append(FaultRow(number, title, brokers))
        test = pytest.mark.parametrize("server", brokers, indirect=True, scope="session")(test)
        return pytest.mark.fault(number, title)(test)

    return mark


def all_rows() -> list[FaultRow]:
    """All rows by number; imports all test modules of this folder."""
    for module in sorted(Path(__file__).parent.glob("test_*.py")):
        import_module(f"tests.faults.{module.stem}")
    return sorted(_ROWS, key=lambda row: row.number)
