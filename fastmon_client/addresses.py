"""Host names and TCP connections: a name with several addresses is tried at all of them (RFC 8305)."""

from __future__ import annotations

import os
import re
import selectors
import socket
import threading
import time
from collections.abc import Iterable
from concurrent.futures import Future
from contextlib import suppress
from ipaddress import ip_address
from itertools import zip_longest
from typing import Any

STAGGER_S = 0.25
"""After this time without an answer the next address is tried as well."""

_Address = tuple[int, int, int, str, Any]
_lookups: dict[tuple[str, int], Future[list[_Address]]] = {}
_lock = threading.Lock()


def checked_host(host: str) -> str:
    """*host* without the brackets of an IPv6 address.

    Raises: ValueError with the reason if no resolver takes it.
    """
    name = host[1:-1] if re.fullmatch(r"\[[^\[\]]*:[^\[\]]*\]", host) else host
    with suppress(ValueError):
        ip_address(name)
        return name
    if re.search(r"[\s:*\[\]]", name):
        raise ValueError(f"{host[:80]!r} is neither a host name nor an address")
    try:
        length = len(name.encode("idna"))
    except UnicodeError:
        reason = "a part between dots is empty, longer than 63 characters or of no valid characters"
        raise ValueError(f"{host[:80]!r} is not a host name: {reason}") from None
    if not 0 < length <= 253:
        raise ValueError(f"{host[:80]!r} is not a host name: it has {length} characters")
    return name


def resolve(host: str, port: int, timeout_s: float) -> list[_Address]:
    """The addresses of *host*, the two families in turn. A resolver that hangs holds one thread a name, not more.

    Raises: OSError if there are none within *timeout_s*.
    """
    with _lock:
        lookup = _lookups.get((host, port))
        if lookup is None:
            lookup = _lookups[host, port] = Future()
            threading.Thread(target=_look_up, args=(host, port, lookup), name="resolver", daemon=True).start()
    try:
        found = lookup.result(timeout_s)
    except TimeoutError:
        raise socket.gaierror(socket.EAI_AGAIN, f"no answer from the resolver within {timeout_s:g} s") from None
    first = found[0][0]
    families: tuple[list[_Address], list[_Address]] = ([], [])
    for each in found:
        families[each[0] != first].append(each)
    return [each for pair in zip_longest(*families) for each in pair if each]


def connect(
    host: str, port: int, timeout_s: float, options: Iterable[tuple[int, int, int | bytes]] = ()
) -> socket.socket:
    """A TCP connection to the first address that answers; *options* are for `setsockopt`.

    Raises: OSError if there is none within *timeout_s*: the first refusal, else a timeout.
    """
    until = time.monotonic() + timeout_s
    left = resolve(host.strip("[]"), port, timeout_s)[::-1]
    stagger_s = min(STAGGER_S, timeout_s / (len(left) + 1))
    failure: OSError | None = None
    next_at = 0.0
    with selectors.DefaultSelector() as attempts:
        try:
            while left or attempts.get_map():
                now = time.monotonic()
                if now >= until:
                    break
                if left and (now >= next_at or not attempts.get_map()):
                    next_at = now + stagger_s
                    try:
                        attempts.register(_begin(left.pop(), options), selectors.EVENT_WRITE)
                    except OSError as exc:
                        failure = failure or exc
                    continue
                for key, _ in attempts.select(min(until, next_at if left else until) - now):
                    sock: Any = key.fileobj
                    attempts.unregister(sock)
                    error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                    if not error:
                        sock.settimeout(timeout_s)
                        return sock  # type: ignore[no-any-return]
                    sock.close()
                    failure, next_at = failure or OSError(error, os.strerror(error)), 0.0
        finally:
            for key in list(attempts.get_map().values()):
                key.fileobj.close()  # type: ignore[union-attr]
    raise failure or TimeoutError(f"no connection within {timeout_s:g} s")


def _look_up(host: str, port: int, lookup: Future[list[_Address]]) -> None:
    found: list[_Address] = []
    error: Exception | None = None
    try:
        found = list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    except (OSError, UnicodeError) as exc:
        error = exc if isinstance(exc, OSError) else socket.gaierror(socket.EAI_NONAME, str(exc))
    with _lock:
        del _lookups[host, port]
    if error or not found:
        lookup.set_exception(error or socket.gaierror(socket.EAI_NONAME, "no address"))
    else:
        lookup.set_result(found)


def _begin(address: _Address, options: Iterable[tuple[int, int, int | bytes]]) -> socket.socket:
    family, kind, protocol, _name, to = address
    sock = socket.socket(family, kind, protocol)
    try:
        for option in options:
            sock.setsockopt(*option)
        sock.setblocking(False)
        with suppress(BlockingIOError):
            sock.connect(to)
    except OSError:
        sock.close()
        raise
    return sock
