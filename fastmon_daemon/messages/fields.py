"""What a message's JSON and each of its fields may be, and the numbers that an STF's name and a run's carry.

It must not know which messages there are.
"""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

from fastmon_daemon.base.errors import MalformedMessage

MAX_BODY_BYTES = 1_048_576
"""The longest message body that is parsed, in bytes; a real `stf_ready` has less than 1 kB."""

MAX_FILENAME = 240
"""Characters of an STF filename; the monitor takes 255 for a TF filename, which is longer by its suffix."""

MAX_DEPTH = 50
"""Objects and lists inside one another that a body may have; a real one has two."""

MAX_INT64 = 2**63 - 1
MAX_INT32 = 2**31 - 1
_SEQUENCE = re.compile(r"(\d+)\.[^.]*$")


def json_object(body: str | bytes) -> dict[str, Any]:
    """The JSON object in *body*; `MalformedMessage` where there is none."""
    if len(body) > MAX_BODY_BYTES:
        raise MalformedMessage(f"the body has {len(body)} bytes, more than {MAX_BODY_BYTES}")
    try:
        value = json.loads(body, parse_constant=_no_constant)
    except (ValueError, RecursionError) as exc:  # UnicodeDecodeError is a ValueError
        raise MalformedMessage(f"not JSON: {type(exc).__name__}: {str(exc)[:200]}") from exc
    if not isinstance(value, dict):
        raise MalformedMessage(f"not a JSON object but {_kind(value)}")
    return value


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def plain_json(value: object, *, ensure_ascii: bool = True) -> str:
    """*value* as JSON text that every reader takes: a number beyond all floats, such as `1e999`, becomes null."""
    try:
        return json.dumps(value, ensure_ascii=ensure_ascii, allow_nan=False)
    except ValueError:
        finite = json.loads(json.dumps(value), parse_constant=lambda _: None)
        return json.dumps(finite, ensure_ascii=ensure_ascii)


def body_in(message: dict[str, Any]) -> str:
    """The whole message as JSON text; `MalformedMessage` where it could not be read again everywhere.

    The interpreter's limit depends on the stack: what was just read here may be too deep to be written, or read later.
    """
    if _is_deeper(message, MAX_DEPTH):
        raise MalformedMessage(f"more than {MAX_DEPTH} objects and lists inside one another")
    return plain_json(message)


def _is_deeper(value: object, levels: int) -> bool:
    if not isinstance(value, dict | list):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_is_deeper(each, levels - 1) for each in inner)


def run_id_in(message: dict[str, Any]) -> str | int:
    """The `run_id` as it came; `MalformedMessage` for what none can be."""
    value = message.get("run_id")
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise MalformedMessage(f"run_id: {_kind(value)} where a string or an integer is needed")
    text = str(value) if isinstance(value, str) or abs(value) <= MAX_INT64 else ""
    if not 1 <= len(text) <= 50 or not _is_plain(text):
        raise MalformedMessage("run_id: not 1 to 50 plain characters")
    return value


def filename_in(message: dict[str, Any]) -> str | None:
    """The `filename`, or None; `MalformedMessage` for what no STF can be called."""
    value = message.get("filename")
    if value is None:
        return None
    if not isinstance(value, str):
        raise MalformedMessage(f"filename: {_kind(value)} where a string is needed")
    if not 1 <= len(value) <= MAX_FILENAME:
        raise MalformedMessage(f"filename: {len(value)} characters, not 1 to {MAX_FILENAME}")
    if not _is_plain(value) or "/" in value or "\\" in value:
        raise MalformedMessage("filename: control characters, outer spaces or slashes in it")
    return value


def _is_plain(text: str) -> bool:
    return text.isprintable() and text == text.strip()


def text_in(message: dict[str, Any], key: str, longest: int) -> str | None:
    """A text, or None where there is none, or an empty one; `MalformedMessage` for anything else."""
    value = message.get(key)
    if value is None:
        return None
    if not isinstance(value, str):
        raise MalformedMessage(f"{key}: {_kind(value)} where a string is needed")
    if len(value) > longest or not value.isprintable():
        raise MalformedMessage(f"{key}: more than {longest} characters, or control characters in it")
    return value or None


def integer_in(message: dict[str, Any], key: str, most: int, least: int = 0) -> int | None:
    """An integer, or None where there is none; `MalformedMessage` for anything else, or one that is out of range."""
    value = message.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise MalformedMessage(f"{key}: {_kind(value)} where an integer is needed")
    if not least <= value <= most:
        raise MalformedMessage(f"{key}: out of range, {least} to {most}")
    return value


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


def sequence_in(filename: str) -> int | None:
    """The sequence number that an STF's name carries (`swf.100014.000001.stf`: 1), or None."""
    found = _SEQUENCE.search(filename)
    number = int(found[1][:20]) if found else None
    return number if number is not None and number <= MAX_INT32 else None


def run_number(run_id: str | int) -> int | None:
    """The monitor's run number for a `run_id`, or None where it is not a number."""
    text = str(run_id)
    return int(text) if text.isascii() and text.isdigit() and int(text) <= MAX_INT32 else None
