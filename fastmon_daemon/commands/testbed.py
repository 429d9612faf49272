"""`fastmon-daemon testbed`: a broker and a monitor on loopback, for newcomers and for tests."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import click

from fastmon_daemon.base.errors import FastmonError

_PORT = click.IntRange(0, 65535)


@click.command()
@click.option("--broker-port", type=_PORT, default=0, show_default=True, help="STOMP port; 0 takes a free one.")
@click.option("--monitor-port", type=_PORT, default=0, show_default=True, help="HTTP port; 0 takes a free one.")
@click.option(
    "--env-file",
    type=click.Path(path_type=Path, dir_okay=False),
    default=".env.testbed",
    show_default=True,
    help="File that appears when both accept: what daemon and client need to find them.",
)
@click.option("--messages-endpoint", is_flag=True, help="Give the monitor POST /api/messages/ (the real one has none).")
def testbed(broker_port: int, monitor_port: int, env_file: Path, messages_endpoint: bool) -> None:
    """Run a broker and a monitor on 127.0.0.1 until Ctrl-C.

    They keep everything in memory. GET /_testbed/counts tells what the monitor has seen, POST /_testbed/faults lets
    things go wrong. The file with their addresses is removed at the end.
    """
    import uvloop

    from fastmon_daemon.testbed.testbed import TestbedOptions, serve

    options = TestbedOptions(broker_port=broker_port, monitor_port=monitor_port, messages_endpoint=messages_endpoint)

    async def until_asked() -> None:
        asked, loop = asyncio.Event(), asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, asked.set)
        await serve(options, env_file, asked, click.echo)

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(until_asked())
    except OSError as exc:
        ports = f"--broker-port {broker_port} --monitor-port {monitor_port} --env-file {env_file}"
        raise FastmonError(f"{ports}: {exc.strerror}: name free ports (0: any) and a file you may write") from exc
