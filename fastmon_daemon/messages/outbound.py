"""Outbound messages: their fields, and the event id by which readers recognize repetitions.

None has a field `agent_name`: the monitor would take it for a heart-beat. This module must not know STOMP, SQL or the
clock.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Annotated, Literal, TypedDict
from uuid import UUID, uuid5

from fastmon_daemon.messages.fields import limits

_EVENT_NAMESPACE = UUID("6e0f9f1c-5b0e-5c0c-9d5e-0a3f0e1d7c55")

Announce = Callable[[str, str], None]
"""Sends a body with its event id; returns when the receiver has confirmed. Raises: FastmonError."""
Send = Callable[[str, str], Future[None] | None]
"""As `Announce`, but may return a future that is done when the receiver has confirmed, and fails as `Announce` does."""


StatusWord = Literal["started", "running", "degraded", "recovered", "stopped"]
Uuid = Annotated[str, limits(format="uuid")]
Timestamp = Annotated[str, limits(format="date-time")]
Natural = Annotated[int, limits(minimum=0)]


class CommonFields(TypedDict):
    """The fields that each outbound message has."""

    msg_type: str
    """The type of the message."""
    event_id: Uuid
    """The same in each repetition of a message."""
    sender: str
    """Agent name."""
    processed_by: str
    """The same name: the monitor's filter `agents` compares this field."""
    timestamp: Timestamp
    """When this copy was made; a repetition has a later one."""


class TfFileRegistered(TypedDict):
    """The fields of `tf_file_registered`: one TF file is registered with the monitor."""

    status: Literal["registered"]
    """Always the same; other agents expect it."""
    namespace: str
    """Namespace of the testbed user."""
    run_id: str | int
    """As received in the message of the STF: text or a number. To compare runs, use `run_number`."""
    run_number: int | None
    """The run as a number; null if it is not one."""
    execution_id: str | None
    """As received in the message of the STF; null if it had none."""
    tf_file_id: Uuid
    """The monitor's id of the TF file."""
    tf_filename: str
    """Name of the TF file, unique at the monitor."""
    tf_first: int | None
    """The first TF of the file, counted from 0 in its STF; null if another writer registered the file without it."""
    tf_last: int | None
    """The last TF of the file, inclusive; null as `tf_first`."""
    tf_count: int | None
    """Number of TFs in the file; null as `tf_first`."""
    file_size_bytes: int | None
    """Size of the TF file; null if the size of the STF is unknown."""
    tf_sequence: Natural
    """Number of the TF file among those of its STF."""
    tf_total: Natural
    """How many TF files the STF has: it is complete when that many names have arrived."""
    stf_filename: str
    """The STF from which the TFs are sampled."""
    stf_sequence: int | None
    """Number of the STF in its run; null if neither the message nor the filename tells it."""
    selection_fraction: Annotated[float, limits(minimum=0, maximum=1)]
    """Fraction of the STFs that are sampled."""
    previous_selected: int | None
    """Number of the selected STF before this one: those in between were skipped. Null for the first, or if unknown."""
    late: bool
    """The STF is older than a minute, or its message was missed."""


class FastmonStatus(TypedDict):
    """The fields of `fastmon_status`: the health of a daemon, when it changes."""

    namespace: str
    """Namespace of the testbed user."""
    status: StatusWord
    """The change; `running` reports anything else, such as a reload."""
    message: str
    """Why, in words."""
    run_number: int | None
    """The latest run; null if there is none, or if it is not a number."""


class RunSummary(TypedDict):
    """The fields of `fastmon_run_summary` beside those of the verdict: a run is complete, every STF accounted for."""

    run_number: int | None
    """The run as a number; null if it is not one."""


def outbound_message(
    msg_type: str, event_key: str, sender: str, timestamp: str, fields: Mapping[str, object]
) -> tuple[str, str]:
    """Return the body (JSON) of a message, and its event id: a UUID5 that is the same for the same *event_key*.

    *timestamp* is ISO 8601 with an offset.
    """
    event_id = str(uuid5(_EVENT_NAMESPACE, event_key))
    common: CommonFields = {
        "msg_type": msg_type,
        "event_id": event_id,
        "sender": sender,
        "processed_by": sender,
        "timestamp": timestamp,
    }
    return json.dumps({**common, **fields}), event_id
