"""The rows that the monitor keeps, and their JSON: one parser for each, and what makes two TF files differ.

It must not know how rows travel, nor what a refusal means.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastmon_daemon.base.clock import format_timestamp, parse_timestamp
from fastmon_daemon.messages import plain_json


@dataclass(frozen=True, slots=True, kw_only=True)
class TfFile:
    """One TF file as it stands, or shall stand, in the monitor."""

    tf_filename: str
    stf_filename: str
    tf_first: int | None
    tf_last: int | None
    tf_count: int | None
    file_size_bytes: int | None
    metadata: Mapping[str, object] | None = None
    tf_file_id: str | None = None
    """Given by the monitor: None before it is registered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StfFile:
    """One STF file as the data agent registered it; `body` is the whole row as JSON text."""

    stf_filename: str
    file_size_bytes: int | None
    checksum: str | None
    tf_count: int | None
    created_at: str
    """ISO 8601, UTC."""
    body: str
    run_key: int | None = None
    """The monitor's own key of the run, which is not its number."""


def json_text(row: Mapping[str, Any]) -> str:
    """The JSON text of *row*; the monitor cannot store a NUL or half of a character, and answers 500 for ever."""
    text = plain_json(row, ensure_ascii=False).replace("\\u0000", "\\ufffd")
    return text.encode("utf-8", "replace").decode()


def tf_body(tf: TfFile) -> str:
    """The JSON text that registers *tf*."""
    row = {name: getattr(tf, name) for name in ("tf_filename", "tf_first", "tf_last", "tf_count", "file_size_bytes")}
    metadata = None if tf.metadata is None else dict(tf.metadata)
    return json_text(row | {"stf_file": tf.stf_filename, "status": "registered", "metadata": metadata})


def tf_file(row: Any) -> TfFile:
    """One row of JSON; this parser and the next two raise KeyError, TypeError, AttributeError for another shape."""
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
    """The rows of a list, paged or not."""
    return [tf_file(row) for row in (answer["results"] if isinstance(answer, dict) else answer)]


def stf_page(answer: Any) -> tuple[int, list[StfFile]]:
    """How many rows the monitor counts, and those on this page; also ValueError where the count is no number."""
    return int(answer["count"]), [
        StfFile(
            stf_filename=row["stf_filename"],
            file_size_bytes=row.get("file_size_bytes"),
            checksum=row.get("checksum"),
            tf_count=row.get("tf_count"),
            created_at=format_timestamp(parse_timestamp(row["created_at"])),
            body=plain_json(row),
            run_key=row.get("run"),
        )
        for row in answer["results"]
    ]


def describe_difference(standing: TfFile, ours: TfFile) -> str | None:
    """In words, what another writer registered otherwise; the metadata may differ freely."""
    pairs = {
        "range": (f"{standing.tf_first}-{standing.tf_last}", f"{ours.tf_first}-{ours.tf_last}"),
        "count": (standing.tf_count, ours.tf_count),
        "size": (standing.file_size_bytes, ours.file_size_bytes),
    }
    words = [f"{name} {there} instead of {here}" for name, (there, here) in pairs.items() if there != here]
    return ", ".join(words) or None


def run_end(row: Any) -> str | None:
    """The end time in the row of a run (ISO 8601, UTC), None while it has none; also ValueError for another shape."""
    return None if row["end_time"] is None else format_timestamp(parse_timestamp(row["end_time"]))
