"""What a running daemon says of itself over its control socket: its settings, and what only its process knows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fastmon_daemon.actions.control_socket import send_request
from fastmon_daemon.base.errors import PermanentError, TransientError
from fastmon_daemon.presence.assessment import ProcessState
from fastmon_daemon.settings import Settings, all_settings, written

STATE = "state"
"""The request that asks for the state; it needs no operator and changes nothing."""
ASK_TIMEOUT_S = 3.0
"""Seconds to wait for the answer: the daemon answers without its engine."""
_NOT_REACHABLE = (FileNotFoundError, ConnectionRefusedError, PermissionError)


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonState:
    """The answer of a daemon."""

    settings: Mapping[str, str]
    """Field of `Settings` -> its value as written in the environment; without secrets."""
    process: ProcessState

    def value(self, field_name: str, otherwise: Callable[[str], Any]) -> Any:
        """Return the value of a setting with which the daemon runs; if it is unknown, that of *otherwise*."""
        settings = dict(all_settings())
        if field_name not in self.settings:
            return otherwise(field_name)
        try:
            return settings[field_name].parse(self.settings[field_name])
        except ValueError:  # another version of the daemon
            return otherwise(field_name)


def state_answer(settings: Settings, process: ProcessState) -> dict[str, Any]:
    """Return the answer as JSON values; the arguments are as in `DaemonState`."""
    shown = {name: written(getattr(settings, name)) for name, setting in all_settings() if not setting.secret}
    return {"settings": shown, "process": asdict(process)}


def ask_daemon(database: Path) -> DaemonState | None:
    """Ask the daemon that has *database*; None if this user may not, or if it has only begun to start."""
    try:
        answer = send_request(database, {"action": STATE}, timeout_s=ASK_TIMEOUT_S)
        return DaemonState(settings=answer["settings"], process=ProcessState(**answer["process"]))
    except (
        PermanentError,
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
    ):  # another user, or another version of the daemon
        return None
    except TransientError as exc:
        if isinstance(exc.__cause__, _NOT_REACHABLE):
            return None
        silent = f"it does not answer on its control socket within {ASK_TIMEOUT_S:g} s"
        return DaemonState(settings={}, process=ProcessState(silent=silent))
