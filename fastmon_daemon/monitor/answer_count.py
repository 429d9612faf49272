"""What the monitor answered, counted; and its clock, as its latest answer told it.

It must not know what was asked for.
"""

from __future__ import annotations

import threading
from collections import Counter
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

import requests


class AnswerCount:
    """Counts answers; any thread may add to it and read it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[tuple[str, str]] = Counter()
        self._date = ""

    def answered(self, response: requests.Response, *_: Any, **__: Any) -> None:
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
