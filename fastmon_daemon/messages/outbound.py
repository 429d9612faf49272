"""Outbound messages: their fields, and the event id by which readers recognize repetitions.

None has a field `agent_name`: the monitor would take it for a heart-beat. This module must not know STOMP, SQL or the
clock.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Literal, TypedDict
from uuid import UUID, uuid5

_EVENT_NAMESPACE = UUID("6e0f9f1c-5b0e-5c0c-9d5e-0a3f0e1d7c55")

Announce = Callable[[str, str], None]
"""Sends a body with its event id; returns when the receiver has confirmed. Raises: FastmonError."""
Send = Callable[[str, str], Future[None] | None]
"""As `Announce`, but may return a future that is done when the receiver has confirmed, and fails as `Announce` does."""


class CommonFields(TypedDict):
    """The fields that each outbound message has."""

    msg_type: str
    event_id: str
    """The same in each repetition of a message."""
    sender: str
    """Agent name."""
    processed_by: str
    """The same name: the monitor's filter `agents` looks here."""
    timestamp: str
    """When it was made: ISO 8601 with an offset."""


class TfFileRegistered(TypedDict):
    """The fields of `tf_file_registered`: one TF file stands in the monitor."""

    status: Literal["registered"]
    namespace: str
    run_id: str | int
    """As it came in the message of the STF."""
    run_number: int | None
    """None if the run is not a number."""
    execution_id: str | None
    tf_file_id: str
    """The monitor's id (UUID)."""
    tf_filename: str
    tf_first: int | None
    """The first TF of the file, counted from 0 in its STF; None if another writer registered the file without it."""
    tf_last: int | None
    """The last one, which belongs to the file."""
    tf_count: int | None
    file_size_bytes: int | None
    tf_sequence: int
    """The number of the file among those of its STF."""
    tf_total: int
    """How many TF files the STF has."""
    stf_filename: str
    stf_sequence: int | None
    selection_fraction: float
    """Fraction of the STFs that are sampled, 0 to 1."""
    previous_selected: int | None
    """Sequence number of the selected STF before this one; those in between were skipped."""
    late: bool
    """The STF is older than a minute, or its message was missed."""


class FastmonStatus(TypedDict):
    """The fields of `fastmon_status`: what a daemon does."""

    namespace: str
    status: str
    """started, degraded, recovered or stopped."""
    message: str
    """Why, in words."""
    run_number: int | None
    """The latest run; never called `run_id`, which other agents would follow."""


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
