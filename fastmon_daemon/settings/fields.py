"""How a setting is declared, and the parsers that turn its text into a value.

This module owns what one text may be and the remedy where it is not. It must not know which settings there are,
nor where their texts come from.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

_SWITCH = dict.fromkeys(("true", "1", "yes", "on"), True) | dict.fromkeys(("false", "0", "no", "off"), False)
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


@dataclass(frozen=True)
class Setting:
    """How one field of `Settings` is called in the environment, what it means and how its text is read."""

    names: tuple[str, ...]
    """The environment name, then its aliases."""
    default: str
    """The default as one would write it in the environment; empty where there is none."""
    meaning: str
    parse: Callable[[str], object]
    """From text to value; `ValueError` carries the reason and the remedy."""
    secret: bool


def setting(names: str, default: str, meaning: str, parse: Callable[[str], object], secret: bool = False) -> Any:
    """Declare a field of `Settings`; `names` are separated by spaces, the first is the one we document."""
    setting = Setting(tuple(names.split()), default, meaning, parse, secret)
    return field(default=parse(default), repr=not secret, metadata={"setting": setting})


def as_text(text: str) -> str:
    """Read one plain line; `ValueError` where it holds a control character."""
    if any(ord(character) < 32 for character in text):
        raise ValueError("it holds a control character or a line break; give one plain line")
    return text


def as_optional(text: str) -> str | None:
    """Read one plain line; nothing is `None`."""
    return as_text(text) or None


def as_agent_name(text: str) -> str | None:
    """Read a name that the monitor can store, up to 100 characters; nothing is `None`."""
    if len(text) > 100:
        raise ValueError("it is longer than 100 characters; give a shorter name")
    return as_optional(text)


def as_namespace(text: str) -> str:
    """Read a namespace; nothing stays nothing, as the testbed's file may give it."""
    if text and not re.fullmatch(r"[\w.:/@+-]{1,100}", text, re.ASCII):
        raise ValueError("give 1 to 100 letters, digits or . : / @ + - _")
    return text


def as_path(text: str) -> Path | None:
    """Read a path as it is written; nothing is `None`."""
    return Path(text) if text else None


def as_file(text: str) -> Path | None:
    """Read a path whose file must exist; `Environment.value` checks it, as it knows the working folder."""
    return as_path(text)


def as_testbed_config(text: str) -> Path | None:
    """Read a path; a bare NAME means workflows/NAME.toml, as it does to the testbed, which adds what is left out."""
    bare = text and "/" not in text
    return Path("workflows", text if text.endswith(".toml") else f"{text}.toml") if bare else as_path(text)


@dataclass(frozen=True)
class ListenAddress:
    """Where to listen."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def as_listen(text: str) -> ListenAddress | None:
    """Read where to listen; a bare port is one of loopback, off (or nothing) is `None`."""
    if text.lower() in ("", *(word for word, on in _SWITCH.items() if not on and word != "0")):
        return None
    host, separator, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") if separator else "127.0.0.1"
    if not (port.isascii() and port.isdigit() and int(port) <= 65535) or not re.fullmatch(r"[\w.:%-]+", host, re.ASCII):
        raise ValueError("give off, a port (127.0.0.1 alone hears it) or ADDRESS:PORT")
    return ListenAddress(host, int(port))


def as_url(text: str) -> str:
    """Read a base URL, without the slashes at its end; `ValueError` where it holds a password or a query."""
    try:
        parts = urlsplit(text)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        good = False
    if not good or parts.username is not None or parts.query or parts.fragment or re.search(r"\s", text):
        raise ValueError("give http://host:port or https://host:port, a path if needed, no password and no query")
    return text.rstrip("/")


def as_optional_url(text: str) -> str | None:
    """Read a base URL as `as_url` does; nothing is `None`."""
    return as_url(text) if text else None


def as_host(text: str) -> str:
    """Read a host's name or address."""
    if re.search(r"[\s/@?]", as_text(text)):
        raise ValueError("give a host name or an address alone; port, user and password have settings of their own")
    return text


MAY_HOLD_PASSWORD = frozenset({as_url, as_optional_url, as_host})
"""What these refuse may hold a password, so it is not shown."""


def several(what: str) -> Callable[[str], tuple[str, ...]]:
    """Return a parser that takes one *what* or more, separated by commas; one that is repeated counts once."""

    def parse(text: str) -> tuple[str, ...]:
        parts = tuple(dict.fromkeys(part for each in as_text(text).split(",") if (part := each.strip())))
        if not parts:
            raise ValueError(f"it names no {what}; give one or more, separated by commas")
        return parts

    return parse


def as_switch(text: str) -> bool:
    """Read on or off, or another word for it, in any case."""
    if text.lower() not in _SWITCH:
        raise ValueError("give on or off (or true, false, yes, no, 1, 0)")
    return _SWITCH[text.lower()]


def as_folders(text: str) -> tuple[Path, ...]:
    """Read folders, separated by commas; `Environment.value` places them, as it knows the working folder."""
    return tuple(dict.fromkeys(Path(part) for each in as_text(text).split(",") if (part := each.strip())))


def one_of(*choices: str) -> Callable[[str], str]:
    """Return a parser that takes one of the choices, in any case, and returns it as it stands here."""

    def parse(text: str) -> str:
        found = next((choice for choice in choices if choice.lower() == text.lower()), None)
        if found is None:
            raise ValueError(f"give one of {', '.join(choices)}")
        return found

    return parse


def _number(convert: type[int] | type[float], rule: str, accepts: Callable[[float], bool]) -> Callable[[str], float]:
    kind = "a whole number" if convert is int else "a number"

    def parse(text: str) -> float:
        try:
            value = convert(text)
        except ValueError:
            raise ValueError(f"give {kind} {rule}") from None
        if not math.isfinite(value) or not accepts(value):
            raise ValueError(f"give {kind} {rule}")
        return value

    return parse


def whole(low: int, high: int) -> Callable[[str], float]:
    """Return a parser that takes a whole number from low to high."""
    return _number(int, f"from {low} to {high}", lambda value: low <= value <= high)


FRACTION = _number(float, "from 0 to 1", lambda value: 0 <= value <= 1)
SHARE = _number(float, "above 0, up to 1", lambda value: 0 < value <= 1)
POSITIVE = _number(float, "above 0", lambda value: value > 0)
NOT_NEGATIVE = _number(float, "of 0 or more", lambda value: value >= 0)
