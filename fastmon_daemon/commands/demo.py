"""`fastmon-daemon demo`: everything in one go, with a kill -9 and an outage in the middle."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import click

from fastmon_daemon.base.clock import Clock
from fastmon_daemon.base.errors import FastmonError

LOST, INTERRUPTED = 1, 130


@click.command()
@click.option("--stf", type=click.IntRange(min=1), default=20, show_default=True, metavar="N", help="How many STFs.")
@click.option(
    "--rate",
    type=click.FloatRange(min=0, min_open=True),
    default=5.0,
    show_default=True,
    metavar="HZ",
    help="STFs per second.",
)
@click.option("--json", "as_json", is_flag=True, help="End with the verdict as one line of JSON.")
def demo(stf: int, rate: float, as_json: bool) -> None:
    """See the main job done: broker, monitor and DAQ are embedded, the daemon is a real process.

    In the middle the daemon is killed with -9 and started again, and the monitor is away for 5 s. The verdict is asked
    of the monitor. Exit codes: 0 every STF came through, once only; 1 not so, and then database and logs are kept.
    """
    import fastmon_daemon.testbed.demo  # noqa: F401 (without the extra `testbed` it ends here, before a folder is made)

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    folder = Path(tempfile.mkdtemp(prefix="fastmon-demo-"))
    code = LOST
    try:
        code = _play(stf, rate, folder, as_json=as_json)
    except FastmonError as exc:
        click.echo(f"fastmon-daemon demo: {exc}", err=True)
    except KeyboardInterrupt:
        click.echo("stopped early; nothing is left behind", err=True)
        code = INTERRUPTED
    finally:
        if code == LOST:
            click.echo(f"database and logs are kept: {folder}", err=True)
        else:
            shutil.rmtree(folder, ignore_errors=True)
    sys.exit(code)


def _play(stf: int, rate: float, folder: Path, *, as_json: bool) -> int:
    from loguru import logger
    from rich.console import Console

    from fastmon_daemon.testbed.demo import Demo, DemoPlan
    from fastmon_daemon.testbed.demo_display import DemoDisplay

    logger.remove()
    logger.add(folder / "world.log")
    logging.basicConfig(filename=folder / "world.log", level="WARNING", force=True)
    picture = DemoDisplay(Console(stderr=as_json))
    plan = DemoPlan(stf=stf, rate_hz=rate, folder=folder, environ=os.environ)
    with Demo(plan, picture.show, Clock()) as story, picture.shown():
        verdict = story.play()
    picture.console.print(
        f"{verdict.stf_completed} of {verdict.stf_sent} STFs completed, {verdict.tf_registered} of "
        f"{verdict.tf_expected} TF files registered, {verdict.announcements} announcements; {verdict.lost} lost, "
        f"{verdict.registered_twice} registered twice; {verdict.kills} kill, {verdict.outages} outage, "
        f"{verdict.seconds} s",
        soft_wrap=True,
        highlight=False,
    )
    if as_json:
        click.echo(json.dumps(verdict.as_json()))
    return 0 if verdict.good else LOST
