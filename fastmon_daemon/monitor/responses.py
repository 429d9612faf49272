"""Which of our own errors a response of the monitor becomes: decided here and nowhere else.

It must not know rows, nor how a request is sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime

from fastmon_daemon.base.errors import (
    FastmonError,
    LinkBlocked,
    LinkDown,
    ParentNotRegistered,
    PermanentError,
    TransientError,
)
from fastmon_daemon.messages import read_json

TF_FILES = "fastmon-files/"
STF_FILES = "stf-files/"
RUNS = "runs/"
MESSAGES = "messages/"
"""The endpoints below `/api/` at which a 404 has a meaning of its own."""
_MAX_RETRY_AFTER_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Response:
    """One complete response; `headers` is case-insensitive."""

    status: int
    headers: Mapping[str, str]
    body: str


class OutcomeUnknown(TransientError):
    """The request may have been carried out or not."""


class MeaninglessAnswer(OutcomeUnknown):
    """The monitor answered something else than its interface says: it is no verdict on what was asked for."""

    def __init__(self, message: str) -> None:
        super().__init__(message, is_meaningless=True)


class UnreadableRow(MeaninglessAnswer):
    """The monitor answered with a row that does not have its form: that row is at fault, not the link."""


class RequestRejected(PermanentError):
    """The monitor received the request and rejects it."""

    def __init__(self, message: str, body: str, status: int = 400) -> None:
        super().__init__(message)
        try:
            self._errors = read_json(body)
        except ValueError:
            self._errors = None
        self.from_api = isinstance(self._errors, dict)
        """False if the web server or the framework rejected the request before the API saw it."""
        self.endpoint_missing = status == 405 or (status == 404 and not self.from_api)
        """Whether this monitor has no such endpoint; a missing row is another matter."""

    def has_error(self, field: str, text: str) -> bool:
        """Whether *text* is part of the error of *field*, a text or a list of texts."""
        said = self._errors.get(field) if self.from_api else None
        return any(isinstance(each, str) and text in each for each in (said if isinstance(said, list) else [said]))


def is_success(status: int) -> bool:
    """Whether the monitor did what it was asked for."""
    return status in {200, 201}


def classify_response(response: Response, path: str, where: str) -> FastmonError | None:
    """The error that *response* to a request to *path* means; None for success. *where* begins the error's text."""
    if is_success(response.status):
        return None
    status, said = response.status, f"{where}: {excerpt(response.body)}"
    match status:
        case 401 | 403:
            error: FastmonError = LinkBlocked(f"{said}: set SWF_API_TOKEN to a valid token of this monitor")
        case _ if 300 <= status < 400 or status == 407:
            to = excerpt(response.headers.get("Location", "none"))
            answerer = f"answered by a login page or a proxy (Location: {to})"
            error = LinkBlocked(f"{where}: {answerer}: set SWF_MONITOR_URL to the monitor itself")
        case 404 | 405 if path in {TF_FILES, STF_FILES, RUNS}:
            error = LinkBlocked(f"{where}: no monitor at this URL: set SWF_MONITOR_URL to its base, without /api")
        case 404 if path == MESSAGES:
            error = LinkBlocked(f"{where}: this monitor does not accept messages: set FASTMON_NOTIFY=stomp")
        case 425 | 429:
            # Rate limits apply to the client, whatever it requests: no STF is at fault.
            error = LinkDown(f"{said}: too many requests", retry_after_s=_retry_after_s(response.headers))
        case _ if 400 <= status < 500 and status != 408:
            error = RequestRejected(said, response.body, status)
        case _:
            error = OutcomeUnknown(said, retry_after_s=_retry_after_s(response.headers))
    return error


def missing_error(rejection: RequestRejected) -> FastmonError:
    """The error for a rejected registration of a TF whose name is not registered."""
    if rejection.has_error("stf_file", "does not exist"):
        return ParentNotRegistered(f"the STF is not registered yet: {rejection}")
    if rejection.has_error("tf_filename", "already exists"):
        return MeaninglessAnswer(f"the monitor rejects the TF as existing, but does not list it: {rejection}")
    return rejection


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    """`Retry-After` in seconds; a date counts from the response's own `Date`, which has the server's clock."""
    retry_after = headers.get("Retry-After", "").strip()
    if retry_after.isascii() and retry_after.isdigit():
        return min(float(retry_after), _MAX_RETRY_AFTER_S)
    try:
        pause = parsedate_to_datetime(retry_after) - parsedate_to_datetime(headers.get("Date", ""))
    except (TypeError, ValueError, OverflowError):
        return None
    return min(max(0.0, pause.total_seconds()), _MAX_RETRY_AFTER_S)


def excerpt(text: str) -> str:
    """The beginning of *text*, on one line, for an error message."""
    return " ".join(text[:300].split())


class ResponseClock:
    """Keeps the monitor's clock of the latest response; for any thread."""

    def __init__(self) -> None:
        self._date = ""

    def record(self, headers: Mapping[str, str]) -> None:
        """Read the headers of a response."""
        self._date = headers.get("Date", "")

    def date(self) -> datetime | None:
        """The monitor's clock at its latest response, to the second; None if that had no `Date`."""
        try:
            return parsedate_to_datetime(self._date)
        except (ValueError, OverflowError):
            return None
