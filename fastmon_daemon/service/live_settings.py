"""Live tuning: reads the settings again while the daemon runs, and changes those that may change."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Any

from loguru import logger

from fastmon_daemon.engine import Inbox
from fastmon_daemon.outbox import Act, Outbox
from fastmon_daemon.settings import Settings, all_settings, written

RELOAD = "reload"
"""The request of the control socket."""
TIMEOUT_S = 8.0
"""Seconds to wait for the engine."""
Change = Callable[[Outbox, Any], Callable[[], object]]
"""Stores a new value, if that is needed, and returns what uses it once it is on disk. Both in the engine's thread."""

LIVE = {
    "selection_fraction": "from the next run on",
    "late_announce_rate": "",
    "keep_days": "",
    "workers": "",
    "log_level": "",
}
"""Field of `Settings` that may change while the daemon runs -> when, if not at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReloadResult:
    """What a reload did."""

    changed: Mapping[str, tuple[str, str]]
    """Name of a setting -> its old and new value, as written in the environment."""
    needs_restart: tuple[str, ...]
    """Names of settings that differ now, and change at a restart only."""

    @property
    def lines(self) -> list[str]:
        """What was changed, and when it holds."""
        when = {setting.names[0]: LIVE[field] for field, setting in all_settings() if field in LIVE}
        return [f"{name}: {old} -> {new} {when[name]}".rstrip() for name, (old, new) in self.changed.items()]


class LiveSettings:
    """The settings of the running daemon."""

    def __init__(
        self,
        settings: Settings,
        read: Callable[[], Settings],
        changes: Mapping[str, Change],
        tell: Callable[[str], object],
    ) -> None:
        """*read* returns the settings as they are now; *changes* has a function for each field of `LIVE`.

        *tell* gets what was changed, as one line.
        """
        assert changes.keys() == LIVE.keys()
        self._settings = settings
        self._read = read
        self._changes = changes
        self._tell = tell
        self._lock = threading.Lock()

    @property
    def current(self) -> Settings:
        """The settings in use."""
        return self._settings

    def reload(self, inbox: Inbox, by: str) -> ReloadResult:
        """Read the settings and use those that may change; *by* asked for it. Not for the engine's thread.

        Raises: ConfigError if one is invalid, StorageUnavailable: nothing is changed; TimeoutError: it may still be.
        """
        with self._lock:
            new = self._read()
            names = {name: setting.names[0] for name, setting in all_settings()}
            differing = [each.name for each in fields(Settings) if each.name in names and self._differs(each.name, new)]
            live = [name for name in differing if name in LIVE]
            result = ReloadResult(
                changed={names[name]: (self._written(name), written(getattr(new, name))) for name in live},
                needs_restart=tuple(names[name] for name in differing if name not in LIVE),
            )
            if live:
                values = {name: getattr(new, name) for name in live}
                self._change(inbox, result, values, by)
            else:
                self._report(result, by)
        return result

    def _differs(self, name: str, new: Settings) -> bool:
        return bool(getattr(new, name) != getattr(self._settings, name))

    def _written(self, name: str) -> str:
        return written(getattr(self._settings, name))

    def _change(self, inbox: Inbox, result: ReloadResult, values: Mapping[str, Any], by: str) -> None:
        act = Act(action=RELOAD, who=by, reason="", subject=", ".join(result.lines), count=len(values))
        uses: list[Callable[[], object]] = []

        def store(outbox: Outbox, now: datetime) -> None:
            outbox.acts.record(now, act)
            uses[:] = [self._changes[name](outbox, value) for name, value in values.items()]

        def use() -> None:
            for each in uses:
                each()
            self._settings = replace(self._settings, **values)
            self._report(result, by)  # here, since it may be later than the timeout

        inbox.submit(store, committed=use).result(TIMEOUT_S)

    def _report(self, result: ReloadResult, by: str) -> None:
        told = result.lines
        at_least = self._settings.log_level  # else a reload that raises the level would hide itself
        _log(
            "INFO",
            at_least,
            "settings read again ({}): {}",
            by,
            ", ".join(told) or "nothing that may change has changed",
        )
        if result.needs_restart:
            _log("WARNING", at_least, "changed settings that need a restart: {}", ", ".join(result.needs_restart))
        if told:
            self._tell(f"settings changed ({by}): {', '.join(told)}")


def _log(level: str, at_least: str, text: str, *values: str) -> None:
    logger.log(max(level, at_least, key=lambda name: logger.level(name).no), text, *values)
