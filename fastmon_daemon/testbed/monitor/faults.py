"""The faults of the testbed: their names, their values, and which are in force.

`FaultMiddleware` applies them to requests, `MonitorServer` carries out its own outages, and the broker's faults go to a
callback. docs/local-testbed.md describes each fault.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

RATES = ("error_rate", "drop_rate", "error_after_commit_rate", "html_200_rate")
DURATIONS = ("down_s", "hang_s", "sse_deaf_s", "broker_down_s", "broker_silent_s")
FLAGS = ("redirect", "revoked", "no_receipts")
DELAYS = ("latency_ms", "drip_ms")
NAMES = (*DELAYS, "capacity_hz", *RATES, "error_status", "sse_cut_after", *DURATIONS, *FLAGS, "endpoints")
BROKER_FAULTS = ("broker_down_s", "broker_silent_s", "no_receipts")

# Measured at the real monitor, one Python process with PostgreSQL: a POST takes 18 ms alone and 80 ms among 8; 4
# connections get nearly all of its 95 POSTs/s, 8 get no more, 16 and 30 get a fifth less.
PARALLEL_PART = 0.8
"""Part of a call, in units of 1/``capacity_hz``, that all calls do side by side: the database and its connection."""
CROWD = 8
CROWDED_COST = 1.25
"""With more than `CROWD` calls in flight, each call takes so many times longer: threads contend for one interpreter."""
COST_SPREAD = 0.5
"""The cost of a call varies uniformly by this fraction to both sides."""

OnBrokerFault = Callable[[str, float | bool], None]
"""(fault, value): seconds (0 ends the fault) or, for ``no_receipts``, whether receipts are suppressed."""


class BadFaults(Exception):
    """Unknown faults or invalid values; *problems* maps each name to its problem."""

    def __init__(self, problems: dict[str, str]) -> None:
        super().__init__(problems)
        self.problems = problems


class Faults:
    """The faults in force. *monotonic* returns seconds, *rng* decides which requests a rate hits."""

    def __init__(
        self, monotonic: Callable[[], float], rng: Random, on_broker_fault: OnBrokerFault | None = None
    ) -> None:
        self._monotonic = monotonic
        self._rng = rng
        self._on_broker_fault = on_broker_fault
        self._values: dict[str, Any] = {}
        self._until: dict[str, float] = {}
        self._process_free_at = 0.0

    def set(self, wanted: Any) -> dict[str, Any]:
        """Set the faults in *wanted* and keep the others; an empty object clears all. Returns `in_force`.

        Raises: BadFaults if one is invalid; then nothing is changed.
        """
        problems = _problems(wanted)
        if problems:
            raise BadFaults(problems)
        if not wanted:
            self._values.clear()
            self._until.clear()
        if not wanted or "capacity_hz" in wanted:
            self._process_free_at = 0.0
        self._values.update({name: value for name, value in wanted.items() if name not in DURATIONS})
        self._until.update({name: self._monotonic() + wanted[name] for name in DURATIONS if name in wanted})
        self._set_broker_faults(wanted or {"broker_down_s": 0, "broker_silent_s": 0, "no_receipts": False})
        return self.in_force()

    def in_force(self) -> dict[str, Any]:
        """Name -> value of each active fault; for durations, the seconds left."""
        durations = {name: round(self.left(name), 3) for name in self._until}
        return {name: value for name, value in {**self._values, **durations}.items() if value}

    def left(self, name: str) -> float:
        """Seconds left of the duration *name*; 0 if it is over."""
        return max(0.0, self._until.get(name, 0.0) - self._monotonic()) if name in self._until else 0.0

    def hits(self, name: str) -> bool:
        """Draw whether the rate *name* hits this request."""
        rate: float = self._values.get(name, 0)
        return self._rng.random() < rate

    def on(self, name: str) -> bool:
        """Whether the flag *name* is set."""
        return bool(self._values.get(name, False))

    def delay(self, name: str) -> float:
        """The delay *name* in seconds."""
        return float(self._values.get(name, 0)) / 1000

    def take_turn(self, others: int) -> float:
        """Queue a call behind *others* in flight; return the seconds until it is served, 0 without ``capacity_hz``."""
        capacity_hz: float = self._values.get("capacity_hz", 0)
        if not capacity_hz:
            return 0.0
        now = self._monotonic()
        cost = self._rng.uniform(1 - COST_SPREAD, 1 + COST_SPREAD) * (CROWDED_COST if others >= CROWD else 1)
        begin = max(now + PARALLEL_PART / capacity_hz, self._process_free_at)
        self._process_free_at = begin + cost / capacity_hz
        return self._process_free_at - now

    def take_cut(self) -> int | None:
        """Return, once, after how many bytes of an event the stream is cut; None if it is not."""
        cut = self._values.pop("sse_cut_after", None)
        return None if cut is None else int(cut)

    @property
    def error_status(self) -> int:
        """HTTP status of injected errors."""
        return int(self._values.get("error_status", 500))

    def apply_to(self, path: str) -> bool:
        """Whether requests to *path* are affected; ``endpoints`` limits the faults to some path prefixes."""
        prefixes = self._values.get("endpoints")
        return not prefixes or path.startswith(tuple(prefixes))

    def _set_broker_faults(self, wanted: dict[str, Any]) -> None:
        if self._on_broker_fault:
            for name in BROKER_FAULTS:
                if name in wanted:
                    self._on_broker_fault(name, wanted[name])


def _problems(wanted: Any) -> dict[str, str]:
    if not isinstance(wanted, dict):
        return {"body": "must be a JSON object of faults; an empty object clears all"}
    return {name: problem for name, value in wanted.items() if (problem := _problem(name, value))}


def _problem(name: str, value: Any) -> str | None:
    if name not in NAMES:
        return f"unknown fault; known faults: {', '.join(NAMES)}"
    if name in FLAGS:
        return None if isinstance(value, bool) else f"must be true or false, not {value!r}"
    if name == "endpoints":
        valid = isinstance(value, list) and all(isinstance(each, str) for each in value)
        return None if valid else f"must be a list of path prefixes such as /api/fastmon-files/, not {value!r}"
    return _number_problem(name, value)


def _number_problem(name: str, value: Any) -> str | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0:
        return f"must be a number of at least 0, not {value!r}"
    if name in RATES and value > 1:
        return f"must be between 0 and 1, not {value!r}"
    if name == "error_status" and value not in range(400, 600):
        return f"must be an HTTP status from 400 to 599, not {value!r}"
    return None
