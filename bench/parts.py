"""The figures of `make bench`: what each one compares, and its goal. Both sides alternate, round by round."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bench import client, measures, scale_out
from bench.figures import Figure, percentile, rounded
from bench.recorder import TF_PER_STF

LAN_MS, WAN_MS = 2, 50
REAL_HZ = 95
"""Requests a second that the real monitor takes on two cores."""
THE_LONGEST_OUTAGE = 432_000
"""STFs of 72 hours."""

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How much is measured."""

    rounds: int
    lan_rounds: int
    """More than of the others: ours keeps a processor busy, so that any other work there shows."""
    burst: int
    old_agent: int
    old_agent_wan: int
    capacity_burst: int
    load_s: float
    idle: int
    fresh: int
    fresh_waiting: int
    backlogs: tuple[int, int]
    drained: tuple[int, int]
    scale_out: int
    client: client.Size


FULL = Sizes(
    rounds=3, lan_rounds=5, burst=200, old_agent=20, old_agent_wan=3, capacity_burst=80, load_s=6, idle=40,
    fresh=60, fresh_waiting=20_000, backlogs=(1_000, THE_LONGEST_OUTAGE), drained=(100, 500), scale_out=90,
    client=client.FULL,
)  # fmt: skip
SHORT = Sizes(
    rounds=1, lan_rounds=1, burst=30, old_agent=4, old_agent_wan=1, capacity_burst=15, load_s=2, idle=8, fresh=6,
    fresh_waiting=2_000, backlogs=(300, 20_000), drained=(20, 80), scale_out=40, client=client.SHORT,
)  # fmt: skip


