"""`make soak`: STFs come for an hour while faults of all kinds come and go; nothing may be lost, and nothing may grow.

The memory, descriptors, threads, database and write-ahead log of the daemon are sampled and plotted.
"""

from __future__ import annotations

import math
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import click
from loguru import logger

from bench.daemon import Daemon, running_daemon
from bench.machine import describe, descriptors, rss_mb, threads
from bench.svg import Axis, line_plot
from bench.testbed import FIRST_RUN, TestbedProcess, measured_testbed

RATE_HZ = 5.0
FINISH_S = 300.0
"""Longest time that the daemon may take for what is left when the faults are over."""
FAULT_S = (2.0, 12.0)
PAUSE_S = (3.0, 20.0)
"""Shortest and longest duration of a fault, and pause after it."""
DOCUMENTED_FROM_MIN = 30.0
NO_PROBLEM = "- nothing was lost, and nothing grew beyond its limit\n"
DOCS = Path(__file__).parent.parent / "docs"
ENDPOINTS = ("/api/fastmon-files/", "/api/stf-files/", "/api/workflow", "/api/logs/", "/api/systemagents/")

FAULTS: Mapping[str, Callable[[Random, float], dict[str, Any]]] = {
    "latency_ms": lambda rng, _: {"latency_ms": rng.choice((20, 100, 500))},
    "capacity_hz": lambda rng, _: {"capacity_hz": rng.choice((20, 95))},
    "drip_ms": lambda rng, _: {"drip_ms": rng.choice((1, 5))},
    "error_rate": lambda rng, _: {
        "error_rate": rng.choice((0.1, 1.0)),
        "error_status": rng.choice((500, 502, 503, 429)),
    },
    "error_after_commit_rate": lambda rng, _: {"error_after_commit_rate": rng.choice((0.1, 1.0))},
    "drop_rate": lambda rng, _: {"drop_rate": rng.choice((0.1, 1.0))},
    "html_200_rate": lambda rng, _: {"html_200_rate": rng.choice((0.1, 1.0))},
    "redirect": lambda _, __: {"redirect": True},
    "revoked": lambda _, __: {"revoked": True},
    "down_s": lambda _, seconds: {"down_s": seconds},
    "hang_s": lambda _, seconds: {"hang_s": seconds},
    "broker_down_s": lambda _, seconds: {"broker_down_s": seconds},
    "broker_silent_s": lambda _, seconds: {"broker_silent_s": seconds},
    "no_receipts": lambda _, __: {"no_receipts": True},
    "endpoints": lambda rng, _: {"error_rate": 0.5, "endpoints": [rng.choice(ENDPOINTS)]},
}
"""Name -> the faults to set, given their duration in seconds."""
NOT_OF_THE_DAEMON = ("sse_cut_after", "sse_deaf_s")
"""Faults of the stream, which the daemon does not read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The daemon at one moment; *at* is in minutes from the start."""

    at: float
    rss_mb: float
    descriptors: int
    threads: int
    database_mb: float
    wal_mb: float


@dataclass(frozen=True, kw_only=True)
class Resource:
    """One thing that must not grow; *factor* and *slack* are what its second half may exceed its first half by."""

    title: str
    unit: str
    of: Callable[[Sample], float]
    factor: float = 1.0
    slack: float = 0.0

    def limit(self, first: float) -> float:
        """The most that the second half may have if the first had *first*."""
        return self.factor * first + self.slack


