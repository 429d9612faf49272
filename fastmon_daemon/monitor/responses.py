"""What an answer of the monitor means, or the lack of one, in our own errors: decided here and nowhere else.

It must not know rows, nor how a request is made.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

import requests
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError

from fastmon_daemon.base.errors import (
    FastmonError,
    LinkBlocked,
    LinkDown,
    ParentNotRegistered,
    PermanentError,
    TransientError,
)

TF_FILES = "fastmon-files/"
STF_FILES = "stf-files/"
RUNS = "runs/"
MESSAGES = "messages/"
"""The resources below `/api/`: a 404 means something else at each."""


@dataclass(frozen=True, slots=True)
class Response:
    """One whole answer to one request; the names in `headers` may be of any case."""

    status: int
    headers: Mapping[str, str]
    body: str


class OutcomeUnknown(TransientError):
    """The call may have been carried out or not."""


class RequestRejected(PermanentError):
    """The monitor read the request and will not have it."""

    def __init__(self, message: str, body: str, status: int = 400) -> None:
        super().__init__(message)
        try:
            self.complaints = json.loads(body)
        except ValueError:
            self.complaints = None
        self.by_the_api = isinstance(self.complaints, dict)
        """False where the web server or the framework refused, before the API saw the request."""
        self.absent = status == 405 or (status == 404 and not self.by_the_api)
        """Whether this monitor has no such call at all; a row that is not there is another matter."""

    def says(self, field: str, words: str) -> bool:
        """Whether it complains of *field* in these words."""
        return self.by_the_api and words in str(self.complaints.get(field, ""))


def classify_response(answer: Response, path: str, where: str) -> FastmonError | None:
    """What an answer means; None: done, if it is JSON of the right shape."""
    status, said = answer.status, f"{where}: {excerpt(answer.body)}"
    match status:
        case 200 | 201:
            return None
        case 401 | 403:
            error: FastmonError = LinkBlocked(f"{said}; set SWF_API_TOKEN to a valid token of this monitor")
        case _ if 300 <= status < 400 or status == 407:
            to = excerpt(answer.headers.get("Location", "elsewhere"))
            error = LinkBlocked(f"{where} to {to}: a login page or a proxy? set SWF_MONITOR_URL to the monitor itself")
        case 404 | 405 if path in {TF_FILES, STF_FILES, RUNS}:
            error = LinkBlocked(f"{where}: there is no monitor; set SWF_MONITOR_URL to its base, without /api")
        case 404 if path == MESSAGES:
            error = LinkBlocked(f"{where}: this monitor takes no messages; set FASTMON_NOTIFY=stomp")
        case 425 | 429:
            # It refuses whoever asks too often, whatever is asked: no STF is to be blamed.
            error = LinkDown(f"{said}; it asks for patience", retry_after_s=_retry_after_s(answer.headers))
        case _ if 400 <= status < 500 and status != 408:
            error = RequestRejected(said, answer.body, status)
        case _:
            error = OutcomeUnknown(said, retry_after_s=_retry_after_s(answer.headers))
    return error


@contextmanager
def transport_errors(where: str) -> Iterator[None]:
    """Raise our own error where the request to *where* brought no whole answer."""
    try:
        yield
    except (OSError, HTTPError, ValueError, TypeError) as exc:
        raise _fault(exc, where) from exc


def _fault(exc: Exception, where: str) -> FastmonError:
    """What it means that there is no whole answer; only what surely was not sent shuts the gate at once."""
    said = f"{where}: {excerpt(str(exc))}"
    unfit = "CERTIFICATE_VERIFY_FAILED" in str(exc) or "[X509" in str(exc)
    if unfit or not isinstance(exc, requests.RequestException | HTTPError | ValueError | TypeError):
        return LinkBlocked(
            f"{said}; set FASTMON_MONITOR_CA to a readable file with the CA of the monitor's certificate"
        )
    if isinstance(exc, ValueError | TypeError):
        # Some proxies' addresses end so. What is wrong is not said: of a password that would show a part.
        return LinkBlocked(f"{where}: {type(exc).__name__}; set SWF_MONITOR_URL and the proxy variables to usable URLs")
    reason = getattr(exc.args[0], "reason", None) if exc.args else None
    unsent = isinstance(exc, requests.ConnectTimeout | requests.exceptions.ProxyError)
    if unsent or isinstance(reason, NewConnectionError | ConnectTimeoutError):
        return LinkDown(said)
    return OutcomeUnknown(said)


def missing_error(refusal: RequestRejected) -> FastmonError:
    """What a refused registration means where no TF of that name stands."""
    if refusal.says("stf_file", "does not exist"):
        return ParentNotRegistered(f"the monitor does not know the STF yet: {refusal}")
    if refusal.says("tf_filename", "already exists"):
        return TransientError(f"the monitor refuses the TF as known, but does not show it: {refusal}")
    return refusal


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds of `Retry-After`; a date is read against the answer's own `Date`, which knows the server's clock."""
    asked = headers.get("Retry-After", "").strip()
    if asked.isascii() and asked.isdigit():
        return float(asked)
    try:
        pause = parsedate_to_datetime(asked) - parsedate_to_datetime(headers.get("Date", ""))
    except (TypeError, ValueError):
        return None
    return max(0.0, pause.total_seconds())


def excerpt(text: str) -> str:
    """The beginning of *text*, on one line, for a message to a person."""
    return " ".join(text[:300].split())


class ResponseCounter:
    """Counts what was answered, and keeps the monitor's clock as its latest answer told it; for any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[tuple[str, str]] = Counter()
        self._date = ""

    def record(self, response: requests.Response, *_: Any, **__: Any) -> None:
        """One answer has begun to come (a hook of requests)."""
        with self._lock:
            self._counts[response.request.method or "", str(response.status_code)] += 1
            self._date = response.headers.get("Date", "")

    def counts(self) -> dict[tuple[str, str], int]:
        """Method and status -> how many answers."""
        with self._lock:
            return dict(self._counts)

    def date(self) -> datetime | None:
        """The monitor's clock at its latest answer, to the second; None where that told none."""
        try:
            return parsedate_to_datetime(self._date)
        except ValueError:
            return None
