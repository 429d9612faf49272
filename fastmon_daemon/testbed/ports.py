"""A port that is ours while nobody listens on it, so that an outage on the same port can end."""

from __future__ import annotations

import socket


def hold_port(host: str, port: int) -> socket.socket:
    """A socket that owns *port* (0: a free one) without listening.

    Who connects is refused, and yet the port cannot be given to somebody else's outgoing connection meanwhile. Raises
    OSError where it is taken.
    """
    sock = socket.socket()
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
    except BaseException:
        sock.close()
        raise
    return sock
