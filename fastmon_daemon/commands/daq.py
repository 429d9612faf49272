"""`fastmon-daemon daq`: simulate one run of the DAQ and the data agent."""

from __future__ import annotations

import json
import sys
import threading
from typing import TYPE_CHECKING, Any

import click

from fastmon_daemon.base.clock import Clock
from fastmon_daemon.base.errors import FastmonError
from fastmon_daemon.commands.common import json_option, load_context, rate_option

if TYPE_CHECKING:
    from fastmon_daemon.testbed.daq import DaqProgress


@click.command(epilog="Exit codes: 0 done, 1 error, 2 usage error, 78 invalid settings, 130 interrupted.")
@click.option("--stf", type=click.IntRange(min=1), required=True, metavar="N", help="Number of STFs.")
@rate_option(1.0)
@click.option(
    "--run", type=click.IntRange(1, 2**31 - 1), metavar="N", help="Run number. Default: the next one of the monitor."
)
@click.option("--namespace", metavar="NAMESPACE", help="Namespace of the run; overrides FASTMON_NAMESPACE.")
@click.option(
    "--data-agent",
    type=click.Choice(["example", "real"]),
    default="example",
    show_default=True,
    help="When to send stf_ready: after the registration of each STF (example), or once, before all (real).",
)
@click.option(
    "--late", type=click.FloatRange(min=0), metavar="SECONDS", help="Register each STF this long after its stf_ready."
)
@click.option("--size", type=click.IntRange(min=0), metavar="BYTES", help="Size of each STF. Default: unknown (null).")
@json_option("run, generated, registered, ready, messages, seconds")
def daq(namespace: str | None, data_agent: str, rate: float, late: float | None, as_json: bool, **plan: Any) -> None:
    """Simulate one run of the DAQ and the data agent.

    Messages go to the broker and registrations to the monitor of the settings. Both are retried until they succeed.
    Ctrl-C stops early.
    """
    from fastmon_daemon.testbed.daq import Daq, DataAgent, RunPlan

    settings = load_context(FASTMON_NAMESPACE=namespace or None).settings
    run_plan = RunPlan(data_agent=DataAgent(data_agent), rate_hz=rate, late_s=late, **plan)
    player = Daq(settings, run_plan, Clock(), threading.Event())
    try:
        player.play()
    except KeyboardInterrupt:
        click.echo("stopped early", err=True)
        _print(player.progress, as_json)
        sys.exit(130)
    except FastmonError:
        if not as_json:  # else the error is the one object on stdout
            _print(player.progress, as_json)
        raise
    _print(player.progress, as_json)


def _print(done: DaqProgress, as_json: bool) -> None:
    line = f"run {done.run}: {done.generated} STFs in {done.seconds} s, {done.registered} registered, "
    click.echo(json.dumps(done.as_json()) if as_json else f"{line}{done.messages} messages")
