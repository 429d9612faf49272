"""What the DAQ's rate, and 10 and 100 times it, need: computed from docs/performance.md, so that it is never older."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import ceil

RATES = (1.7, 17.0, 170.0)
"""STF/s: the DAQ's full rate, 10 and 100 times it."""
TF_FILES = 7
CALLS, CALLS_UNDER_LOAD, CALLS_WITHOUT_STAGES = 16, 10, 8
"""Calls to the monitor an STF: one STF at a time; many at once; many at once with `FASTMON_STAGES=off`."""
MONITOR_HZ, LISTENER_HZ = 95, 43
"""Calls that the real monitor answers in a second, and messages that it takes from the topic."""
CALL_S = 0.05
CALL_BYTES, STF_READY_BYTES, ANNOUNCEMENT_BYTES = 20_000, 450, 900
"""Sent and received: all calls of an STF; a message with its headers."""
COMMITS = {1.7: 8.0, 17.0: 3.0}
"""Durable commits an STF where STFs come apart; `durable_commits` of bench/machine.py counts them."""
ROW_BYTES, WAITING_BYTES = 3_600, 1_000
"""In the database: an STF after its completion, and one that waits."""
DAY_S = 86_400
OUTAGE_S = 3 * DAY_S

Figure = Callable[[str], str]
"""A cell of a measured document, by its name."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What the benchmarks measured."""

    throughput_hz: float
    """STF/s beside monitor, broker and load on the same cores."""
    cpu_s: float
    """CPU time of the daemon an STF, many at once."""
    cores: tuple[str, ...]
    """CPU of the daemon at each of `RATES`."""
    commits: float
    """Durable commits an STF, many at once."""
    event_s: float
    """CPU time of the client an event."""

    @property
    def daemon_hz(self) -> float:
        """STF/s that one daemon carries: as measured, but no more than one core does."""
        return min(self.throughput_hz, 1 / self.cpu_s)

    def daemons(self, rate: float) -> int:
        """How many daemons *rate* needs."""
        return ceil(rate / self.daemon_hz)


def measured(figure: Figure) -> Measured:
    """The figures of docs/performance.md. Raises: LookupError if one is not there."""

    def number(name: str) -> float:
        return float(figure(f"performance.md: {name}").split()[0])

    return Measured(
        throughput_hz=number("throughput over the sequential reference, 2 ms a call: fastmon, median"),
        cpu_s=number("CPU an STF over the bare loop, all on: fastmon, median") / 1e3,
        cores=tuple(figure(f"performance.md: CPU of the daemon, cores: {rate:g}") for rate in RATES),
        commits=number("durable commits an STF under load: value"),
        event_s=number("CPU an event of the client over the bare loop: fastmon, median") / 1e6,
    )


def daemon_rate(figure: Figure) -> str:
    """STF/s that one daemon carries."""
    return f"{measured(figure).daemon_hz:.0f} STF/s"


def needs_table(figure: Figure) -> str:
    """What each rate needs, as a Markdown table."""
    found = measured(figure)
    rows = list(_rows(found))
    heads = " | ".join(f"{rate:g} STF/s" for rate in RATES)
    return f"| | {heads} |\n|---|---|---|---|\n" + "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _rows(found: Measured) -> Iterator[list[str]]:
    def row(title: str, cell: Callable[[float], str]) -> list[str]:
        return [title, *map(cell, RATES)]

    def calls(rate: float) -> tuple[float, float]:
        """In a second, at least and at most; each daemon looks the STFs of the others up."""
        lookups = found.daemons(rate) - 1
        return rate * (CALLS_UNDER_LOAD + lookups), rate * (CALLS + lookups)

    def daemons(rate: float) -> str:
        count = found.daemons(rate)
        if count == 1:
            return f"1, {_percent(float(found.cores[RATES.index(rate)]))} of a core"
        share = _percent(rate * found.cpu_s / count)
        return f"{count} that share a queue, each {share} of a core of its own"

    yield row("calls/s", lambda rate: _range(*calls(rate)))
    yield row(
        f"**monitor** as it is, {MONITOR_HZ} calls/s", lambda rate: _load(*(each / MONITOR_HZ for each in calls(rate)))
    )
    yield row("the same, `FASTMON_STAGES=off`", lambda rate: _load(rate * CALLS_WITHOUT_STAGES / MONITOR_HZ))
    yield row(
        f"**listener** of the monitor, {LISTENER_HZ} messages/s", lambda rate: _load(rate * TF_FILES / LISTENER_HZ)
    )
    yield row("**daemons**", daemons)
    yield row(
        "calls in flight at 50 ms a call, after Little", lambda rate: _range(*(each * CALL_S for each in calls(rate)))
    )
    yield row("network, daemons and monitor", lambda rate: _bits(rate * CALL_BYTES))
    yield row(
        "network, broker and each subscriber",
        lambda rate: _bits(rate * (STF_READY_BYTES + TF_FILES * ANNOUNCEMENT_BYTES)),
    )
    yield row("messages/s to the broker, each persistent", lambda rate: _round(rate * (1 + TF_FILES)))
    yield row("syncs/s of the daemons' disks", lambda rate: _round(rate * COMMITS.get(rate, found.commits)))
    yield row("database, a day of completed runs", lambda rate: _bytes(rate * DAY_S * ROW_BYTES))
    yield row("rows a day in the monitor's `fastmon-files`", lambda rate: _million(rate * TF_FILES * DAY_S))
    yield row(
        "an outage of 72 hours",
        lambda rate: f"{_million(rate * OUTAGE_S)} STFs, {_bytes(rate * OUTAGE_S * WAITING_BYTES)} waiting",
    )
    yield row("a client", lambda rate: f"{_percent(rate * TF_FILES * found.event_s)} of a core")


def _load(low: float, high: float | None = None) -> str:
    """How busy something is, of whose capacity *low* to *high* are asked."""
    high = low if high is None else high
    if high <= 1:
        return f"{_range(low * 100, high * 100)} % busy"
    return f"**{_range(low, high)} times too slow**"


def _range(low: float, high: float) -> str:
    first, last = _round(low), _round(high)
    return first if first == last else f"{first} to {last}"


def _round(value: float) -> str:
    """Two digits: `0.45`, `1.7`, `27`, `1200`."""
    return f"{float(f'{value:.2g}'):g}" if value < 1e5 else f"{float(f'{value:.2g}'):.0f}"


def _percent(share: float) -> str:
    return f"{_round(share * 100)} %"


def _million(count: float) -> str:
    return f"{_round(count / 1e6)} million"


def _bits(bytes_hz: float) -> str:
    return f"{_round(bytes_hz * 8 / 1e6)} Mbit/s"


def _bytes(size: float) -> str:
    return f"{_round(size / 1e9)} GB"
