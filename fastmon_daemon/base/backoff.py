"""Every retry with a pause, as policies of tenacity: inside one call, until a stop, and pauses to be stored in a row.

Decides which errors are worth a retry; knows neither calls nor rows.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    retry_if_exception_type,
    sleep_using_event,
    stop_after_attempt,
    stop_after_delay,
    stop_when_event_set,
    wait_exponential,
    wait_exponential_jitter,
    wait_random,
)

from fastmon_daemon.base.errors import LinkBlocked, LinkDown, ParentNotRegistered, TransientError

MAX_BACKOFF = timedelta(minutes=10)
"""The longest pause that `backoff` returns; a longer `Retry-After` is cut to this."""

_BRIEF_S = 2.0
"""So long a call may take with its immediate retries, in seconds."""
_T = TypeVar("_T")

_NO_CALL = Retrying()
"""A strategy wants to know whose attempts it counts; ours are in rows and in memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Pauses in seconds, with full jitter below a ceiling that doubles, so that many clients do not retry together.

    The strategy of tenacity is asked as a function: most of these attempts are counted in a row of the database.
    """

    first_s: float
    """The first ceiling."""
    longest_s: float
    """The highest ceiling."""
    shortest_s: float = 0.0

    def pause_s(self, failures: int, jitter: Callable[[], float] = random.random) -> float:
        """Seconds to wait after *failures* failures in a row (from 1); *jitter* returns a number in [0, 1)."""
        state = RetryCallState(_NO_CALL, None, (), {})
        state.attempt_number = max(failures, 1)
        ceiling = wait_exponential(multiplier=self.first_s, max=self.longest_s)(state)
        return self.shortest_s + jitter() * (ceiling - self.shortest_s)


_BACKOFF = Backoff(first_s=1, longest_s=60, shortest_s=0.5)


def in_process_retry(stopping: threading.Event) -> Callable[[Callable[[], _T]], _T]:
    """Three attempts within about two seconds; *stopping* ends them at once. The last error is raised unchanged.

    A link that is down, a missing parent and a `Retry-After` take longer than that and are not retried here; nor is a
    call that itself took two seconds, because it already blocked its worker.
    """

    def retry(call: Callable[[], _T]) -> _T:
        begun = time.monotonic()
        try:
            return call()  # without a policy, which takes longer than many a call
        except TransientError as exc:
            left_s = begun + _BRIEF_S - time.monotonic()
            if not _is_worth_retrying(exc) or left_s <= 0:
                raise
            errors = [exc]

        def attempt() -> _T:
            if errors:
                raise errors.pop()
            return call()

        policy = Retrying(
            retry=retry_if_exception(_is_worth_retrying),
            stop=stop_after_attempt(3) | stop_after_delay(left_s) | stop_when_event_set(stopping),
            wait=wait_exponential_jitter(multiplier=0.2, max=2),
            sleep=sleep_using_event(stopping),
            reraise=True,
        )
        return policy(attempt)

    return retry


def retry_until_stopped(
    stopping: threading.Event,
    *,
    pause_s: Callable[[int], float],
    failed: Callable[[int, BaseException], None] = lambda _number, _error: None,
    errors: type[Exception] = TransientError,
) -> Retrying:
    """Retry after each of *errors*, also while the link is down or blocked, until *stopping* is set.

    That ends a pause at once, and raises the last error. Before the pause after attempt *n* (from 1), *failed* gets *n*
    and its error; *pause_s* takes *n* and returns the pause in seconds.
    """
    return Retrying(
        retry=retry_if_exception_type(errors),
        stop=stop_when_event_set(stopping),
        wait=lambda state: pause_s(state.attempt_number),
        sleep=sleep_using_event(stopping),
        before_sleep=lambda state: failed(state.attempt_number, _error_of(state)),
        reraise=True,
    )


def _error_of(state: RetryCallState) -> BaseException:
    error = state.outcome.exception() if state.outcome else None
    assert error is not None  # only a failure is followed by a pause
    return error


def retry_for(seconds: float) -> Retrying:
    """Retry for *seconds*; also while the link is down, because the server may still be starting."""
    return Retrying(
        retry=retry_if_exception(
            lambda error: isinstance(error, TransientError) and not isinstance(error, LinkBlocked)
        ),
        stop=stop_after_delay(seconds),
        wait=wait_random(0.2, 0.5),
        reraise=True,
    )


def backoff(
    attempts: int, *, retry_after_s: float | None = None, jitter: Callable[[], float] = random.random
) -> timedelta:
    """The pause after *attempts* failed attempts (from 1): full jitter between 0.5 s and 1, 2, 4 ... 60 s.

    Never shorter than the server's *retry_after_s* (seconds), which is cut to `MAX_BACKOFF`.
    """
    return max(timedelta(seconds=_BACKOFF.pause_s(attempts, jitter)), requested_pause(retry_after_s))


def requested_pause(retry_after_s: float | None) -> timedelta:
    """The pause in seconds that the server requested, at most `MAX_BACKOFF`; zero if it requested none."""
    return timedelta(seconds=min(retry_after_s or 0.0, MAX_BACKOFF.total_seconds()))


def _is_worth_retrying(error: BaseException) -> bool:
    is_brief = isinstance(error, TransientError) and not isinstance(error, LinkDown | ParentNotRegistered)
    return is_brief and not getattr(error, "retry_after_s", None)
