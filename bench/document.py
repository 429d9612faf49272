"""Writes docs/performance.md and its plots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.figures import HEAD, Figure, as_table, rounded
from bench.growth import Curve
from bench.svg import line_plot

DOCS = Path(__file__).parent.parent / "docs"

_TEXT = """# Performance

Written by `make bench`; do not edit.

## Before you read the figures

{busy}- **Compare ratios, not figures.** Both sides of a ratio were measured in turn, round by round, on one machine.
  The same machine an hour later, or a busy one, gives other milliseconds; the ratios move much less.
- **The daemon, the monitor, the broker and the load share the cores.** The monitor and the broker are the embedded
  ones, in one process. On machines of their own each of them gets more.
- **The monitor is a model.** `latency_ms` delays each call as a distant monitor does; `capacity_hz` makes it one
  Python process like the real one, with figures measured there ([local-testbed.md](local-testbed.md)). The real one
  also loses time to its database, its web pages and its other agents.
- **The sequential reference** (`bench/old_agent.py`) makes the calls of the testbed's own agent, one after the other:
  7 registrations, 9 heart-beats and 32 log lines an STF. It keeps nothing and retries nothing.
- **The bare loop** (`bench/bare_loop.py`) is the least that a correct program could do with the same libraries: 7
  POSTs, 7 SENDs with receipts, the daemon's rows in 4 durable commits. It has no intake, no concurrency, no recovery
  and no reports, and starts with a list of STFs: a ratio of 1 is out of reach.
- **The bare client** (`bench/bare_client.py`) parses each event and forgets it.
- **Default settings everywhere**, except: every STF is sampled (`FASTMON_SELECTION_FRACTION=1.0`); for the floor,
  stage reports and log lines are off; where a backlog drains, its announcements are not limited
  (`FASTMON_LATE_ANNOUNCE_RATE=0`): by default they are limited to 30/s, because the real monitor's listener takes
  about 43/s.
- **Latency** is from the moment at which the broker gets `stf_ready` to that at which it has the last of the 7
  announcements.
- **Durable commits** are counted by SQLite itself; each one is an `fsync`.

## Machine

{machine}

## Figures

{figures}

{missing}A goal that is missed is missed on this machine in this run. What the figures consist of:

- **CPU an STF.** Seven registrations are the largest part: urllib3 and http.client. (The POSTs of the bare loop go
  through requests as well, which costs more than the exchange itself.) Then the engine's thread: statements,
  transitions, results that pass from thread to thread. The intake, with the seven announcements that come back to
  whoever subscribes to the topic, is about an eighth. With all on, three calls for the stage of an STF come on top.
- **Idle latency.** Two round trips to the monitor (the first registration alone, then six together), one to the
  broker, and two commits before the last announcement. With a near monitor the time is CPU: seven registrations, of
  both sides, on the same cores.
- **Fresh STFs while a backlog drains** make their calls first, but share connections, processors and commits with it:
  each call waits for those in flight. When the daemon starts, it reads the list of all STFs of the run, which keeps
  it and the embedded monitor busy for a moment: a p99 of few STFs is one that met it.
- **Throughput with a near monitor** is bound by the processors, which daemon, monitor and broker share: the daemon
  keeps one of two busy to nine tenths. Half of its time goes to the engine's thread, nearly all of the rest to the
  calls: of each, two fifths are system calls, a fifth the request, a quarter the response. The reference waits for
  the monitor most of the time, so on slower processors the ratio is lower. Neither fewer calls at once nor fewer
  changes of a socket's timeout make it faster.
- **CPU an event of the client**: two fifths are sseclient-py and json, as in the bare loop; a third counts runs, STFs
  and TF files; the rest checks what others wrote, and passes it from the thread that reads to the one that counts.

## Growth

Each load at 1, 10 and 100 times its size, one round each.

{growth}
## Reproduce

<!-- not run: minutes -->

    make bench                                  # everything, and this document: a quarter of an hour
    make bench-short                            # a minute, as CI runs it: fails only if a figure is absurd
    .venv/bin/python -m bench --only backlog    # one figure

The last line of the output is one JSON object with the figures, their goals, their spread, and the medians of both
sides. The machine should do nothing else; two cores are enough.
"""


def write(
    machine: Mapping[str, str], figures: Mapping[str, Figure | None], curves: Sequence[Curve], busy: str = ""
) -> None:
    """Write the document and one SVG for each of *curves*; *busy* is the note that the machine was busy."""
    for curve in curves:
        plot = line_plot(curve.title, curve.x, curve.y, curve.series)
        (DOCS / "images" / f"{curve.name}.svg").write_text(plot, encoding="utf-8")
    measured = [figure for figure in figures.values() if figure]
    missing = [key for key, figure in figures.items() if not figure]
    text = _TEXT.format(
        busy=busy,
        machine=_table(("", ""), list(machine.items())),
        figures=_table(HEAD, as_table(measured)),
        missing=f"Not measured here: {', '.join(f'`{key}`' for key in missing)}.\n\n" if missing else "",
        growth="".join(_section(curve) for curve in curves),
    )
    (DOCS / "performance.md").write_text(text, encoding="utf-8")


def _section(curve: Curve) -> str:
    xs = sorted({x for points in curve.series.values() for x, _ in points})
    head = (curve.x.label, *(f"{x:g}" if x < 1e6 else f"{x:.0f}" for x in xs))
    rows = [
        (name, *(f"{rounded(dict(points)[x]):.10g}" if x in dict(points) else "-" for x in xs))
        for name, points in curve.series.items()
    ]
    return (
        f"### {curve.title}\n\n![{curve.title}](images/{curve.name}.svg)\n\n{_table(head, rows)}\n\n{curve.remark}\n\n"
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
