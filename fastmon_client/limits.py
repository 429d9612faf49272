"""When a session has shown enough. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fastmon_client.picture import Picture
from fastmon_client.tffile import ANNOUNCED


@dataclass(slots=True)
class Limits:
    """What a person set."""

    count: int | None = None
    """TF files that are shown at most."""
    until_end_run: bool = False
    """Whether the first run that ends is the end."""
    _shown: int = 0

    def count_reached(self, message: Mapping[str, Any]) -> bool:
        """Count *message*, which is shown; whether it is the last."""
        self._shown += message.get("msg_type") == ANNOUNCED
        return self.count is not None and self._shown >= self.count

    def run_is_final(self, picture: Picture, at: datetime) -> bool:
        """Whether a run that is shown has ended, and nothing more can be found out about it."""
        return self.until_end_run and any(run.is_final(at) for run in picture.shown_runs())
