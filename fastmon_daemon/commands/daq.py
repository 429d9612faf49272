"""`fastmon-daemon daq`: plays one run of the testbed's DAQ and data agent."""

from __future__ import annotations

import json
import sys
import threading

import click

from fastmon_daemon.base.clock import Clock
from fastmon_daemon.commands.startup import load_process


@click.command()
@click.option("--stf", type=click.IntRange(min=1), required=True, metavar="N", help="How many STFs.")
@click.option(
    "--rate",
    type=click.FloatRange(min=0, min_open=True),
    default=1.0,
    show_default=True,
    metavar="HZ",
    help="STFs per second.",
)
@click.option("--run", type=click.IntRange(1, 2**31 - 1), metavar="R", help="Run number; else the monitor's next one.")
@click.option("--namespace", metavar="NS", help="Instead of FASTMON_NAMESPACE.")
@click.option(
    "--data-agent",
    type=click.Choice(["example", "real"]),
    default="example",
    show_default=True,
    help="Whose stf_ready: one per STF after its registration, or one per run before it.",
)
@click.option(
    "--late", type=click.FloatRange(min=0), metavar="SECONDS", help="Register each STF so long after its stf_ready."
)
@click.option("--size", type=click.IntRange(min=0), metavar="BYTES", help="Size of each STF; null if not given.")
@click.option("--json", "as_json", is_flag=True, help="End with one JSON object.")
def daq(
    stf: int,
    rate: float,
    run: int | None,
    namespace: str | None,
    data_agent: str,
    late: float | None,
    size: int | None,
    as_json: bool,
) -> None:
    """Play one run against the broker and the monitor that the settings name.

    Messages and registrations are tried until they are in, however long the other side is away. Ctrl-C stops early.
    """
    from fastmon_daemon.testbed.daq import Daq, DataAgent, RunPlan

    settings = load_process(FASTMON_NAMESPACE=namespace or None).settings
    plan = RunPlan(stf=stf, rate_hz=rate, run=run, data_agent=DataAgent(data_agent), late_s=late, size=size)
    player = Daq(settings, plan, Clock(), threading.Event())
    try:
        player.play()
    except KeyboardInterrupt:
        click.echo("stopped early", err=True)
        sys.exit(130)
    finally:
        done = player.progress
        line = f"run {done.run}: {done.generated} STFs in {done.seconds} s, {done.registered} registered, "
        click.echo(json.dumps(done.as_json()) if as_json else f"{line}{done.messages} messages")
