"""One TF file, from an announcement or a row of the monitor. Pure; any input field may be missing or of any type."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from fastmon_client.selection import MAX_SEQUENCE, sequence_of

ANNOUNCED = "tf_file_registered"
MAX_TEXT = 300
"""Longest text of a message or row that is kept; no name in the monitor is longer."""
_TEXTS = frozenset((
    "msg_type", "run_id", "run_number", "namespace", "processed_by", "sender", "status", "message", "stf_filename",
    "tf_filename", "tf_file_id", "event_id", "timestamp", "sent_at",
))  # fmt: skip
"""Fields that are shown as text, whatever their type is."""
_MAX_TF_FILES = 100_000
_MAX_INT64 = 2**63 - 1


@dataclass(slots=True)
class TfFile:
    """The fields that the state needs."""

    run: str
    stf_filename: str
    tf_filename: str
    identity: str | None
    """Its name, else an id; None without one: it is counted each time."""
    tf_file_id: str | None
    sequence: int | None
    total: int | None
    """Number of TF files of its STF."""
    size: int | None
    fraction: Any
    late: bool
    timestamp: datetime | None
    """Time of its announcement or registration."""

    @classmethod
    def of(cls, message: Mapping[str, Any]) -> TfFile:
        """From an announcement."""
        get = message.get
        stf_filename = str(get("stf_filename") or "?")
        tf_filename, tf_file_id, sequence = get("tf_filename"), get("tf_file_id"), get("stf_sequence")
        identity = tf_filename or tf_file_id or get("event_id")
        is_valid = type(sequence) is int and 1 <= sequence <= MAX_SEQUENCE
        return cls(  # by position: it is made for each event
            run_of(message) or "-",
            stf_filename,
            str(tf_filename),
            None if identity is None else str(identity),
            None if tf_file_id is None else str(tf_file_id),
            sequence if is_valid else sequence_of(sequence, stf_filename),
            _count(get("tf_total")),
            file_size(message),
            get("selection_fraction"),
            bool(get("late")),
            parse_timestamp(get("timestamp")) or parse_timestamp(get("sent_at")),
        )


def cut_texts(message: Mapping[str, Any]) -> dict[str, Any] | None:
    """*message* with its texts cut at `MAX_TEXT` characters; None if it has neither long nor nested ones."""
    for value in message.values():  # for each event, so without a call for each field
        kind = type(value)
        if (kind is str and len(value) > MAX_TEXT) or kind is dict or kind is list:
            break
    else:
        return None
    texts = {key: cut_text(value) for key, value in message.items() if type(value) is str or key in _TEXTS}
    return {**message, **texts}


def cut_text(value: Any) -> Any:
    """*value*, cut at `MAX_TEXT` characters if it is a text; a list or an object becomes one."""
    text = repr(value) if isinstance(value, (dict, list)) else value
    return text[: MAX_TEXT - 1] + "…" if isinstance(text, str) and len(text) > MAX_TEXT else text


def as_announced(run: str, row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of `/api/fastmon-files/` in the form of an announcement."""
    metadata = row.get("metadata")
    details = metadata if isinstance(metadata, dict) else {}
    files, frames = _count(details.get("tf_files_per_stf")), _count(details.get("tf_count_per_stf"))
    names = ("tf_file_id", "tf_filename", "tf_first", "tf_last", "tf_count", "file_size_bytes", "status")
    found = {
        "msg_type": ANNOUNCED,
        "run_id": run,
        "namespace": details.get("namespace"),
        "processed_by": details.get("agent_name"),
        **{name: row.get(name) for name in names},
        "stf_filename": row.get("stf_file"),
        "stf_sequence": sequence_of(None, str(row.get("stf_file"))),
        "tf_total": min(files, frames) if files and frames else None,
        "selection_fraction": details.get("selection_fraction"),
        "timestamp": row.get("created_at"),
    }
    return cut_texts(found) or found


def run_of(message: Mapping[str, Any]) -> str | None:
    """The run of *message*, by `run_name`. Some agents call it `run_number`."""
    run = message.get("run_id")
    run = message.get("run_number") if run is None else run
    return None if run is None else run_name(run)


def run_name(run: object) -> str:
    """*run* as text: `100014`, `"100014"` and `"0100014"` are one run, as for the daemon."""
    text = str(run)
    return text.lstrip("0") or "0" if text.isascii() and text.isdigit() else text


def file_size(message: Mapping[str, Any]) -> int | None:
    """Bytes of the TF file; None if missing or invalid."""
    value = message.get("file_size_bytes")
    return value if type(value) is int and 0 <= value <= _MAX_INT64 else None


def parse_timestamp(text: Any) -> datetime | None:
    """*text* as UTC; None if invalid or without an offset."""
    try:
        found = datetime.fromisoformat(text)
        return found if found.tzinfo is UTC else None if found.tzinfo is None else found.astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        return None


def _count(value: Any) -> int | None:
    return value if type(value) is int and 0 < value <= _MAX_TF_FILES else None
