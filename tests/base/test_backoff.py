"""Retries: which errors are retried at once, when the retries end, and the pauses between attempts."""

from __future__ import annotations

import random
import threading
from datetime import timedelta

import pytest

from fastmon_daemon.base.backoff import MAX_BACKOFF, Backoff, backoff, in_process_retry, retry_until_stopped
from fastmon_daemon.base.errors import (
    FastmonError,
    LinkBlocked,
    LinkDown,
    ParentNotRegistered,
    PermanentError,
    TransientError,
)


class Failing:
    """A call that raises each of *errors* in turn, then succeeds."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "done"


class NeverSet(threading.Event):
    """A stop event that is never set; it records the timeouts and returns at once."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        self.waits.append(timeout)
        return False


@pytest.mark.field("0d")
def test_a_transient_error_is_retried_at_once() -> None:
    call, never = Failing(TransientError("reset"), TransientError("reset")), NeverSet()

    assert in_process_retry(never)(call) == "done"
    assert call.calls == 3
    first, second = never.waits
    assert 0.2 <= first <= 1.2
    assert 0.4 <= second <= 1.4


def test_the_third_error_is_raised_unchanged() -> None:
    call = Failing(*(TransientError(f"reset {n}") for n in range(1, 6)))

    with pytest.raises(TransientError, match="reset 3"):
        in_process_retry(NeverSet())(call)


@pytest.mark.parametrize(
    "error", [LinkDown("off"), LinkBlocked("401"), ParentNotRegistered("no STF"), PermanentError("400")]
)
def test_an_error_that_a_retry_cannot_clear_is_not_retried(error: FastmonError) -> None:
    call = Failing(error)

    with pytest.raises(type(error)):
        in_process_retry(threading.Event())(call)
    assert call.calls == 1


def test_an_error_with_retry_after_is_not_retried_in_process() -> None:
    call = Failing(TransientError("503", retry_after_s=30))

    with pytest.raises(TransientError):
        in_process_retry(threading.Event())(call)
    assert call.calls == 1


def test_a_stopping_daemon_does_not_retry() -> None:
    stopping = threading.Event()
    stopping.set()
    call = Failing(TransientError("reset"))

    with pytest.raises(TransientError):
        in_process_retry(stopping)(call)
    assert call.calls == 1


def test_pauses_lie_between_the_shortest_and_a_ceiling_that_doubles_up_to_the_longest() -> None:
    pauses = Backoff(first_s=1, longest_s=60, shortest_s=0.5)
    failures = (1, 2, 3, 4, 7, 8, 100_000)

    assert [pauses.pause_s(n, lambda: 1.0) for n in failures] == [1, 2, 4, 8, 60, 60, 60]
    assert {pauses.pause_s(n, lambda: 0.0) for n in failures} == {0.5}
    assert pauses.pause_s(2, lambda: 0.5) == 1.25
    drawn = {pauses.pause_s(8) for _ in range(100)}
    assert len(drawn) > 90
    assert all(0.5 <= pause_s <= 60 for pause_s in drawn)


def test_the_same_jitter_gives_the_same_pauses() -> None:
    pauses, one, other = Backoff(first_s=1, longest_s=5), random.Random(7).random, random.Random(7).random

    assert [pauses.pause_s(n, one) for n in range(1, 9)] == [pauses.pause_s(n, other) for n in range(1, 9)]


def test_the_ceiling_does_not_grow_if_the_first_is_the_longest() -> None:
    assert {Backoff(first_s=30, longest_s=30).pause_s(n, lambda: 1.0) for n in (1, 2, 100)} == {30}


def test_backoff_is_half_a_second_to_a_minute() -> None:
    assert [backoff(n, jitter=lambda: 1.0).total_seconds() for n in (1, 2, 7, 8)] == [1, 2, 60, 60]
    assert backoff(8, jitter=lambda: 0.0) == timedelta(seconds=0.5)


def test_zero_attempts_give_the_first_backoff() -> None:
    assert backoff(0, jitter=lambda: 1.0) == timedelta(seconds=1)


def test_retry_after_is_honoured_up_to_ten_minutes() -> None:
    assert backoff(1, retry_after_s=120) == timedelta(seconds=120)
    assert backoff(1, retry_after_s=1e12) == MAX_BACKOFF
    assert backoff(8, retry_after_s=1, jitter=lambda: 1.0) == timedelta(seconds=60)


@pytest.mark.field("0d")
def test_an_endless_retry_ends_with_the_stop_and_counts_its_attempts() -> None:
    errors = [LinkDown("refused"), LinkBlocked("wrong password"), TransientError("reset"), LinkDown("refused again")]
    seen: list[tuple[int, str]] = []
    stopping = NeverSet()
    policy = retry_until_stopped(
        stopping, pause_s=lambda number: 10.0 * number, failed=lambda number, error: seen.append((number, str(error)))
    )
    assert policy(Failing(*errors)) == "done"
    assert seen == [(number, str(error)) for number, error in enumerate(errors, start=1)]
    assert stopping.waits == [10.0, 20.0, 30.0, 40.0]

    stopped = threading.Event()
    call = Failing(LinkDown("refused"), LinkDown("refused again"), LinkDown("never raised"))
    with pytest.raises(LinkDown, match=r"^refused again$"):
        retry_until_stopped(stopped, pause_s=lambda _: 0.0, failed=lambda *_: stopped.set())(call)
    assert call.calls == 2


def test_an_endless_retry_can_be_asked_for_after_other_errors() -> None:
    policy = retry_until_stopped(NeverSet(), pause_s=lambda _: 0.0, errors=OSError)
    assert policy(Failing(OSError("full"), OSError("full"))) == "done"


def test_another_error_ends_an_endless_retry() -> None:
    with pytest.raises(PermanentError):
        retry_until_stopped(NeverSet(), pause_s=lambda _: 0.0)(Failing(LinkDown("refused"), PermanentError("no")))
