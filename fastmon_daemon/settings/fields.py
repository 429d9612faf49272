"""How a setting is declared, and the parsers that turn its text into a value.

A parser raises ValueError with a predicate ("must be ...") that the loader completes with name, value and source.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

_SWITCH = dict.fromkeys(("true", "1", "yes", "on"), True) | dict.fromkeys(("false", "0", "no", "off"), False)
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


@dataclass(frozen=True)
class Setting:
    """The declaration of one setting."""

    names: tuple[str, ...]
    """The environment variable, then its aliases."""
    default: str
    """The default as written in the environment; empty if there is none."""
    meaning: str
    parse: Callable[[str], object]
    """Text -> value. Raises: ValueError."""
    secret: bool


def setting(names: str, default: str, meaning: str, parse: Callable[[str], object], secret: bool = False) -> Any:
    """Declare a field of `Settings`; *names* are separated by spaces, the documented one first."""
    setting = Setting(tuple(names.split()), default, meaning, parse, secret)
    return field(default=parse(default), repr=not secret, metadata={"setting": setting})


def as_text(text: str) -> str:
    """Parse a line of text."""
    if any(ord(character) < 32 for character in text):
        raise ValueError("must be one line without control characters")
    return text


def as_optional(text: str) -> str | None:
    """Parse a line of text; empty is None."""
    return as_text(text) or None


def as_token(text: str) -> str:
    """Parse a token of our own, which must not be guessed; empty is none."""
    if text and (len(text) < 16 or not text.isascii() or not text.isprintable() or " " in text):
        raise ValueError("must be at least 16 ASCII characters without spaces; `openssl rand -hex 16` makes one")
    return text


def as_agent_name(text: str) -> str | None:
    """Parse an agent name; empty is None. The monitor stores at most 100 characters."""
    if len(text) > 100:
        raise ValueError("must be at most 100 characters long")
    return as_optional(text)


def as_namespace(text: str) -> str:
    """Parse a namespace; it may be empty, as the testbed's TOML file can set it."""
    if text and not re.fullmatch(r"[\w.:/@+-]{1,100}", text, re.ASCII):
        raise ValueError("must be 1 to 100 letters, digits or . : / @ + - _")
    return text


def as_path(text: str) -> Path | None:
    """Parse a path; empty is None."""
    return Path(text) if text else None


def as_file(text: str) -> Path | None:
    """Parse the path of a readable file; `Environment.value` checks it, as it knows the working folder."""
    return as_path(text)


def as_testbed_config(text: str) -> Path | None:
    """Parse a path; a bare NAME means workflows/NAME.toml, as in the testbed."""
    bare = text and "/" not in text
    return Path("workflows", text if text.endswith(".toml") else f"{text}.toml") if bare else as_path(text)


