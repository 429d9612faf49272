"""The monitor's rows: one strict parser for each kind, the JSON that we send, and the difference between two TF files.

Nothing of a row gets in by another door: its types, ranges and lengths are checked here, and names obey the rules of
messages. Each parser raises UnreadableRow, and nothing else, whatever the JSON. This module must not know how rows are
transferred, nor what a rejection means.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from fastmon_daemon.base.clock import format_timestamp, parse_timestamp
from fastmon_daemon.base.errors import MalformedMessage
from fastmon_daemon.messages import MAX_FILENAME, MAX_INT32, MAX_INT64, MAX_NAME, body_in, filename_in, plain_json
from fastmon_daemon.monitor.responses import UnreadableRow, excerpt

MAX_ID = 100
"""The longest id, in characters; the monitor's are numbers and UUIDs."""
MAX_DESCRIPTION = 500
"""The longest description of an agent that we send and read, in characters."""
_MAX_BODY = 2048
"""The longest rest of a row that is kept, in characters; a real one has 200. A list may have many rows."""
_EARLIEST, _LATEST = datetime(1990, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
"""A time beyond these is none: calculations with it would leave the range of dates."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TfFile:
    """One TF file, registered or to be registered in the monitor."""

    tf_filename: str
    stf_filename: str
    tf_first: int | None
    tf_last: int | None
    tf_count: int | None
    file_size_bytes: int | None
    metadata: Mapping[str, object] | None = None
    run_number: int | None = None
    """The run of its STF, which is not sent; None: any."""
    tf_file_id: str | None = None
    """Assigned by the monitor: None before registration."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StfFile:
    """One STF file as the data agent registered it; `body` is the rest of the row as JSON text, unless it is long."""

    stf_filename: str
    file_size_bytes: int | None
    checksum: str | None
    tf_count: int | None
    created_at: str | None
    """ISO 8601, UTC; None if it cannot be read."""
    body: str
    run_key: int | None = None
    """The monitor's primary key of the run, which is not its number."""
    unreadable: tuple[str, ...] = ()
    """Fields without which the row was read."""


def json_text(row: Mapping[str, Any]) -> str:
    """*row* as JSON text without NULs and lone surrogates, which the monitor cannot store (it always responds 500)."""
    text = plain_json(row, ensure_ascii=False).replace("\\u0000", "\\ufffd")
    return text.encode("utf-8", "replace").decode()


def tf_body(tf: TfFile) -> str:
    """The JSON text that registers *tf*."""
    row = {name: getattr(tf, name) for name in ("tf_filename", "tf_first", "tf_last", "tf_count", "file_size_bytes")}
    metadata = None if tf.metadata is None else dict(tf.metadata)
    return json_text(row | {"stf_file": tf.stf_filename, "status": "registered", "metadata": metadata})


def tf_file(row: Any) -> TfFile:
    """The TF file in one row."""
    fields = _object(row)
    return TfFile(
        tf_filename=_name(fields, "tf_filename", MAX_NAME),
        stf_filename=_name(fields, "stf_file", MAX_NAME),
        tf_first=_integer_or_none(fields, "tf_first"),
        tf_last=_integer_or_none(fields, "tf_last"),
        tf_count=_integer_or_none(fields, "tf_count"),
        file_size_bytes=_integer_or_none(fields, "file_size_bytes"),
        metadata=_origin(fields.get("metadata")),
        tf_file_id=id_in(fields, "tf_file_id"),
    )


def _origin(metadata: Any) -> dict[str, object] | None:
    """All that is read of the metadata of others: whose TF file it is, and how many its STF has."""
    if not isinstance(metadata, dict):
        return None
    names = ("namespace", "agent_name")
    found: dict[str, object] = {name: metadata[name] for name in names if _is_text(metadata.get(name), MAX_ID)}
    found |= {name: at for name in ("received_at",) if (at := _time(metadata.get(name)))}
    found |= {name: number for name in ("tf_files_per_stf",) if (number := _number(metadata.get(name), least=1))}
    return found or None


def stf_file(row: Any) -> StfFile:
    """The STF file in one row; only its name must be readable."""
    fields = _object(row)
    name = _name(fields, "stf_filename", MAX_FILENAME)
    found: dict[str, Any] = {
        "file_size_bytes": _number(fields.get("file_size_bytes"), least=0),
        "checksum": fields.get("checksum") if _is_text(fields.get("checksum"), 64) else None,
        "tf_count": _number(fields.get("tf_count"), least=1, most=MAX_INT32),
        "created_at": _time(fields.get("created_at")),
    }
    unreadable = tuple(key for key, value in found.items() if value is None and fields.get(key) not in (None, ""))
    read = {"stf_filename", "run", *(key for key, value in found.items() if value is not None)}
    try:
        body = body_in({key: value for key, value in fields.items() if key not in read and value is not None})
    except MalformedMessage:
        body = ""
    if not 0 < len(body) <= _MAX_BODY:
        body, unreadable = "{}", (*unreadable, "other fields")
    return StfFile(stf_filename=name, body=body, run_key=run_key_in(fields), unreadable=unreadable, **found)


def run_key_in(row: Any) -> int | None:
    """The key of the run in the row of an STF; None for what cannot be one."""
    return _number(_object(row).get("run"), least=0)


def run_number_of(row: Any) -> int:
    """The number in the row of a run."""
    return integer_in(row, "run_number", MAX_INT32)


def run_end(row: Any) -> str | None:
    """The end time in the row of a run (ISO 8601, UTC, or as it stands there); None while the run has no end."""
    fields = _object(row)
    if "end_time" not in fields:
        raise UnreadableRow("unexpected content: the run has no end_time")
    value = fields["end_time"]
    if value is None:
        return None
    return _time(value) or (value if _is_text(value, MAX_ID) else "a time that cannot be read")


def integer_in(row: Any, key: str, most: int = MAX_INT64) -> int:
    """The number in field *key*, not negative."""
    number = _number(_object(row).get(key), least=0, most=most)
    if number is None:
        raise UnreadableRow(f"unexpected content: {key}: not a number: {shown(row.get(key))}")
    return number


def id_in(row: Any, key: str) -> str:
    """The id in field *key*, a number or a text."""
    value = _object(row).get(key)
    if (_is_text(value, MAX_ID) and value) or _number(value, least=0) is not None:
        return str(value)
    raise UnreadableRow(f"unexpected content: {key}: not an id: {shown(value)}")


def optional_id_in(row: Any, key: str) -> str | None:
    """The id in field *key*; None if it is null or empty."""
    return None if _object(row).get(key) in (None, "") else id_in(row, key)


def text_in(row: Any, key: str) -> str | None:
    """The text in field *key*; None if it is null."""
    value = _object(row).get(key)
    if value is not None and not _is_text(value, MAX_NAME):
        raise UnreadableRow(f"unexpected content: {key}: not a text: {shown(value)}")
    return value


def description_in(row: Any) -> str:
    """The text in `description`; empty without one, or if it is none of ours."""
    value = _object(row).get("description")
    return str(value) if _is_text(value, MAX_DESCRIPTION) else ""


def time_in(row: Any, key: str) -> datetime | None:
    """The time in field *key*; None if it is null or cannot be read."""
    text = _time(_object(row).get(key))
    return parse_timestamp(text) if text else None


def shown(value: Any) -> str:
    """The beginning of any JSON value, for a text that may be stored: in ASCII, and without control characters."""
    try:
        return excerpt(plain_json(value))
    except (ValueError, RecursionError):
        return type(value).__name__


def _object(row: Any) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise UnreadableRow(f"unexpected content: not a row: {shown(row)}")
    return row


def _name(fields: dict[str, Any], key: str, longest: int) -> str:
    try:
        name = filename_in(fields, key, longest)
    except MalformedMessage as exc:
        raise UnreadableRow(f"unexpected content: {exc}: {shown(fields.get(key))}") from exc
    if name is None:
        raise UnreadableRow(f"unexpected content: {key} is missing")
    return name


def _integer_or_none(fields: dict[str, Any], key: str) -> int | None:
    value = fields.get(key)
    if value is not None and _number(value, least=-MAX_INT64) is None:
        raise UnreadableRow(f"unexpected content: {key}: not an integer of 64 bits: {shown(value)}")
    return value


def _number(value: Any, *, least: int, most: int = MAX_INT64) -> int | None:
    """A number of a row; None for what cannot be one: the monitor also stores negative sizes and counts."""
    return value if type(value) is int and least <= value <= most else None


def _is_text(value: Any, longest: int) -> bool:
    return isinstance(value, str) and len(value) <= longest and value.isprintable()


def _time(value: Any) -> str | None:
    """A time of a row (ISO 8601, UTC); None for what cannot be read, such as a leap second."""
    if not isinstance(value, str) or len(value) > MAX_ID:
        return None
    try:
        at = parse_timestamp(value).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return format_timestamp(at) if _EARLIEST <= at < _LATEST else None


def describe_difference(registered: TfFile, ours: TfFile) -> str | None:
    """How a registered TF differs from ours, as text; metadata is not compared."""
    pairs = {
        "range": (f"{registered.tf_first}-{registered.tf_last}", f"{ours.tf_first}-{ours.tf_last}"),
        "count": (registered.tf_count, ours.tf_count),
        "size": (registered.file_size_bytes, ours.file_size_bytes),
    }
    words = [f"{name} {there} instead of {here}" for name, (there, here) in pairs.items() if there != here]
    return ", ".join(words) or None
