"""Notifications to the service manager, sd_notify(3); does nothing without a service manager."""

from __future__ import annotations

import socket
from collections.abc import Mapping

from loguru import logger

_REPEATED = ("WATCHDOG", "STATUS")
"""Sent again and again: waiting until a service manager that hangs takes one would stop the engine."""
_MOST_WAIT_S = 5.0


def notify(environ: Mapping[str, str], state: str) -> bool:
    """Send *state* (`READY=1`, `WATCHDOG=1`, ...) to the socket in `NOTIFY_SOCKET`, if set; errors are only logged.

    Returns whether nobody waits for it, or it was sent.
    """
    address = environ.get("NOTIFY_SOCKET", "")
    if not address:
        return True
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        sender.settimeout(0.0 if state.startswith(_REPEATED) else _MOST_WAIT_S)
        try:
            sender.connect(f"\0{address[1:]}" if address.startswith("@") else address)
            sender.sendall(state.encode())
        except OSError as exc:  # the service manager acts on the missing notification; we continue
            level = "DEBUG" if state.startswith(_REPEATED) else "WARNING"
            logger.log(level, "service manager: {} not sent to {}: {}", state, address, exc)
            return False
    return True
