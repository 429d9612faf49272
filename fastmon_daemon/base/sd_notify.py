"""What the service manager is told (sd_notify(3)): ready, alive, stopping. Without one, nothing happens.

It must not know what the daemon does.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping

from loguru import logger


def notify(environ: Mapping[str, str], state: str) -> None:
    """Send *state* (`READY=1`, `WATCHDOG=1`, ...) to the socket that `NOTIFY_SOCKET` names, if any."""
    address = environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        try:
            sender.connect(f"\0{address[1:]}" if address.startswith("@") else address)
            sender.sendall(state.encode())
        except OSError as exc:  # it decides what follows from its not hearing us; the work goes on
            level = "DEBUG" if state.startswith("WATCHDOG") else "WARNING"  # that one is told at every turn
            logger.log(level, "{} could not be told to the service manager at {}: {}", state, address, exc)
