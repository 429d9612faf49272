"""The settings: each is declared once, with its environment names, default, meaning and parser.

This package owns where settings come from (the environment, `.env`, `~/.env`, `NAME_FILE`) and what they must be.
It must not know the process it runs in: the environment and the folders are handed in.
"""

from fastmon_daemon.settings.database import SYSTEM_STATE_FOLDER, database_to_read, database_to_write
from fastmon_daemon.settings.declared import Settings, declared_settings
from fastmon_daemon.settings.declaring import Listen, Setting
from fastmon_daemon.settings.environment import read_environment
from fastmon_daemon.settings.reading import Reading, read_settings

__all__ = [
    "SYSTEM_STATE_FOLDER",
    "Listen",
    "Reading",
    "Setting",
    "Settings",
    "database_to_read",
    "database_to_write",
    "declared_settings",
    "read_environment",
    "read_settings",
]