class Parts:
    """Measures the figures; *say* gets a line for each round."""

    def __init__(self, sizes: Sizes, say: Say) -> None:
        self._sizes = sizes
        self._say = say
        self._bursts: list[measures.Burst] = []
        """Bursts with everything on, whose commits are counted as well."""

    def throughput_lan(self) -> Figure:
        """Throughput over the reference with a monitor that is near."""
        return self._throughput("throughput_lan", LAN_MS, self._sizes.old_agent, self._sizes.lan_rounds, goal=12)

    def throughput_wan50(self) -> Figure:
        """Throughput over the reference with a monitor that is far."""
        return self._throughput("throughput_wan50", WAN_MS, self._sizes.old_agent_wan, self._sizes.rounds, goal=60)

    def _throughput(self, key: str, latency_ms: int, reference_stfs: int, rounds: int, goal: float) -> Figure:
        ours, theirs = [], []
        for _ in range(rounds):
            theirs.append(measures.old_agent(reference_stfs, latency_ms=latency_ms))
            ours.append(measures.burst(self._sizes.burst, latency_ms=latency_ms).stf_per_s)
            self._say(f"{key}: {ours[-1]:.1f} STF/s, reference {theirs[-1]:.2f} STF/s")
        title = f"throughput over the sequential reference, {latency_ms} ms a call"
        return Figure(
            key=key, title=title, goal=goal, unit="STF/s", ours=ours, theirs=theirs, than="sequential reference"
        )

    def of_monitor(self) -> Figure:
        """What the daemon gets of a monitor with the capacity of the real one."""
        ours, theirs, calls = [], [], []
        for _ in range(self._sizes.rounds):
            theirs.append(measures.load(self._sizes.load_s, capacity_hz=REAL_HZ))
            found = measures.burst(self._sizes.capacity_burst, capacity_hz=REAL_HZ)
            ours.append(TF_PER_STF * found.stf_per_s)
            calls.append(found.calls_per_s)
            self._say(f"of_monitor: {ours[-1]:.1f} rows/s in {calls[-1]:.1f} calls/s, load generator {theirs[-1]:.1f}")
        return Figure(
            key="of_monitor", title=f"rows of what {measures.CONNECTIONS} bare connections get from the monitor",
            goal=0.85, unit="rows/s", ours=ours, theirs=theirs, than="load generator",
            more={"calls_per_s": rounded(percentile(calls, 50))},
        )  # fmt: skip

    def cpu_floor(self) -> Figure:
        """CPU without stage reports and log lines."""
        return self._cpu("cpu_floor", "stages and logs off", measures.floor_burst, goal=1.5)

    def cpu_full(self) -> Figure:
        """CPU with everything on."""
        return self._cpu("cpu_full", "all on", self._burst, goal=2.0)

    def _cpu(self, key: str, what: str, burst: Callable[[int], measures.Burst], goal: float) -> Figure:
        ours, theirs = [], []
        for _ in range(self._sizes.rounds):
            theirs.append(measures.bare_loop(self._sizes.burst))
            ours.append(burst(self._sizes.burst).cpu_ms)
            self._say(f"{key}: {ours[-1]:.1f} ms, bare loop {theirs[-1]:.1f} ms")
        title = f"CPU an STF over the bare loop, {what}"
        return Figure(
            key=key, title=title, goal=goal, at_most=True, unit="ms", ours=ours, theirs=theirs, than="bare loop"
        )

    def _burst(self, stfs: int) -> measures.Burst:
        self._bursts.append(measures.burst(stfs))
        return self._bursts[-1]

    def commits_per_stf(self) -> Figure:
        """Durable commits of the bursts of `cpu_full`, or of one of its own."""
        if not self._bursts:
            self._burst(self._sizes.burst)
        ours = [burst.commits for burst in self._bursts]
        self._say(f"commits_per_stf: {', '.join(f'{each:.1f}' for each in ours)}")
        title = "durable commits an STF under load"
        return Figure(key="commits_per_stf", title=title, goal=2, at_most=True, unit="commits", ours=ours)

    def latency_idle(self) -> Figure:
        """Latency of single STFs with a monitor that is near."""
        return self._latency("latency_idle", LAN_MS, goal=25)

    def latency_idle_50ms(self) -> Figure:
        """Latency of single STFs with a monitor that is far."""
        return self._latency("latency_idle_50ms", WAN_MS, goal=125)

    def _latency(self, key: str, latency_ms: int, goal: float) -> Figure:
        found = [measures.latencies(self._sizes.idle, 4, latency_ms=latency_ms) for _ in range(self._sizes.rounds)]
        ours = [percentile(each, 50) for each in found]
        p95 = rounded(percentile([one for each in found for one in each], 95))
        self._say(f"{key}: p50 {', '.join(f'{each:.0f}' for each in ours)} ms, p95 {p95:g} ms")
        title = f"idle latency p50, stf_ready to the last announcement, {latency_ms} ms a call"
        return Figure(key=key, title=title, goal=goal, at_most=True, unit="ms", ours=ours, more={"p95_ms": p95})

    def latency_fresh(self) -> Figure:
        """Latency of fresh STFs while a backlog drains."""
        sizes = self._sizes
        idle = measures.latencies(sizes.fresh, measures.DAQ_HZ, latency_ms=LAN_MS)
        busy = measures.latencies(sizes.fresh, measures.DAQ_HZ, sizes.fresh_waiting, latency_ms=LAN_MS)
        ours, theirs = percentile(busy, 99), percentile(idle, 99)
        self._say(f"latency_fresh: p99 {ours:.0f} ms, idle {theirs:.0f} ms")
        return Figure(
            key="latency_fresh", title=f"p99 of fresh STFs while {sizes.fresh_waiting} drain, over idle p99",
            goal=3, at_most=True, unit="ms", ours=[ours], theirs=[theirs], than="idle",
            more={"p50_ms": rounded(percentile(busy, 50)), "idle_p50_ms": rounded(percentile(idle, 50))},
        )  # fmt: skip

    def backlog(self) -> Figure:
        """Drain rate with a long backlog over that with a short one."""
        short, long = self._sizes.backlogs
        few = measures.drain(short, *self._sizes.drained)
        many = measures.drain(long, *self._sizes.drained)
        self._say(f"backlog: {many.stf_per_s:.1f} STF/s with {long} waiting, {few.stf_per_s:.1f} with {short}")
        self._say(f"backlog: start {many.start_s:.1f} s, {many.rss_mb:.0f} MB, inspect {many.inspect_s:.2f} s")
        return Figure(
            key="backlog", title=f"drain rate with {long} waiting over that with {short}",
            goal=0.9, unit="STF/s", ours=[many.stf_per_s], theirs=[few.stf_per_s], than=f"{short} waiting",
            also=[
                Figure(key=key, title=f"{what} with {long} waiting", goal=limit, at_most=True, unit=unit, ours=[found])
                for key, what, limit, unit, found in (
                    ("start", "start to subscribed", 2, "s", many.start_s),
                    ("rss", "resident memory", 65, "MB", many.rss_mb),
                    ("inspect", "inspect", 1, "s", many.inspect_s),
                )
            ],
        )  # fmt: skip

    def scale_out(self) -> Figure | None:
        """Two daemons on one queue of Artemis over one; None without Artemis."""
        found = [scale_out.measure(self._sizes.scale_out) for _ in range(self._sizes.rounds)]
        if None in found:
            self._say("scale_out: Artemis is not installed: run python tests/real_brokers/install.py artemis")
            return None
        ours, theirs = zip(*(each for each in found if each), strict=True)
        self._say(f"scale_out: {ours[-1]:.1f} STF/s, one daemon {theirs[-1]:.1f} STF/s")
        return Figure(
            key="scale_out",
            title=f"two daemons on one queue of Artemis, {scale_out.LATENCY_MS} ms a call, {scale_out.CALLS} at once",
            goal=1.7, unit="STF/s", ours=ours, theirs=theirs, than="one daemon",
        )  # fmt: skip

    def client(self) -> Figure:
        """CPU for one event of the client."""
        return client.measure(self._sizes.client, self._say)


KEYS = (
    "throughput_lan", "throughput_wan50", "of_monitor", "cpu_floor", "cpu_full", "latency_idle", "latency_idle_50ms",
    "latency_fresh", "backlog", "commits_per_stf", "scale_out", "client",
)  # fmt: skip
"""The figures, in the order of their measurement."""
