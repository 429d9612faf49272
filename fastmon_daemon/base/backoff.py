"""Trying again: the pauses with jitter of the whole daemon, and the quick retry inside a step.

This module knows which errors are worth another try. It must not know what is tried, nor rows, nor the clock.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from tenacity import (
    Retrying,
    retry_if_exception,
    sleep_using_event,
    stop_after_attempt,
    stop_after_delay,
    stop_when_event_set,
    wait_exponential_jitter,
    wait_random,
)

from fastmon_daemon.base.errors import LinkBlocked, LinkDown, ParentNotRegistered, TransientError

MAX_BACKOFF = timedelta(minutes=10)
"""The longest pause that `backoff` ever gives: as long as we do what a `Retry-After` asks."""

_MOST_DOUBLINGS = 30
"""More would only overflow: no pause is that long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Pauses between tries, in seconds: full jitter below a ceiling that doubles, so that many who wait spread."""

    first_s: float
    """The ceiling of the first pause."""
    longest_s: float
    """The ceiling never grows beyond this."""
    shortest_s: float = 0.0

    def pause_s(self, failures: int, jitter: Callable[[], float] = random.random) -> float:
        """The pause after failure number *failures* in a row (from 1); *jitter* draws a number in [0, 1)."""
        doublings = min(max(failures - 1, 0), _MOST_DOUBLINGS)
        ceiling = min(self.longest_s, self.first_s * 2.0**doublings)
        return self.shortest_s + jitter() * (ceiling - self.shortest_s)


_BACKOFF = Backoff(first_s=1, longest_s=60, shortest_s=0.5)


def in_process_retry(stopping: threading.Event) -> Retrying:
    """Three tries within about two seconds, ended at once by *stopping*; the last error is raised as it is.

    Only what a moment may mend is tried again: a link that is down and a missing parent take longer, so does the other
    side where it asked for patience, and a call that itself took so long must not hold its worker any longer.
    """
    return Retrying(
        retry=retry_if_exception(_is_worth_retrying),
        stop=stop_after_attempt(3) | stop_after_delay(2) | stop_when_event_set(stopping),
        wait=wait_exponential_jitter(multiplier=0.2, max=2),
        sleep=sleep_using_event(stopping),
        reraise=True,
    )


def retry_for(seconds: float) -> Retrying:
    """Tries until *seconds* have passed; also a link that is down, as its other side may just be starting."""
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
    """The pause after failed attempt number *attempts* (from 1): full jitter between 0.5 s and 1, 2, 4 ... 60 s.

    It is never shorter than the other side's *retry_after_s* (seconds), as far as that is within `MAX_BACKOFF`.
    """
    return max(timedelta(seconds=_BACKOFF.pause_s(attempts, jitter)), requested_pause(retry_after_s))


def requested_pause(retry_after_s: float | None) -> timedelta:
    """The pause that the other side asked for in seconds, if any, as far as it is within `MAX_BACKOFF`."""
    return timedelta(seconds=min(retry_after_s or 0.0, MAX_BACKOFF.total_seconds()))


def _is_worth_retrying(error: BaseException) -> bool:
    passing = isinstance(error, TransientError) and not isinstance(error, LinkDown | ParentNotRegistered)
    return passing and not getattr(error, "retry_after_s", None)
