"""What the process was started with, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fastmon_daemon.logs import Secrets
from fastmon_daemon.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What the process was started with."""

    settings: Settings
    values: Mapping[str, str]
    """The environment with what the `.env` files add to it."""
    database: Path
    database_rule: str
    """By which rule it was chosen, for people."""
    secrets: Secrets
    """What is blotted out wherever we log; every secret that is read anew joins them."""
