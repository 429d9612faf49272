"""`fastmon-daemon testbed`: run a broker and a monitor on loopback."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import click

from fastmon_daemon.base.errors import FastmonError

_PORT = click.IntRange(0, 65535)


@click.command(epilog="Exit codes: 0 stopped, 1 port or file not usable, 2 usage error.")
@click.option("--broker-port", type=_PORT, default=0, show_default=True, help="STOMP port; 0 picks a free port.")
@click.option("--monitor-port", type=_PORT, default=0, show_default=True, help="HTTP port; 0 picks a free port.")
@click.option(
    "--env-file",
    type=click.Path(path_type=Path, dir_okay=False),
    default=".env.testbed",
    show_default=True,
    help="File to write when both are ready: the settings that daemon and client need.",
)
@click.option(
    "--messages-endpoint", is_flag=True, help="Enable POST /api/messages/, which the real monitor does not have."
)
@click.option("--detach", is_flag=True, help="Return when both are ready; `kill $TESTBED_PID` stops them.")
def testbed(broker_port: int, monitor_port: int, env_file: Path, messages_endpoint: bool, detach: bool) -> None:
    """Run a broker and a monitor on 127.0.0.1 until Ctrl-C.

    All data is kept in memory. GET /_testbed/counts of the monitor returns what it received, POST /_testbed/faults
    injects faults. The env file also has the process id, as TESTBED_PID; it is removed at exit.
    """
    import uvloop

    from fastmon_daemon.testbed.testbed import TestbedOptions, serve

    options = TestbedOptions(broker_port=broker_port, monitor_port=monitor_port, messages_endpoint=messages_endpoint)

    async def until_stopped() -> None:
        stop, loop = asyncio.Event(), asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        await serve(options, env_file, stop, tell)

    tell = _detached() if detach else click.echo
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(until_stopped())
    except OSError as exc:
        options_text = f"--broker-port {broker_port} --monitor-port {monitor_port} --env-file {env_file}"
        raise FastmonError(f"{options_text}: {exc.strerror}: use free ports (0: any) and a writable file") from exc


def _detached() -> Callable[[str], None]:
    """Go on in a child process; the calling process ends when the child is ready, with what it said, or has failed.

    Returns how the child tells that it is ready: once.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(writing)
        with open(reading, encoding="utf-8") as ready:  # noqa: PTH123 (an open descriptor)
            said = ready.read()
        if not said:
            sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        click.echo(said, nl=False)
        sys.exit(0)
    os.close(reading)
    os.setsid()

    def tell(said: str) -> None:
        os.write(writing, f"{said}\n".encode())
        nowhere = os.open(os.devnull, os.O_RDWR)
        for each in (0, 1, 2, writing):  # nobody waits for the end of what this process would write
            os.dup2(nowhere, each)

    return tell
