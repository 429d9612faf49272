"""All retries of the client, as policies of tenacity: what is repeated, how often, and the pauses between."""

from __future__ import annotations

from collections.abc import Callable

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    retry_if_exception_type,
    stop_after_attempt,
    wait_exponential,
)

MAX_WAIT_S = 30.0
MAX_SERVER_WAIT_S = 300.0
"""Upper limit for Retry-After and `retry:`."""


class ConnectionEnded(Exception):
    """A connection ended or failed; the server requested a wait of `retry_after_s` seconds."""

    def __init__(self, reason: str, retry_after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after_s = retry_after_s


def repeat_once(is_worth_it: Callable[[BaseException], bool]) -> Retrying:
    """One repeat, at once, of a call whose error *is_worth_it*; the last error is raised unchanged."""
    return Retrying(retry=retry_if_exception(is_worth_it), stop=stop_after_attempt(2), reraise=True)


def reconnect(min_s: float, jitter: Callable[[], float]) -> Retrying:
    """Attempts for ever while they end with `ConnectionEnded`.

    A pause is the server's, at least *min_s* seconds, plus *jitter* (0 to 1) of a span that doubles to 30 s.
    """
    span = wait_exponential(multiplier=2 * min_s, max=MAX_WAIT_S)

    def pause_s(state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        server_s = error.retry_after_s if isinstance(error, ConnectionEnded) else 0.0
        return min(MAX_SERVER_WAIT_S, max(min_s, server_s)) + jitter() * (span(state) - min_s)

    return Retrying(retry=retry_if_exception_type(ConnectionEnded), wait=pause_s, reraise=True)
