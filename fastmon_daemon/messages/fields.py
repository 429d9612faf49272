"""Validation of a message's JSON and of each of its fields; the numbers in STF names and run ids.

Each validator raises `MalformedMessage`, with the reason. This module must not know which messages there are.
"""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

from fastmon_daemon.base.errors import MalformedMessage

MAX_BODY_BYTES = 1_048_576
"""The longest message body that is parsed, in bytes; a real `stf_ready` has less than 1 kB."""

MAX_FILENAME = 240
"""Maximum length of an STF filename: a TF filename adds a suffix."""
MAX_NAME = 255
"""Maximum length of a name that the monitor accepts."""

MAX_DEPTH = 50
"""Maximum nesting of objects and lists in a body; a real one has two levels."""

MAX_INT64 = 2**63 - 1
MAX_INT32 = 2**31 - 1
MAX_NAMED_SEQUENCE = 999_999
"""The highest sequence number that is read from a name (a week of data): a higher number is a date or an id."""
_NUMBER = re.compile(r"[0-9]+")
_LAST_NUMBER = re.compile(r"([0-9]+)\.[^.]*$")
_INTEGER = re.compile(r"\s*([+-]?[0-9]{1,20})(\.0*)?\s*", re.ASCII)


def limits(**keywords: object) -> tuple[tuple[str, object], ...]:
    """Limits of a field in the words of JSON Schema, for `Annotated`."""
    return tuple(keywords.items())


def json_object(body: str | bytes) -> dict[str, Any]:
    """The JSON object in *body*."""
    if len(body) > MAX_BODY_BYTES:
        raise MalformedMessage(f"body: more than {MAX_BODY_BYTES} bytes")
    try:
        value = json.loads(body, parse_constant=_reject_constant)
    except (ValueError, RecursionError) as exc:  # UnicodeDecodeError is a ValueError
        raise MalformedMessage(f"not JSON: {type(exc).__name__}: {str(exc)[:200]}") from exc
    if not isinstance(value, dict):
        raise MalformedMessage(f"expected a JSON object, got {_kind(value)}")
    return value


def read_json(text: str | bytes) -> Any:
    """The JSON value in *text*. Raises: ValueError, and nothing else, whatever the input."""
    try:
        return json.loads(text)
    except RecursionError as exc:
        raise ValueError("nested too deep") from exc


def _reject_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def plain_json(value: object, *, ensure_ascii: bool = True) -> str:
    """*value* as standard JSON text: a number beyond the range of floats, such as `1e999`, becomes null."""
    try:
        return json.dumps(value, ensure_ascii=ensure_ascii, allow_nan=False)
    except ValueError:
        finite = json.loads(json.dumps(value), parse_constant=lambda _: None)
        return json.dumps(finite, ensure_ascii=ensure_ascii)


def body_in(message: dict[str, Any]) -> str:
    """The whole message as JSON text, if it is not nested deeper than `MAX_DEPTH`.

    The interpreter's own limit depends on the stack: a body that was read here might be too deep to write or reread.
    """
    if _is_deeper(message, MAX_DEPTH):
        raise MalformedMessage(f"body: nested deeper than {MAX_DEPTH} levels")
    return plain_json(message)


def _is_deeper(value: object, levels: int) -> bool:
    if not isinstance(value, dict | list):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_is_deeper(each, levels - 1) for each in inner)


def run_id_in(message: dict[str, Any]) -> str | int:
    """The `run_id`, unchanged; JSON does not tell 7.0 from 7."""
    value = message.get("run_id")
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise MalformedMessage(f"run_id: expected a string or an integer, got {_kind(value)}")
    text = str(value) if isinstance(value, str) or abs(value) <= MAX_INT64 else ""
    if not 1 <= len(text) <= 50 or not _is_printable(text):
        raise MalformedMessage("run_id: expected 1 to 50 printable characters without outer spaces")
    return value


def filename_in(message: dict[str, Any], key: str = "filename", longest: int = MAX_FILENAME) -> str | None:
    """The name of a file in field *key*, or None."""
    value = message.get(key)
    if value is None:
        return None
    if not isinstance(value, str):
        raise MalformedMessage(f"{key}: expected a string, got {_kind(value)}")
    if not 1 <= len(value) <= longest:
        raise MalformedMessage(f"{key}: {len(value)} characters, expected 1 to {longest}")
    if not _is_printable(value) or "/" in value or "\\" in value:
        raise MalformedMessage(f"{key}: contains control characters, outer spaces or slashes")
    return value


def _is_printable(text: str) -> bool:
    return text.isprintable() and text == text.strip()


def text_in(message: dict[str, Any], key: str, longest: int) -> str | None:
    """The text in field *key*; None if it is missing or empty."""
    value = message.get(key)
    if value is None:
        return None
    if not isinstance(value, str):
        raise MalformedMessage(f"{key}: expected a string, got {_kind(value)}")
    if len(value) > longest or not value.isprintable():
        raise MalformedMessage(f"{key}: more than {longest} characters, or control characters")
    return value or None


def integer_in(message: dict[str, Any], key: str, most: int, least: int = 0) -> int | None:
    """The integer in field *key* (`3`, `3.0` or `"3"`), between *least* and *most*; None if it is missing or empty."""
    value = message.get(key)
    if value is None or value == "":
        return None
    number = _integer(value)
    if number is None:
        raise MalformedMessage(f"{key}: expected an integer, got {_kind(value)}")
    if not least <= number <= most:
        raise MalformedMessage(f"{key}: out of range, expected {least} to {most}")
    return number


def _integer(value: object) -> int | None:
    if isinstance(value, str):
        found = _INTEGER.fullmatch(value)
        return int(found[1]) if found else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if isinstance(value, int) or value.is_integer() else None


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


def run_identity(run_id: str | int) -> str:
    """What makes two values of `run_id` one run: its number if it is one, else its text.

    `100014`, `"100014"` and `"0100014"` are one run: the agents differ.
    """
    text = str(run_id)
    return text.lstrip("0") or "0" if text.isascii() and text.isdigit() else text


def run_number(run_id: str | int) -> int | None:
    """The monitor's run number for a `run_id`; None if that is not a number."""
    text = run_identity(run_id)
    return int(text) if text.isascii() and text.isdigit() and int(text) <= MAX_INT32 else None


def sequence_in(filename: str, run_id: str | int) -> int | None:
    """The sequence number in the name of an STF of that run (`swf.100014.000001.stf` of run 100014: 1), or None.

    It is the last number of a name in which the run comes before it: any other number may be a run, a date or an id.
    """
    found = _LAST_NUMBER.search(filename)
    if not found or len(found[1]) > MAX_FILENAME:
        return None
    before, run, number = filename[: found.start()], run_identity(run_id), int(found[1])
    if run.isdigit():
        names_run = run in map(run_identity, _NUMBER.findall(before))
    else:  # as a whole word: the run `name` is not named by `nonamespace`
        names_run = re.search(rf"(?<![^\W_]){re.escape(run)}(?![^\W_])", before) is not None
    return number if names_run and number <= MAX_NAMED_SEQUENCE else None
