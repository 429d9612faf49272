"""The program with a shorter timeout of the control socket, so that tests reach it sooner."""

from __future__ import annotations

from fastmon_daemon.actions import control_socket
from fastmon_daemon.cli import main

TIMEOUT_S = 4.0

if __name__ == "__main__":
    control_socket.REQUEST_TIMEOUT_S = TIMEOUT_S  # before a command module imports it
    control_socket.send_request.__defaults__ = (TIMEOUT_S,)
    main()
