"""How the figures grow when a load is 1, 10 and 100 times as large; one round each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from bench import client, measures
from bench.figures import percentile, rounded
from bench.parts import LAN_MS, THE_LONGEST_OUTAGE, Say
from bench.recorder import TF_PER_STF
from bench.svg import Axis, Points

TIMES = (1, 10, 100)
OFFERED_S = 4.0
FRESH = 15
FAR_MS = 50


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One plot; *name* is that of its file."""

    name: str
    title: str
    x: Axis
    y: Axis
    series: Mapping[str, Points]
    remark: str
    """What the reader should see, in the document."""


def measure(say: Say) -> list[Curve]:
    """Measure all curves."""
    curves = []
    for curve in _curves():
        curves.append(curve)
        for name, points in curve.series.items():
            say(f"{curve.name}: {name}: {', '.join(f'{rounded(x):g}: {rounded(y):g}' for x, y in points)}")
    return curves


def _curves() -> Iterator[Curve]:
    yield _offered_rate()
    yield _offered_rate(FAR_MS)
    yield _call_time()
    yield _capacity()
    yield from _backlog()
    yield _fresh()
    yield _burst()
    yield _client()


def _offered_rate(latency_ms: float = 0) -> Curve:
    p50, p99, cpu = [], [], []
    for times in TIMES:
        rate = measures.DAQ_HZ * times
        found, cpu_share = measures.offered(rate, OFFERED_S, latency_ms=latency_ms)
        p50.append((rate, percentile(found, 50) / 1000))
        p99.append((rate, percentile(found, 99) / 1000))
        cpu.append((rate, cpu_share))
    far = f", {latency_ms:g} ms a call" if latency_ms else ""
    return Curve(
        name=f"growth-rate-{latency_ms:g}ms" if latency_ms else "growth-rate",
        title=f"STFs that come at 1, 10 and 100 times the rate of the DAQ{far}",
        x=Axis(label="STF/s published, for 4 s", log=True), y=Axis(label="seconds; cores", log=True),
        series={"latency p50, s": p50, "latency p99, s": p99, "CPU of the daemon, cores": cpu},
        remark="Here the monitor has no limit. Where the latency leaves milliseconds, one daemon no longer keeps up "
        "on this machine, and the STFs wait in its database.",
    )  # fmt: skip


def _call_time() -> Curve:
    ours, theirs = [], []
    for times in TIMES:
        latency = 0.5 * times
        ours.append((latency, measures.burst(min(200, 60 * round(4 / times + 1)), latency_ms=latency).stf_per_s))
        theirs.append((latency, measures.old_agent(max(2, 10 // times), latency_ms=latency)))
    return Curve(
        name="growth-call-time", title="Throughput, and the time of one call to the monitor",
        x=Axis(label="ms a call, added by the network", log=True), y=Axis(label="STF/s", log=True),
        series={"fastmon": ours, "sequential reference": theirs},
        remark="A sequential program slows down with every millisecond of a call; calls side by side hide it.",
    )  # fmt: skip


def _capacity() -> Curve:
    ours, theirs, calls = [], [], []
    for times in TIMES:
        hz = 10 * times
        theirs.append((hz, measures.load(4, capacity_hz=hz)))
        found = measures.burst({1: 5, 10: 60, 100: 200}[times], capacity_hz=hz)
        ours.append((hz, TF_PER_STF * found.stf_per_s))
        calls.append((hz, found.calls_per_s))
    return Curve(
        name="growth-capacity", title="TF files a second, and the capacity of the monitor",
        x=Axis(label="requests/s that the monitor takes (the real one: about 95)", log=True),
        y=Axis(label="rows/s; requests/s", log=True),
        series={"fastmon, rows": ours, "fastmon, all requests": calls, "load generator, rows": theirs},
        remark="As long as the monitor is the limit, both lines of rows rise with it; then the processors are.",
    )  # fmt: skip


def _backlog() -> Iterator[Curve]:
    waiting = [THE_LONGEST_OUTAGE * times // 100 for times in TIMES]
    found = [measures.drain(count, 50, 250) for count in waiting]

    def points(value: Callable[[measures.Drain], float]) -> Points:
        return [(count, value(drain)) for count, drain in zip(waiting, found, strict=True)]

    yield Curve(
        name="growth-backlog", title="A backlog of 43 minutes, 7 hours and 72 hours: drain rate",
        x=Axis(label="STFs waiting", log=True), y=Axis(label="STF/s"),
        series={"drain rate, 2 ms a call": points(lambda drain: drain.stf_per_s)},
        remark="Flat is right: what waits costs nothing until its turn.",
    )  # fmt: skip
    yield Curve(
        name="growth-backlog-start", title="The same backlogs: start and inspect",
        x=Axis(label="STFs waiting", log=True), y=Axis(label="seconds"),
        series={"start to subscribed, s": points(lambda drain: drain.start_s),
                "inspect, s": points(lambda drain: drain.inspect_s),
                "resident memory, 100 MB": points(lambda drain: drain.rss_mb / 100)},
        remark="The start checks the database; `inspect` reads numbers of STFs that triggers keep.",
    )  # fmt: skip


def _fresh() -> Curve:
    p50, worst = [], []
    for times in TIMES:
        waiting = 2_000 * times
        found = measures.latencies(FRESH, measures.DAQ_HZ, waiting, latency_ms=LAN_MS)
        p50.append((waiting, percentile(found, 50)))
        worst.append((waiting, max(found)))
    return Curve(
        name="growth-fresh", title="Latency of fresh STFs while a backlog drains",
        x=Axis(label="STFs waiting", log=True), y=Axis(label="ms"),
        series={"p50": p50, f"worst of {FRESH}": worst},
        remark="A fresh STF makes its calls before those that wait, at each step, over the same links and processors.",
    )  # fmt: skip


def _burst() -> Curve:
    cpu, commits = [], []
    for times in TIMES:
        stfs = 10 * times
        found = measures.burst(stfs)
        cpu.append((stfs, found.cpu_ms))
        commits.append((stfs, found.commits))
    return Curve(
        name="growth-burst", title="Cost of one STF in bursts of 10, 100 and 1000",
        x=Axis(label="STFs published at once", log=True), y=Axis(label="ms; commits"),
        series={"CPU, ms": cpu, "durable commits": commits},
        remark="Group commit: the more there is to do, the more results share a transaction.",
    )  # fmt: skip


def _client() -> Curve:
    ours, theirs = [], []
    for times in TIMES:
        events = 3_500 * times
        found = client.measure(client.Size(events, 1), lambda _: None)
        ours.append((events, found.ours[0]))
        theirs.append((events, found.theirs[0]))
    return Curve(
        name="growth-client", title="CPU an event of the client",
        x=Axis(label="events of one session", log=True), y=Axis(label="microseconds"),
        series={"fastmon-client": ours, "bare client": theirs},
        remark="Flat is right: what the client remembers of a session does not slow it down.",
    )  # fmt: skip
