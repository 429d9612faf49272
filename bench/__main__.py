"""`make bench`: measure everything, print the table, and write docs/performance.md; the last line is a JSON object."""

from __future__ import annotations

import json
import os
import tempfile
import time
from pathlib import Path

import click
from loguru import logger

from bench import document, growth, machine
from bench.figures import HEAD, Figure, as_table
from bench.parts import FULL, KEYS, SHORT, Parts

ABSURD = 20.0
"""A figure that misses its goal by more than this factor shows a fault of the program or of the benchmark."""


@click.command()
@click.option("--short", is_flag=True, help="Measure less, write no document, and fail only if a figure is absurd.")
@click.option(
    "--only", multiple=True, type=click.Choice(KEYS), help="Measure only this figure (repeatable); write none."
)
def main(short: bool, only: tuple[str, ...]) -> None:
    """Measure daemon and client against bare programs that do the same, side by side."""
    logger.disable("fastmon_daemon")
    began = time.monotonic()
    busy = machine.busy_note(os.getloadavg()[0], len(os.sched_getaffinity(0)))
    where = machine.describe(Path(tempfile.gettempdir()))
    for name, value in where.items():
        click.echo(f"{name}: {value}")
    click.echo(busy, nl=False)
    parts = Parts(SHORT if short else FULL, say)
    figures: dict[str, Figure | None] = {}
    for key in KEYS:
        if not only or key in only:
            click.echo(f"{key} ({time.monotonic() - began:.0f} s)")
            figures[key] = getattr(parts, key)()
    measured = [figure for figure in figures.values() if figure]
    print_table(measured)
    if not short and not only:
        document.write(where, figures, growth.measure(say), busy)
    click.echo(f"{time.monotonic() - began:.0f} s")
    click.echo(json.dumps({key: figure and figure.as_json() for key, figure in figures.items()}))
    absurd = [figure.key for figure in measured if is_absurd(figure)]
    if absurd:
        raise SystemExit(f"absurd: {', '.join(absurd)}")


def is_absurd(figure: Figure) -> bool:
    """Whether the figure misses its goal by more than the factor `ABSURD`, or is no positive number."""
    if not figure.value > 0:
        return True
    miss = figure.value / figure.goal if figure.at_most else figure.goal / figure.value
    return miss > ABSURD


def say(line: str) -> None:
    """Print a line of progress, at once."""
    click.echo(line)


def print_table(figures: list[Figure]) -> None:
    """Print the figures in columns."""
    rows = [HEAD, *as_table(figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


if __name__ == "__main__":
    main()
