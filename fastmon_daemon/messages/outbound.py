"""Outbound messages as frozen types, each with the event id by which its readers recognize repetitions.

It must not know STOMP, SQL or the clock.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from uuid import UUID, uuid5

_EVENT_NAMESPACE = UUID("6e0f9f1c-5b0e-5c0c-9d5e-0a3f0e1d7c55")


@dataclass(frozen=True, slots=True, kw_only=True)
class TfFileRegistered:
    """The announcement of one TF file; without `agent_name`: the monitor would take it for a heart-beat."""

    namespace: str
    run_id: str | int
    execution_id: str | None
    processed_by: str
    sender: str
    tf_file_id: str
    tf_filename: str
    tf_first: int | None
    tf_last: int | None
    tf_count: int | None
    file_size_bytes: int | None
    stf_filename: str
    run_number: int | None
    timestamp: str
    """ISO 8601, UTC, with offset."""
    tf_sequence: int
    """Number of this TF file in the sample of its STF, from 1."""
    tf_total: int
    stf_sequence: int | None
    selection_fraction: float
    previous_selected: int | None
    """Sequence number of the previously selected STF of the run: those in between were skipped."""
    late: bool

    @property
    def event_id(self) -> str:
        """UUID5 of `tf_file_id`: the same for every announcement of a TF file."""
        return str(uuid5(_EVENT_NAMESPACE, self.tf_file_id))

    def as_json(self) -> str:
        """The JSON text of the message."""
        fixed = {"msg_type": "tf_file_registered", "status": "registered", "event_id": self.event_id}
        return json.dumps(fixed | asdict(self))


@dataclass(frozen=True, slots=True, kw_only=True)
class FastmonStatus:
    """The status of this daemon; without `agent_name` (as above) and `run_id`, which other agents would follow."""

    namespace: str
    processed_by: str
    sender: str
    status: str
    """`started`, `stopped`, `degraded` or `recovered`."""
    message: str
    timestamp: str
    """ISO 8601, UTC, with offset."""
    run_number: int | None

    @property
    def event_id(self) -> str:
        """UUID5 that is unique to this message."""
        return str(uuid5(_EVENT_NAMESPACE, f"{self.sender} {self.status} {self.timestamp}"))

    def as_json(self) -> str:
        """The JSON text of the message."""
        return json.dumps({"msg_type": "fastmon_status", "event_id": self.event_id} | asdict(self))


def event_id_of_run(namespace: str, run: str, expected: int | None) -> str:
    """The event id of a run's summary: the same at each repetition, another if *expected* has changed since."""
    return str(uuid5(_EVENT_NAMESPACE, f"{namespace}/{run}/{expected}"))
