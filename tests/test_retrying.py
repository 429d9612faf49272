"""Trying again: what is tried again at once, how soon it ends, and how long an STF is put off."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest

from fastmon_daemon.errors import FastmonError, LinkDown, LinkHeld, ParentMissing, PermanentError, TransientError
from fastmon_daemon.retrying import MAX_BACKOFF, backoff, quick


class Failing:
    """A call that meets *errors* one after the other, then succeeds."""

    def __init__(self, *errors: FastmonError) -> None:
        self.errors = list(errors)
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "done"


def test_what_a_moment_mends_is_tried_again_at_once() -> None:
    call = Failing(TransientError("reset"), TransientError("reset"))

    assert quick(threading.Event())(call) == "done"
    assert call.calls == 3


def test_the_third_error_is_raised_as_it_is() -> None:
    call = Failing(*(TransientError(f"reset {n}") for n in range(1, 6)))

    with pytest.raises(TransientError, match="reset 3"):
        quick(threading.Event())(call)


@pytest.mark.parametrize("error", [LinkDown("off"), LinkHeld("401"), ParentMissing("no STF"), PermanentError("400")])
def test_what_takes_longer_or_a_person_is_tried_once(error: FastmonError) -> None:
    call = Failing(error)

    with pytest.raises(type(error)):
        quick(threading.Event())(call)
    assert call.calls == 1


def test_what_the_other_side_wants_to_be_asked_later_is_tried_once() -> None:
    call = Failing(TransientError("503", retry_after_s=30))

    with pytest.raises(TransientError):
        quick(threading.Event())(call)
    assert call.calls == 1


def test_a_daemon_that_stops_tries_no_further() -> None:
    stopping = threading.Event()
    stopping.set()
    call = Failing(TransientError("reset"))

    with pytest.raises(TransientError):
        quick(stopping)(call)
    assert call.calls == 1


def test_the_backoff_is_drawn_below_a_ceiling_that_doubles_up_to_a_minute() -> None:
    longest = [backoff(n, uniform=lambda _, high: high).total_seconds() for n in (1, 2, 3, 4, 7, 8, 100_000)]
    shortest = {backoff(n, uniform=lambda low, _: low).total_seconds() for n in (1, 8, 100_000)}

    assert longest == [1, 2, 4, 8, 60, 60, 60]
    assert shortest == {0.5}


def test_attempts_that_were_never_counted_give_the_first_backoff() -> None:
    assert backoff(0, uniform=lambda _, high: high) == timedelta(seconds=1)


def test_the_other_sides_retry_after_is_honoured_within_ten_minutes() -> None:
    assert backoff(1, retry_after_s=120) == timedelta(seconds=120)
    assert backoff(1, retry_after_s=1e12) == MAX_BACKOFF
    assert backoff(8, retry_after_s=1, uniform=lambda _, high: high) == timedelta(seconds=60)
