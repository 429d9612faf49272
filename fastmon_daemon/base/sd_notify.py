"""Notifications to the service manager, sd_notify(3); does nothing without a service manager."""

from __future__ import annotations

import socket
from collections.abc import Mapping

from loguru import logger


def notify(environ: Mapping[str, str], state: str) -> None:
    """Send *state* (`READY=1`, `WATCHDOG=1`, ...) to the socket in `NOTIFY_SOCKET`, if set; errors are only logged."""
    address = environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        try:
            sender.connect(f"\0{address[1:]}" if address.startswith("@") else address)
            sender.sendall(state.encode())
        except OSError as exc:  # the service manager acts on the missing notification; we continue
            level = "DEBUG" if state.startswith("WATCHDOG") else "WARNING"  # WATCHDOG is sent at every tick
            logger.log(level, "service manager: {} not sent to {}: {}", state, address, exc)
