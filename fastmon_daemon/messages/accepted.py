"""The fields of inbound messages as other agents send them, with the limits of each.

The schemas and the documents of inbound messages are made from these types: a message that fits is always accepted.
`parse` also accepts some that do not, such as a number written as text. This module must not know how they are parsed.
"""

from __future__ import annotations

from typing import Annotated, Literal, NotRequired, TypedDict

from fastmon_daemon.messages.fields import MAX_FILENAME, MAX_INT32, MAX_INT64, limits

_TEXT = "^[!-~]([ -~]*[!-~])?$"
"""Printable ASCII without outer spaces."""
_FILENAME = r"^[!-.0-\[\]-~]([ -.0-\[\]-~]*[!-.0-\[\]-~])?$"
"""The same, without slashes."""

RunId = (
    Annotated[str, limits(minLength=1, maxLength=50, pattern=_TEXT)]
    | Annotated[int, limits(minimum=-MAX_INT64, maximum=MAX_INT64)]
)
_ExecutionId = Annotated[str, limits(maxLength=200, pattern="^[ -~]*$")]


class InboundFields(TypedDict):
    """The fields that fastmon reads in each inbound message; others are ignored."""

    msg_type: str
    """The type of the message."""
    run_id: RunId
    """The run: 100014, "100014" and "0100014" are the same one."""
    namespace: NotRequired[str | None]
    """A message of another namespace is ignored; one without a namespace counts only for the STF that it names."""
    sender: NotRequired[str | None]
    """Agent name. A message with our own name is ignored."""
    execution_id: NotRequired[_ExecutionId | None]
    """Execution of the workflow; passed on in announcements."""


class StfReadyFields(TypedDict):
    """The fields of `stf_ready`: an STF can be read, or, without a filename, its run has new ones."""

    msg_type: Literal["stf_ready", "data_ready"]
    """`data_ready` is the older name."""
    filename: NotRequired[Annotated[str, limits(minLength=1, maxLength=MAX_FILENAME, pattern=_FILENAME)] | None]
    """The STF. Null or missing: a hint to poll the monitor for the STFs of the run."""
    sequence: NotRequired[Annotated[int, limits(minimum=0, maximum=MAX_INT32)] | None]
    """Number of the STF in its run, from 1. Null or missing: read from the filename."""
    size_bytes: NotRequired[Annotated[int, limits(minimum=0, maximum=MAX_INT64)] | None]
    """Size of the STF. Null or missing: asked from the monitor."""
    checksum: NotRequired[Annotated[str, limits(maxLength=64, pattern="^[ -~]*$")] | None]
    """Checksum of the STF; only compared with that of a repeated message."""
    tf_count: NotRequired[Annotated[int, limits(minimum=1, maximum=MAX_INT32)] | None]
    """Number of TFs in the STF. Null or missing: asked from the monitor, else the setting."""
    state: NotRequired[object]
    """State of the DAQ, copied into the metadata of the TF files."""
    substate: NotRequired[object]
    """Substate of the DAQ, copied likewise."""
    start: NotRequired[object]
    """When the STF begins, copied likewise."""
    end: NotRequired[object]
    """When the STF ends, copied likewise."""


class EndRunFields(TypedDict):
    """The fields of `end_run`: the run is over."""

    total_stf_files: NotRequired[Annotated[int, limits(minimum=0, maximum=MAX_INT32)] | None]
    """Total number of STFs in the run. Null or missing: the stable count of the monitor is used."""
