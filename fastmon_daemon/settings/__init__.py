"""Settings of the daemon: declarations, parsers, sources (environment, `.env`, `~/.env`, `NAME_FILE`), validation."""

from fastmon_daemon.settings.database_path import SYSTEM_STATE_FOLDER, database_to_read, database_to_write
from fastmon_daemon.settings.environment import read_environment
from fastmon_daemon.settings.exposure import exposures
from fastmon_daemon.settings.fields import MOST_WORKERS, ListenAddress, Setting, written
from fastmon_daemon.settings.files import read_error, read_text
from fastmon_daemon.settings.loader import LoadResult, read_settings
from fastmon_daemon.settings.schema import Settings, accounts_for_runs, all_settings, describe_unknown

__all__ = [
    "MOST_WORKERS",
    "SYSTEM_STATE_FOLDER",
    "ListenAddress",
    "LoadResult",
    "Setting",
    "Settings",
    "accounts_for_runs",
    "all_settings",
    "database_to_read",
    "database_to_write",
    "describe_unknown",
    "exposures",
    "read_environment",
    "read_error",
    "read_settings",
    "read_text",
    "written",
]
