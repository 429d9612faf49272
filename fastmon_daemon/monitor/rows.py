"""The monitor's rows: one parser for each kind, the JSON that we send, and the difference between two TF files.

A parser raises KeyError, TypeError, AttributeError or ValueError for JSON of another shape. This module must not know
how rows are transferred, nor what a rejection means.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastmon_daemon.base.clock import format_timestamp, parse_timestamp
from fastmon_daemon.messages import plain_json


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
    """One STF file as the data agent registered it; `body` is the whole row as JSON text."""

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


def rows_of(answer: Any) -> Any:
    """The rows of a list, paged or not."""
    return answer["results"] if isinstance(answer, dict) else answer


def tf_file(row: Any) -> TfFile:
    """The TF file in one row."""
    return TfFile(
        tf_filename=row["tf_filename"],
        stf_filename=row["stf_file"],
        tf_first=row.get("tf_first"),
        tf_last=row.get("tf_last"),
        tf_count=row.get("tf_count"),
        file_size_bytes=row.get("file_size_bytes"),
        metadata=row.get("metadata"),
        tf_file_id=str(row["tf_file_id"]),
    )


def tf_rows(answer: Any) -> list[TfFile]:
    """The TF files of a list."""
    return [tf_file(row) for row in rows_of(answer)]


def stf_page(answer: Any) -> tuple[int, list[StfFile], list[str]]:
    """The monitor's total count of rows, the STF files on this page, and its rows that name no STF, as text."""
    rows = rows_of(answer)
    nameless = [plain_json(row)[:200] for row in rows if not _has_name(row)]
    return int(answer["count"]), stf_rows(answer), nameless


def stf_rows(answer: Any) -> list[StfFile]:
    """The STF files of a list; a row that names none is left out."""
    return [stf_file(row) for row in rows_of(answer) if _has_name(row)]


def _has_name(row: Any) -> bool:
    return isinstance(row, dict) and isinstance(row.get("stf_filename"), str) and row["stf_filename"] != ""


def stf_file(row: Any) -> StfFile:
    """The STF file in one row; only its name must be readable."""
    found = {
        "file_size_bytes": _number(row.get("file_size_bytes"), least=0),
        "checksum": _text(row.get("checksum")),
        "tf_count": _number(row.get("tf_count"), least=1),
        "created_at": _time(row.get("created_at")),
    }
    unreadable = tuple(name for name, value in found.items() if value is None and row.get(name) not in (None, ""))
    run_key = _number(row.get("run"), least=0)
    name = row["stf_filename"]
    return StfFile(stf_filename=name, body=plain_json(row), run_key=run_key, unreadable=unreadable, **found)


def _number(value: Any, *, least: int) -> Any:
    """A number of a row; None for what cannot be one: the monitor also stores negative sizes and counts."""
    return value if type(value) is int and value >= least else None


def _text(value: Any) -> Any:
    return value if isinstance(value, str) else None


def _time(value: Any) -> Any:
    """A time of a row (ISO 8601, UTC); None for what cannot be read, such as a leap second."""
    try:
        return format_timestamp(parse_timestamp(value))
    except (TypeError, ValueError, OverflowError):
        return None


def describe_difference(registered: TfFile, ours: TfFile) -> str | None:
    """How a registered TF differs from ours, as text; metadata is not compared."""
    pairs = {
        "range": (f"{registered.tf_first}-{registered.tf_last}", f"{ours.tf_first}-{ours.tf_last}"),
        "count": (registered.tf_count, ours.tf_count),
        "size": (registered.file_size_bytes, ours.file_size_bytes),
    }
    words = [f"{name} {there} instead of {here}" for name, (there, here) in pairs.items() if there != here]
    return ", ".join(words) or None


def run_number_of(row: Any) -> int:
    """The number in the row of a run."""
    return int(row["run_number"])


def run_numbers(answer: Any) -> list[int]:
    """The numbers of the runs in a list; a row without a number is left out."""
    return [row["run_number"] for row in rows_of(answer) if type(row["run_number"]) is int]


def run_end(row: Any) -> str | None:
    """The end time in the row of a run (ISO 8601, UTC, or as it stands there); None while the run has no end."""
    return None if row["end_time"] is None else _time(row["end_time"]) or str(row["end_time"])
