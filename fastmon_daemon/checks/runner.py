"""What a check is, what it answers, and how a list of them is tried: in order, each within its time.

It must not know what is checked.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from fastmon_daemon.base.errors import FastmonError, LinkBlocked

TELL_AFTER_S = 2.0
"""After so long a person is told what is waited for."""


class CheckStatus(StrEnum):
    """What a check came to."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "wrong"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One line for a person: what was found, and what to do about it."""

    outcome: CheckStatus
    found: str
    hint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing to try. Where one of those that it *needs* is not well, it is not tried."""

    name: str
    call: Callable[[], CheckResult]
    """Raises `FastmonError` where it is wrong."""
    needs: tuple[str, ...] = ()
    hint: str = ""
    """What to do about an error that does not say it."""
    patience_s: float = 30.0


def run_checks(checks: Iterable[Check], waiting: Callable[[str, float], None]) -> Iterator[tuple[str, CheckResult]]:
    """Try one after the other; *waiting* is told the name and the longest wait of one that takes long."""
    unwell: set[str] = set()
    for check in checks:
        missing = [name for name in check.needs if name in unwell]
        line = (
            _line(check, waiting) if not missing else CheckResult(CheckStatus.SKIPPED, f"not tried, see {missing[0]}")
        )
        if line.outcome in (CheckStatus.ERROR, CheckStatus.SKIPPED):
            unwell.add(check.name)
        yield check.name, line


def _line(check: Check, waiting: Callable[[str, float], None]) -> CheckResult:
    answers: queue.SimpleQueue[CheckResult] = queue.SimpleQueue()
    # A thread of its own that nobody waits for: a call of the system (DNS) may hang beyond any timeout of ours.
    threading.Thread(target=lambda: answers.put(_tried(check)), name=check.name, daemon=True).start()
    try:
        return answers.get(timeout=min(TELL_AFTER_S, check.patience_s))
    except queue.Empty:
        waiting(check.name, check.patience_s)
    try:
        return answers.get(timeout=max(0.0, check.patience_s - TELL_AFTER_S))
    except queue.Empty:
        return CheckResult(CheckStatus.ERROR, f"no end after {check.patience_s:g} s", check.hint)


def _tried(check: Check) -> CheckResult:
    try:
        return check.call()
    except LinkBlocked as exc:
        return CheckResult(CheckStatus.ERROR, str(exc))  # it says itself what to mend, and another remedy would mislead
    except FastmonError as exc:
        return CheckResult(CheckStatus.ERROR, str(exc), check.hint)
    except Exception as exc:  # noqa: BLE001 (one check that fails in an unknown way hides no other)
        return CheckResult(CheckStatus.ERROR, f"{type(exc).__name__}: {exc}", check.hint)
