"""The two policies of trying again: a quick one inside a step, and the backoff of an STF that is put off.

This module knows which errors are worth another try. It must not know what is tried, nor rows, nor the clock.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from datetime import timedelta

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    sleep_using_event,
    stop_after_attempt,
    stop_after_delay,
    stop_when_event_set,
    wait_exponential,
    wait_exponential_jitter,
    wait_random,
)

from fastmon_daemon.errors import LinkDown, LinkHeld, ParentMissing, TransientError

MAX_BACKOFF = timedelta(minutes=10)
"""The longest pause that `backoff` ever gives: as long as we do what a `Retry-After` asks."""

_SHORTEST_S = 0.5
_ceiling = wait_exponential(multiplier=1, max=60)


def quick(stopping: threading.Event) -> Retrying:
    """Three tries within about two seconds, ended at once by *stopping*; the last error is raised as it is.

    Only what a moment may mend is tried again: a link that is down and a missing parent take longer, so does the other
    side where it asked for patience, and a call that itself took so long must not hold its worker any longer.
    """
    return Retrying(
        retry=retry_if_exception(_worth_a_moment),
        stop=stop_after_attempt(3) | stop_after_delay(2) | stop_when_event_set(stopping),
        wait=wait_exponential_jitter(multiplier=0.2, max=2),
        sleep=sleep_using_event(stopping),
        reraise=True,
    )


def for_a_while(seconds: float) -> Retrying:
    """Tries until *seconds* have passed; also a link that is down, as its other side may just be starting."""
    return Retrying(
        retry=retry_if_exception(lambda error: isinstance(error, TransientError) and not isinstance(error, LinkHeld)),
        stop=stop_after_delay(seconds),
        wait=wait_random(0.2, 0.5),
        reraise=True,
    )


def backoff(
    attempts: int,
    *,
    retry_after_s: float | None = None,
    uniform: Callable[[float, float], float] = random.uniform,
) -> timedelta:
    """The pause after failed attempt number *attempts* (from 1): full jitter between 0.5 s and 1, 2, 4 ... 60 s.

    It is never shorter than the other side's *retry_after_s* (seconds), as far as that is within `MAX_BACKOFF`.
    """
    call = RetryCallState(retry_object=Retrying(), fn=None, args=(), kwargs={})
    call.attempt_number = max(1, attempts)
    pause = timedelta(seconds=uniform(_SHORTEST_S, _ceiling(call)))
    asked = timedelta(seconds=min(retry_after_s or 0.0, MAX_BACKOFF.total_seconds()))
    return max(pause, asked)


def _worth_a_moment(error: BaseException) -> bool:
    passing = isinstance(error, TransientError) and not isinstance(error, LinkDown | ParentMissing)
    return passing and not getattr(error, "retry_after_s", None)
