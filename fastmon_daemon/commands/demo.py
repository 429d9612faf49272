"""`fastmon-daemon demo`: run a complete example with a crash of the daemon and an outage of the monitor."""

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
from fastmon_daemon.commands.common import json_option, rate_option

LOST, INTERRUPTED = 1, 130


@click.command(
    epilog="Exit codes: 0 every STF processed exactly once, 1 an STF lost or processed twice, or an error, "
    "2 usage error, 130 interrupted."
)
@click.option("--stf", type=click.IntRange(min=1), default=20, show_default=True, metavar="N", help="Number of STFs.")
@rate_option(5.0)
@json_option()
def demo(stf: int, rate: float, as_json: bool) -> None:
    """Demonstrate recovery from a crash and an outage.

    Broker, monitor and DAQ run inside this command; the daemon is a separate process. During the run the daemon is
    killed with SIGKILL and restarted, and the monitor is down for 5 s. The verdict is read from the monitor. If it is
    bad, the database and the logs are kept.
    """
    import fastmon_daemon.testbed.demo  # noqa: F401 (fails without the extra `testbed`, before a folder is made)

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    folder = Path(tempfile.mkdtemp(prefix="fastmon-demo-"))
    code = LOST
    try:
        code = _play(stf, rate, folder, as_json=as_json)
    except FastmonError as exc:
        click.echo(f"fastmon-daemon demo: {exc}", err=True)
    except KeyboardInterrupt:
        click.echo("stopped early; all files removed", err=True)
        code = INTERRUPTED
    finally:
        if code == LOST:
            click.echo(f"database and logs kept in {folder}", err=True)
        else:
            shutil.rmtree(folder, ignore_errors=True)
    sys.exit(code)


def _play(stf: int, rate: float, folder: Path, *, as_json: bool) -> int:
    from loguru import logger
    from rich.console import Console

    from fastmon_daemon.testbed.demo import Demo, DemoPlan
    from fastmon_daemon.testbed.demo_display import DemoDisplay

    logger.remove()
    logger.add(folder / "testbed.log", backtrace=False, diagnose=False)
    logging.basicConfig(filename=folder / "testbed.log", level="WARNING", force=True)
    display = DemoDisplay(Console(stderr=as_json))
    plan = DemoPlan(stf=stf, rate_hz=rate, folder=folder, environ=os.environ)
    with Demo(plan, display.show, Clock()) as run, display.shown():
        verdict = run.play()
    display.console.print(
        f"{verdict.stf_completed} of {verdict.stf_sent} STFs completed, {verdict.tf_registered} of "
        f"{verdict.tf_expected} TF files registered, {verdict.announcements} announcements, {verdict.stages_complete} "
        f"workflow stages complete ({verdict.stages_unreportable} unreportable); {verdict.lost} lost, "
        f"{verdict.registered_twice} registered twice; {verdict.kills} kill, {verdict.outages} outage, "
        f"{verdict.seconds} s",
        soft_wrap=True,
        highlight=False,
    )
    if as_json:
        click.echo(json.dumps(verdict.as_json()))
    return 0 if verdict.good else LOST
