"""What a CONNECT negotiates: the version, who it is, and how often each side lets itself be heard."""

from __future__ import annotations

import re

from fastmon_daemon.testbed.stomp_broker.frames import Refused

_HEART_BEAT = re.compile(r"([0-9]{1,9}),([0-9]{1,9})")


def choose_version(accepted: str, supported: tuple[str, ...]) -> str:
    """The highest version of *accepted* (the header accept-version) that is supported.

    Raises:
        Refused: there is none; the ERROR names the supported ones.
    """
    common = set(accepted.replace(" ", "").split(",")) & set(supported)
    if not common:
        versions = ",".join(supported)
        raise Refused(f"Supported versions are {versions}", headers={"version": versions})
    return max(common)


def authenticate(headers: dict[str, str], user: str, password: str) -> str:
    """The login, if it and the passcode are right.

    Raises:
        Refused: they are not.
    """
    login = headers.get("login", "")
    if (login, headers.get("passcode", "")) != (user, password):
        text = f"User name [{login}] or password is invalid."
        raise Refused(text, f"java.lang.SecurityException: {text}")
    return login


def heart_beat(header: str) -> tuple[int, int]:
    """What the client can send and what it wants to get, each as an interval in milliseconds (0: none).

    Raises:
        Refused: the header is not two numbers.
    """
    found = _HEART_BEAT.fullmatch(header.replace(" ", ""))
    if found is None:
        raise Refused(f"Invalid heart-beat header: {header!r}: use two numbers of milliseconds")
    return int(found[1]), int(found[2])


def interval_s(sends_ms: int, wants_ms: int) -> float:
    """The agreed interval in seconds of one direction; 0 where either side does without."""
    return max(sends_ms, wants_ms) / 1000 if sends_ms and wants_ms else 0.0
