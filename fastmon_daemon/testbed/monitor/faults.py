"""The faults that the embedded world can be told to have: their names, their values, and which are in force.

Owns checking and remembering them. What they do to a request is the gate's; an outage is the server's; the broker's
are handed on.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

RATES = ("error_rate", "drop_rate", "error_after_commit_rate", "html_200_rate")
SPANS = ("down_s", "hang_s", "sse_deaf_s", "broker_down_s", "broker_silent_s")
FLAGS = ("redirect", "revoked", "no_receipts")
DELAYS = ("latency_ms", "drip_ms")
NAMES = (*DELAYS, *RATES, "error_status", "sse_cut_after", *SPANS, *FLAGS, "endpoints")
BROKERS = ("broker_down_s", "broker_silent_s", "no_receipts")

OnBroker = Callable[[str, float | bool], None]
"""(fault, value): value is seconds (0: over) or, for ``no_receipts``, whether no receipt is sent."""


class BadFaults(Exception):
    """Names or values that are none; *problems* maps each to what is wrong with it."""

    def __init__(self, problems: dict[str, str]) -> None:
        super().__init__(problems)
        self.problems = problems


class Faults:
    """The faults in force. *monotonic* gives seconds, *rng* decides what a rate hits."""

    def __init__(self, monotonic: Callable[[], float], rng: Random, on_broker: OnBroker | None = None) -> None:
        self._monotonic = monotonic
        self._rng = rng
        self._on_broker = on_broker
        self._values: dict[str, Any] = {}
        self._until: dict[str, float] = {}

    def set(self, wanted: Any) -> dict[str, Any]:
        """Set what *wanted* names and leave the rest; an empty object clears all. Returns `in_force`.

        Raises:
            BadFaults: nothing was set.
        """
        problems = _problems(wanted)
        if problems:
            raise BadFaults(problems)
        if not wanted:
            self._values.clear()
            self._until.clear()
        self._values.update({name: value for name, value in wanted.items() if name not in SPANS})
        self._until.update({name: self._monotonic() + wanted[name] for name in SPANS if name in wanted})
        self._tell_broker(wanted or {"broker_down_s": 0, "broker_silent_s": 0, "no_receipts": False})
        return self.in_force()

    def in_force(self) -> dict[str, Any]:
        """Name -> value of each fault that is set to something; spans with the seconds that are left."""
        spans = {name: round(self.left(name), 3) for name in self._until}
        return {name: value for name, value in {**self._values, **spans}.items() if value}

    def left(self, name: str) -> float:
        """Seconds that the span *name* still lasts; 0 when it is over."""
        return max(0.0, self._until.get(name, 0.0) - self._monotonic()) if name in self._until else 0.0

    def strikes(self, name: str) -> bool:
        """Whether the rate *name* hits this time."""
        rate: float = self._values.get(name, 0)
        return self._rng.random() < rate

    def on(self, name: str) -> bool:
        """Whether the flag *name* is set."""
        return bool(self._values.get(name, False))

    def delay(self, name: str) -> float:
        """The delay *name* in seconds."""
        return float(self._values.get(name, 0)) / 1000

    def take_cut(self) -> int | None:
        """The bytes of an event after which the stream is cut, once; None where none is to be cut."""
        cut = self._values.pop("sse_cut_after", None)
        return None if cut is None else int(cut)

    @property
    def error_status(self) -> int:
        """The status of injected errors."""
        return int(self._values.get("error_status", 500))

    def concerns(self, path: str) -> bool:
        """Whether requests to *path* are hit at all: ``endpoints`` limits the faults to some path prefixes."""
        prefixes = self._values.get("endpoints")
        return not prefixes or path.startswith(tuple(prefixes))

    def _tell_broker(self, wanted: dict[str, Any]) -> None:
        if self._on_broker:
            for name in BROKERS:
                if name in wanted:
                    self._on_broker(name, wanted[name])


def _problems(wanted: Any) -> dict[str, str]:
    if not isinstance(wanted, dict):
        return {"body": "must be a JSON object of faults; an empty one clears all"}
    return {name: problem for name, value in wanted.items() if (problem := _problem(name, value))}


def _problem(name: str, value: Any) -> str | None:
    if name not in NAMES:
        return f"unknown fault; known are {', '.join(NAMES)}"
    if name in FLAGS:
        return None if isinstance(value, bool) else f"must be true or false, not {value!r}"
    if name == "endpoints":
        fits = isinstance(value, list) and all(isinstance(each, str) for each in value)
        return None if fits else f"must be a list of path prefixes such as /api/fastmon-files/, not {value!r}"
    return _number_problem(name, value)


def _number_problem(name: str, value: Any) -> str | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0:
        return f"must be a number of at least 0, not {value!r}"
    if name in RATES and value > 1:
        return f"must be between 0 and 1, not {value!r}"
    if name == "error_status" and value not in range(400, 600):
        return f"must be an HTTP status from 400 to 599, not {value!r}"
    return None