RESOURCES = (
    Resource(title="resident memory", unit="MB", of=lambda sample: sample.rss_mb, factor=1.05, slack=3),
    Resource(title="file descriptors", unit="", of=lambda sample: sample.descriptors, slack=5),
    Resource(title="threads", unit="", of=lambda sample: sample.threads, slack=5),
    Resource(title="database", unit="MB", of=lambda sample: sample.database_mb, factor=1.25, slack=2),
    Resource(title="write-ahead log", unit="MB", of=lambda sample: sample.wal_mb, factor=1.25, slack=8),
)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A soak of *minutes*, in runs that are pruned soon after their end, so that the database reaches its size."""

    minutes: float
    seed: int

    @property
    def run_s(self) -> float:
        """Seconds of one run."""
        return min(180.0, 60 * self.minutes / 6)

    @property
    def runs(self) -> int:
        """Number of runs."""
        return max(1, round(60 * self.minutes / self.run_s))

    @property
    def sample_s(self) -> float:
        """Seconds between two samples."""
        return max(0.5, 60 * self.minutes / 600)

    @property
    def warm_up_min(self) -> float:
        """Minutes until everything has its size: at least until the first runs were pruned."""
        return self.minutes / 3

    @property
    def settings(self) -> dict[str, str]:
        """Settings of the daemon."""
        return {"FASTMON_KEEP_DAYS": f"{self.run_s / 86400:.6f}"}


@dataclass(kw_only=True)
class Result:
    """What a soak found."""

    plan: Plan
    samples: list[Sample] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    account: dict[str, int] = field(default_factory=dict)
    has_ended: bool = False
    """Whether the daemon ended."""

    @property
    def settled(self) -> list[Sample]:
        """The samples after the warm-up."""
        return [sample for sample in self.samples if sample.at >= self.plan.warm_up_min]

    def halves(self, resource: Resource) -> tuple[float, float]:
        """Medians of *resource* in the first and the second half of `settled`; NaN if a half has no sample."""
        values = [resource.of(sample) for sample in self.settled]
        middle = len(values) // 2
        first, second = (statistics.median(half or [math.nan]) for half in (values[:middle], values[middle:]))
        return first, second

    def problems(self) -> Iterator[str]:
        """What went wrong, as sentences."""
        for what in ("lost", "registered_twice", "unfinished", "failed"):
            if self.account[what]:
                yield f"{what}: {self.account[what]}"
        if self.has_ended:
            yield "the daemon ended"
        if len(self.settled) < 2:
            yield "too few samples after the warm-up: whether anything grows is unknown"
        for resource in RESOURCES:
            first, second = self.halves(resource)
            if second > resource.limit(first):
                yield f"{resource.title} grows: {first:.1f} {resource.unit}, then {second:.1f} {resource.unit}"


@click.command()
@click.option("--minutes", type=click.FloatRange(1), default=60.0, show_default=True, help="Duration.")
@click.option(
    "--seed", type=int, default=None, help="Seed of the faults. Default: another one each time; it is printed."
)
@click.option("--folder", type=click.Path(path_type=Path), default=Path(".soak"), show_default=True,
              help="Where the plots are written; a soak of 30 minutes or more also writes docs/soak.md.")  # fmt: skip
def main(minutes: float, seed: int | None, folder: Path) -> None:
    """Run the daemon under faults and check that nothing is lost and nothing grows."""
    logger.disable("fastmon_daemon")
    plan = Plan(minutes=minutes, seed=Random().randrange(10**6) if seed is None else seed)  # noqa: S311 (no secret)
    click.echo(f"{minutes:g} minutes at {RATE_HZ:g} STF/s, seed {plan.seed}")
    result = soak(plan)
    folder.mkdir(parents=True, exist_ok=True)
    write_plots(result, folder)
    if minutes >= DOCUMENTED_FROM_MIN:
        write_plots(result, DOCS / "images")
        (DOCS / "soak.md").write_text(document(result), encoding="utf-8")
    click.echo(table(result))
    click.echo(f"plots are in {folder}/")
    problems = list(result.problems())
    if problems:
        raise SystemExit("\n".join(problems))


def soak(plan: Plan) -> Result:
    """Run the daemon as *plan* says."""
    result = Result(plan=plan)
    with (
        measured_testbed() as testbed,
        tempfile.TemporaryDirectory(prefix="fastmon-soak-") as name,
        running_daemon(testbed, Path(name), **plan.settings) as daemon,
    ):
        runs = range(FIRST_RUN, FIRST_RUN + plan.runs)
        testbed.play_in_background(runs, round(RATE_HZ * plan.run_s), RATE_HZ)
        _break_things(testbed, daemon, result)
        testbed.faults()
        _wait_until_finished(testbed, daemon)
        result.has_ended = daemon.process.poll() is not None
        result.account = {**testbed.account(), **_in_database(daemon)}
    return result


def _break_things(testbed: TestbedProcess, daemon: Daemon, result: Result) -> None:
    """Set one fault after the other, and take samples, while runs are played."""
    rng = Random(result.plan.seed)  # noqa: S311 (no secret)
    began = time.monotonic()
    next_sample = next_change = began
    is_broken, waiting = False, list(FAULTS)
    while not testbed.has_played(min(next_sample, next_change) - time.monotonic()) and daemon.process.poll() is None:
        now = time.monotonic()
        if now >= next_sample:
            result.samples.append(sample(daemon, (now - began) / 60))
            next_sample += result.plan.sample_s
        if now >= next_change:
            testbed.faults()
            seconds = rng.uniform(*(PAUSE_S if is_broken else FAULT_S))
            if not is_broken:
                if not waiting:
                    waiting = list(FAULTS)
                fault = waiting.pop(rng.randrange(len(waiting)))
                testbed.faults(**FAULTS[fault](rng, seconds))
                result.faults.append(fault)
            is_broken, next_change = not is_broken, now + seconds


def sample(daemon: Daemon, at: float) -> Sample:
    """What the daemon uses now."""
    wal = daemon.database.with_name(f"{daemon.database.name}-wal")
    return Sample(
        at=at,
        rss_mb=rss_mb(daemon.pid),
        descriptors=descriptors(daemon.pid),
        threads=threads(daemon.pid),
        database_mb=daemon.database.stat().st_size / 1024**2,
        wal_mb=wal.stat().st_size / 1024**2 if wal.exists() else 0.0,
    )


def _wait_until_finished(testbed: TestbedProcess, daemon: Daemon) -> None:
    daemon.wait_until(lambda: not (testbed.account()["lost"] or daemon.unfinished()), FINISH_S, every_s=1)


def _in_database(daemon: Daemon) -> dict[str, int]:
    return {
        "unfinished": daemon.unfinished(),
        "failed": daemon.query("select count(*) from stf where state = 'failed'"),
        "pruned": daemon.query("select count(*) from pruned"),
        "kept": daemon.query("select count(*) from stf"),
    }


def write_plots(result: Result, folder: Path) -> None:
    """Write one SVG for each resource."""
    for resource in RESOURCES:
        points = [(each.at, resource.of(each)) for each in result.samples]
        label = f"{resource.title}, {resource.unit}" if resource.unit else resource.title
        plot = line_plot(f"Soak: {label}", Axis(label="minutes"), Axis(label=resource.unit), {resource.title: points})
        (folder / plot_name(resource)).write_text(plot, encoding="utf-8")


def plot_name(resource: Resource) -> str:
    """Name of the file of a plot."""
    return f"soak-{resource.title.replace(' ', '-')}.svg"


def table(result: Result) -> str:
    """The account and the resources, as Markdown."""
    lines = ["| STFs | |", "| --- | --- |"]
    lines += [f"| {name.replace('_', ' ')} | {count} |" for name, count in result.account.items()]
    lines += ["", "| | first half | second half | limit |", "| --- | --- | --- | --- |"]
    for resource in RESOURCES:
        first, second = result.halves(resource)
        values = (f"{value:.1f} {resource.unit}".strip() for value in (first, second, resource.limit(first)))
        lines.append(f"| {resource.title} | {' | '.join(values)} |")
    return "\n".join(lines)


def document(result: Result) -> str:
    """The text of docs/soak.md."""
    plan, kinds = result.plan, ", ".join(f"`{kind}`" for kind in sorted(set(result.faults)))
    machine = describe(Path(tempfile.gettempdir()))
    plots = "\n\n".join(f"![{resource.title}](images/{plot_name(resource)})" for resource in RESOURCES)
    return _DOCUMENT.format(
        minutes=plan.minutes, rate=RATE_HZ, faults=len(result.faults), kinds=kinds, seed=plan.seed,
        run=plan.run_s / 60, warm_up=plan.warm_up_min, table=table(result), plots=plots,
        machine=", ".join(f"{name} {value}" for name, value in machine.items()),
        verdict="".join(f"- **{each}**\n" for each in result.problems()) or NO_PROBLEM,
    )  # fmt: skip


_DOCUMENT = """# Soak

Written by `make soak MINUTES={minutes:g}`; do not edit.

One daemon, {minutes:g} minutes, {rate:g} STFs a second in runs of {run:.1f} minutes, and {faults} faults of the testbed
([local-testbed.md](local-testbed.md)), one after the other, in random order with random values (seed {seed}):
{kinds}.

A complete run is pruned as soon as it is as old as it was long, so that the database reaches its size. The broker keeps
nothing for the daemon (`FASTMON_DURABLE` is off): what is published while the link is down is found in the monitor's
tables.

- **lost**: a published STF of which the monitor has not all TF files at the end, or of which one was never announced.
- **registered twice**: rows of the monitor beyond one for each TF file.
- **announced twice**: announcements beyond one for each TF file: those whose confirmation a fault swallowed.
- **first half, second half**: medians, of the time after the first {warm_up:g} minutes.

{table}

Result:

{verdict}
{plots}

Machine: {machine}.
"""


if __name__ == "__main__":
    main()
