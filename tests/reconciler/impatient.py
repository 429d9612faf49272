"""The program, less patient at its control socket: so a test that exceeds that patience need not wait long."""

from __future__ import annotations

from fastmon_daemon.actions import control_socket
from fastmon_daemon.cli import main

PATIENCE_S = 4.0

if __name__ == "__main__":
    control_socket.REQUEST_TIMEOUT_S = PATIENCE_S  # before a command is imported that takes it from there
    control_socket.send_request.__defaults__ = (PATIENCE_S,)
    main()
