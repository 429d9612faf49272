"""Runs checks in order, each with a time limit. It knows no particular check."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

from fastmon_daemon.base.errors import FastmonError, LinkBlocked

REPORT_AFTER_S = 2.0
"""A check that takes longer is reported as still running."""


class CheckStatus(StrEnum):
    """Outcome of a check."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The result of a check, shown on one line."""

    status: CheckStatus
    found: str
    hint: str = ""
    """What the operator can do."""


ok = partial(CheckResult, CheckStatus.OK)
warning = partial(CheckResult, CheckStatus.WARNING)
error = partial(CheckResult, CheckStatus.ERROR)
skipped = partial(CheckResult, CheckStatus.SKIPPED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One check. It is skipped if one of the checks that it *needs* failed or was skipped."""

    name: str
    call: Callable[[], CheckResult]
    """Raises: FastmonError, which becomes a result with status error."""
    needs: tuple[str, ...] = ()
    hint: str = ""
    """The hint of an error that has none of its own."""
    timeout_s: float = 30.0


def run_checks(
    checks: Iterable[Check], still_running: Callable[[str, float], None]
) -> Iterator[tuple[str, CheckResult]]:
    """Run the checks in order and yield name and result of each.

    *still_running* is called once with the name and the time limit in seconds of a check that takes long.
    """
    not_passed: set[str] = set()
    for check in checks:
        failed_need = next((name for name in check.needs if name in not_passed), None)
        if failed_need is not None:
            result = skipped(f"not run, see {failed_need}")
        else:
            result = _run_with_timeout(check, still_running)
        if result.status in (CheckStatus.ERROR, CheckStatus.SKIPPED):
            not_passed.add(check.name)
        yield check.name, result


def _run_with_timeout(check: Check, still_running: Callable[[str, float], None]) -> CheckResult:
    results: queue.SimpleQueue[CheckResult] = queue.SimpleQueue()
    # The thread is abandoned after the timeout: a system call (DNS) can hang longer than any timeout of ours.
    threading.Thread(target=lambda: results.put(_run(check)), name=check.name, daemon=True).start()
    try:
        return results.get(timeout=min(REPORT_AFTER_S, check.timeout_s))
    except queue.Empty:
        still_running(check.name, check.timeout_s)
    try:
        return results.get(timeout=max(0.0, check.timeout_s - REPORT_AFTER_S))
    except queue.Empty:
        return error(f"timeout after {check.timeout_s:g} s", check.hint)


def _run(check: Check) -> CheckResult:
    try:
        return check.call()
    except LinkBlocked as exc:
        return error(str(exc))  # its message says what to fix; another hint would mislead
    except FastmonError as exc:
        return error(str(exc), check.hint)
    except Exception as exc:  # noqa: BLE001 (an unexpected error of one check must not hide the others)
        return error(f"{type(exc).__name__}: {exc}", check.hint)