@dataclass(frozen=True)
class ListenAddress:
    """Host and port of a listening socket."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def as_listen(text: str) -> ListenAddress | None:
    """Parse a listen address; a bare port is on 127.0.0.1, off or empty is None."""
    if text.lower() in ("", *(word for word, on in _SWITCH.items() if not on and word != "0")):
        return None
    host, separator, port = text.rpartition(":")
    host = _without_brackets(host) if separator else "127.0.0.1"
    good = port.isascii() and port.isdigit() and int(port) <= 65535 and re.fullmatch(r"[\w.:%-]+", host, re.ASCII)
    if not good or not _is_host(host):
        raise ValueError("must be off, PORT (on 127.0.0.1) or ADDRESS:PORT")
    return ListenAddress(host, int(port))


def _without_brackets(text: str) -> str:
    """Return the IPv6 address in brackets; any other text unchanged."""
    return text[1:-1] if re.fullmatch(r"\[[^\[\]]*:[^\[\]]*\]", text) else text


def _is_host(text: str) -> bool:
    """Whether *text* is an IP address, or a host name that a resolver accepts."""
    try:
        ip_address(text)
    except ValueError:
        try:
            name = text.encode("idna")  # each label has 1 to 63 characters
        except UnicodeError:
            return False
        return 0 < len(name) <= 253 and not re.search(rb"[\s:\[\]]", name)
    return True


def as_url(text: str) -> str:
    """Parse a base URL and strip trailing slashes; it may contain no password and no query."""
    try:
        parts = urlsplit(text)
        good = parts.scheme in ("http", "https") and _is_host(parts.hostname or "") and parts.port != 0
    except ValueError:
        good = False
    if not good or parts.username is not None or parts.query or parts.fragment or re.search(r"\s", text):
        raise ValueError("must be http(s)://HOST[:PORT][/PATH], without user, password or query")
    return text.rstrip("/")


def as_optional_url(text: str) -> str | None:
    """Parse a base URL; empty is None."""
    return as_url(text) if text else None


def as_host(text: str) -> str:
    """Parse a host name or address; an IPv6 address may be in brackets, as in a URL."""
    host = _without_brackets(text)
    if _is_host(host) and not re.search(r"[\s/@?]", as_text(text)):
        return host
    if re.search(r"[\s/@?:]", text):
        raise ValueError("must be a host name or address only; port, user and password are separate settings")
    raise ValueError("must be a host name or address: a name has 1 to 63 characters between its dots, 253 at most")


MAY_HOLD_PASSWORD = frozenset({as_url, as_optional_url, as_host})
"""Parsers of addresses: an invalid address may contain a password, so errors do not show it."""


def comma_list(what: str) -> Callable[[str], tuple[str, ...]]:
    """Return a parser of one or more *what*, separated by commas; duplicates are dropped."""

    def parse(text: str) -> tuple[str, ...]:
        parts = tuple(dict.fromkeys(part for each in as_text(text).split(",") if (part := each.strip())))
        if not parts:
            raise ValueError(f"must be one or more {what}s, separated by commas")
        return parts

    return parse


def as_subscription(text: str) -> str:
    """Parse a destination to subscribe to."""
    if text.startswith("/queue/") and "::" in text:
        address, _, queue = text.removeprefix("/queue/").partition("::")
        raise ValueError(
            "Artemis would make the topic unusable for everybody until it restarts: "
            f"use /topic/{address}::{queue} for a shared queue of the topic, or /queue/{queue} for a queue of its own"
        )
    return as_text(text)


def as_reconcile(text: str) -> str:
    """Parse FASTMON_RECONCILE: a boolean, or auto."""
    if text.lower() not in {"auto", *_SWITCH}:
        raise ValueError("must be on, off or auto")
    return "auto" if text.lower() == "auto" else "on" if as_switch(text) else "off"


def as_switch(text: str) -> bool:
    """Parse a boolean, in upper or lower case."""
    if text.lower() not in _SWITCH:
        raise ValueError("must be on or off (or true, false, yes, no, 1, 0)")
    return _SWITCH[text.lower()]


def as_folders(text: str) -> tuple[Path, ...]:
    """Parse folders, separated by commas; `Environment.value` makes them absolute."""
    return tuple(dict.fromkeys(Path(part) for each in as_text(text).split(",") if (part := each.strip())))


def one_of(*choices: str) -> Callable[[str], str]:
    """Return a parser of one of *choices*, in upper or lower case; its value is spelled as in *choices*."""

    def parse(text: str) -> str:
        found = next((choice for choice in choices if choice.lower() == text.lower()), None)
        if found is None:
            raise ValueError(f"must be one of {', '.join(choices)}")
        return found

    return parse


def _number(convert: type[int] | type[float], rule: str, accepts: Callable[[float], bool]) -> Callable[[str], float]:
    kind = "a whole number" if convert is int else "a number"

    def parse(text: str) -> float:
        try:
            value = convert(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value) or not accepts(value):
            raise ValueError(f"must be {kind} {rule}")
        return value

    return parse


def whole(low: int, high: int) -> Callable[[str], float]:
    """Return a parser of a whole number from *low* to *high*."""
    return _number(int, f"from {low} to {high}", lambda value: low <= value <= high)


MOST_WORKERS = 64
"""The largest FASTMON_WORKERS."""
AUTO_WORKERS = 32
"""What `auto` means for FASTMON_WORKERS: more calls at once than one process can make use of."""


def as_workers(text: str) -> float:
    """Parse the most calls at once: a whole number, or `auto`."""
    try:
        return AUTO_WORKERS if text.lower() == "auto" else whole(1, MOST_WORKERS)(text)
    except ValueError as exc:
        raise ValueError(f"{exc}, or auto") from exc


FRACTION = _number(float, "from 0 to 1", lambda value: 0 <= value <= 1)
SHARE = _number(float, "above 0 and at most 1", lambda value: 0 < value <= 1)
POSITIVE = _number(float, "above 0", lambda value: value > 0)
NOT_NEGATIVE = _number(float, "of at least 0", lambda value: value >= 0)


def written(value: object) -> str:
    """Return the value of a setting as it is written in the environment; None is empty."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if type(value) is tuple:
        return ",".join(map(str, value))
    return f"{value:.15g}" if isinstance(value, float) else "" if value is None else str(value)
