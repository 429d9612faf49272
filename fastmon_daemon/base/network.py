"""Name lookups and TCP connections that end in time, whatever a resolver or one of several addresses does.

It must not know what is sent over a connection.
"""

from __future__ import annotations

import os
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from ipaddress import ip_address
from itertools import zip_longest
from typing import Any

ATTEMPT_DELAY_S = 0.25
"""Seconds after which the next address of a name is tried beside the earlier ones (RFC 8305)."""

NO_TLS_REASONS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG")
"""OpenSSL's reasons for an answer that is not TLS; they differ by version."""

SocketOption = tuple[int, int, int | bytes]
Address = tuple[socket.AddressFamily, Any]
"""Family and socket address."""

_lookups: dict[tuple[str, int], Future[list[Address]]] = {}
"""Lookups in flight. A lookup cannot be interrupted: whoever needs the same name waits for the one that runs."""
_lookups_lock = threading.Lock()


def resolve(host: str, port: int, timeout_s: float) -> list[Address]:
    """Return the addresses of *host*, in the resolver's order; at most one thread looks up each name.

    Raises: OSError; TimeoutError, which is one, after *timeout_s* seconds.
    """
    host = host.removeprefix("[").removesuffix("]")
    if is_address(host):
        return _addresses(host, port)
    with _lookups_lock:
        lookup = _lookups.get((host, port))
        if lookup is None:
            lookup = _lookups[host, port] = Future()
            threading.Thread(target=_look_up, args=(host, port, lookup), name="lookup", daemon=True).start()
    try:
        return lookup.result(timeout_s)
    except TimeoutError:
        raise TimeoutError(f"the lookup of {host} took longer than {timeout_s:.3g} s") from None


def connect(host: str, port: int, timeout_s: float, options: Iterable[SocketOption] = ()) -> socket.socket:
    """Return a connection to the first address of *host* that accepts one; its timeout is *timeout_s*.

    The addresses are tried side by side, so that one that answers nothing does not use up the time of the others.

    Raises: OSError; TimeoutError, which is one, after *timeout_s* seconds, lookup included.
    """
    until = time.monotonic() + timeout_s
    waiting = _alternating(resolve(host, port, timeout_s))
    error: OSError = TimeoutError(f"no answer within {timeout_s:.3g} s")
    with selectors.DefaultSelector() as attempts:
        try:
            while waiting or attempts.get_map():
                if (left_s := until - time.monotonic()) <= 0:
                    raise TimeoutError(f"no answer within {timeout_s:.3g} s")
                try:
                    if waiting:
                        attempts.register(_begin(waiting.popleft(), options), selectors.EVENT_WRITE)
                    if connected := _connected(attempts, min(left_s, ATTEMPT_DELAY_S) if waiting else left_s):
                        connected.settimeout(timeout_s)
                        return connected
                except OSError as exc:
                    error = exc
            raise error
        finally:
            for key in list(attempts.get_map().values()):
                _socket_of(key).close()


def _begin(address: Address, options: Iterable[SocketOption]) -> socket.socket:
    """Begin to connect to *address*."""
    family, target = address
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        for option in options:
            sock.setsockopt(*option)
        sock.setblocking(False)
        with suppress(BlockingIOError):
            sock.connect(target)
    except BaseException:
        sock.close()
        raise
    return sock


def _connected(attempts: selectors.BaseSelector, timeout_s: float) -> socket.socket | None:
    """Wait for an attempt to end, and take it out of *attempts*; None if none has. Raises: OSError if it failed."""
    for key, _ in attempts.select(timeout_s)[:1]:
        sock = _socket_of(key)
        attempts.unregister(sock)
        if code := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            sock.close()
            raise OSError(code, os.strerror(code))
        return sock
    return None


def _socket_of(key: selectors.SelectorKey) -> socket.socket:
    assert isinstance(key.fileobj, socket.socket)
    return key.fileobj


def _alternating(addresses: Iterable[Address]) -> deque[Address]:
    """*addresses* with the families in turn: one family may not work at all on this host."""
    by_family: dict[socket.AddressFamily, list[Address]] = {}
    for address in addresses:
        by_family.setdefault(address[0], []).append(address)
    return deque(each for turn in zip_longest(*by_family.values()) for each in turn if each is not None)


def _look_up(host: str, port: int, lookup: Future[list[Address]]) -> None:
    try:
        found = _addresses(host, port)
    except Exception as exc:  # noqa: BLE001 (whoever waits gets it)
        answer = partial(lookup.set_exception, exc)
    else:
        answer = partial(lookup.set_result, found)
    with _lookups_lock:
        del _lookups[host, port]
    answer()


def _addresses(host: str, port: int) -> list[Address]:
    try:
        found = socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM)
    except UnicodeError as exc:  # a label that is empty or too long
        raise socket.gaierror(socket.EAI_NONAME, f"not a valid host name ({exc})") from None
    return list(dict.fromkeys((family, address) for family, _, _, _, address in found))


def is_loopback(host: str) -> bool:
    """Whether *host*, a name or an address, is this host itself, by its form."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost" or host.lower().endswith(".localhost")


def is_address(host: str) -> bool:
    """Whether *host* is an IP address."""
    try:
        ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True
