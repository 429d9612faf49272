"""`fastmon-daemon run`: run the daemon."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click
from loguru import logger

from fastmon_daemon.base import failpoints, logs
from fastmon_daemon.commands.common import db_option, load_context
from fastmon_daemon.service import EXIT_NOT_DRAINED
from fastmon_daemon.service import run as serve
from fastmon_daemon.settings import describe_unknown


@click.command(
    epilog="Exit codes: 0 stopped (--once: no work left), 1 work remains (--once), 2 usage error, 3 unusable database, "
    "75 database in use or work not drained, 78 invalid settings."
)
@click.option("--once", is_flag=True, help="Process pending work without subscribing, then exit.")
@click.option("--mode", type=click.Choice(["message", "continuous"]), help="Source of STFs; overrides FASTMON_MODE.")
@db_option
def run(once: bool, mode: str | None, db: Path | None) -> None:
    """Run the daemon in the foreground.

    It receives STFs from the broker, or from watched folders (--mode continuous), and registers and announces their TF
    files. Settings come from the environment, `.env` and `~/.env`; `fastmon-daemon config` shows them.

    SIGTERM, SIGINT and SIGQUIT finish in-flight work first, for up to FASTMON_DRAIN_S seconds; a second signal exits
    immediately. SIGHUP reads the settings again, as `fastmon-daemon reload` does; in a terminal, which sends SIGHUP
    when it closes, it stops the daemon.
    """
    context = load_context(db, of_daemon=True, FASTMON_MODE=mode)
    if crash := os.environ.get("FASTMON_TEST_CRASH"):  # only for tests, hence not a setting
        failpoints.set_hook(failpoints.kill_at(crash))
    logs.log_uncaught()
    for name in context.settings.unknown:
        logger.warning("{}", describe_unknown(name))
    for warning in context.settings.exposed:
        logger.warning("{}", warning)
    logger.info("database path from {}", context.database_rule)
    try:
        code = serve(context, once=once)
    except KeyboardInterrupt:
        logger.warning("stopped immediately: in-flight work is repeated at the next start")
        code = EXIT_NOT_DRAINED
    logs.write_sums()
    if code == EXIT_NOT_DRAINED:
        sys.stderr.flush()
        os._exit(code)  # a thread may still wait for the network; its result is not needed
    sys.exit(code)
