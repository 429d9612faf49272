"""`fastmon-daemon run`: the daemon itself."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click
from loguru import logger

from fastmon_daemon import logs, seams
from fastmon_daemon.service import NOT_CLEAN, World
from fastmon_daemon.service import run as serve
from fastmon_daemon.settings import Settings, database_to_write, read_environment


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
    folders = {"working_folder": Path.cwd(), "home": Path.home()}
    environ = os.environ if mode is None else {**os.environ, "FASTMON_MODE": mode}
    settings = Settings.load(environ, **folders)
    values = read_environment(environ, **folders)
    secrets = logs.Secrets(settings.monitor_token, settings.broker_password)
    logs.configure(settings.log_level, secrets, journal="JOURNAL_STREAM" in values)
    if crash := os.environ.get("FASTMON_TEST_CRASH"):  # no setting: only tests know it
        seams.set_hook(seams.kill_at(crash))
    for name in settings.unknown:
        logger.warning("{}: no such setting, ignored; correct or unset it", name)
    database, rule = database_to_write(db, values, Path.home())
    logger.info("database by {}", rule)
    try:
        world = World(settings=settings, values=values, database=database.absolute(), secrets=secrets)
        code = serve(world, once=once)
    except KeyboardInterrupt:
        logger.warning("stopped at once; what was in flight is done again at the next start")
        code = NOT_CLEAN
    if code == NOT_CLEAN:
        sys.stderr.flush()
        os._exit(code)  # a thread may still wait for the network, and nothing of it is needed
    sys.exit(code)
