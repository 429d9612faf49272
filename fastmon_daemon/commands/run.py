"""`fastmon-daemon run`: the daemon itself."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click
from loguru import logger

from fastmon_daemon.base import failpoints
from fastmon_daemon.commands.startup import load_process
from fastmon_daemon.service import EXIT_NOT_DRAINED
from fastmon_daemon.service import run as serve


@click.command()
@click.option("--once", is_flag=True, help="Do what is due without subscribing, then exit: 0 done, 1 something waits.")
@click.option(
    "--mode", type=click.Choice(["message", "continuous"]), help="Where STFs come from, instead of FASTMON_MODE."
)
@click.option("--db", type=click.Path(path_type=Path, dir_okay=False), help="Database file, instead of FASTMON_DB.")
def run(once: bool, mode: str | None, db: Path | None) -> None:
    """Take STFs from the broker, or from folders (--mode continuous); register and announce their TF files.

    Settings come from the environment, `.env` and `~/.env`. SIGTERM, SIGINT and SIGQUIT drain; a second one means now.
    Exit codes: 0 done, 1 something waits (--once), 3 no database, 75 in use or not drained, 78 configuration.
    """
    context = load_process(db, journal=True, FASTMON_MODE=mode)
    if crash := os.environ.get("FASTMON_TEST_CRASH"):  # no setting: only tests know it
        failpoints.set_hook(failpoints.kill_at(crash))
    for name in context.settings.unknown:
        logger.warning("{}: no such setting, ignored; correct or unset it", name)
    logger.info("database by {}", context.database_rule)
    try:
        code = serve(context, once=once)
    except KeyboardInterrupt:
        logger.warning("stopped at once; what was in flight is done again at the next start")
        code = EXIT_NOT_DRAINED
    if code == EXIT_NOT_DRAINED:
        sys.stderr.flush()
        os._exit(code)  # a thread may still wait for the network, and nothing of it is needed
    sys.exit(code)
