"""What leaves on the topic, as frozen types, each with the id by which its readers know it again.

It must not know STOMP, SQL or the clock.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from uuid import UUID, uuid5

_EVENT_NAMESPACE = UUID("6e0f9f1c-5b0e-5c0c-9d5e-0a3f0e1d7c55")


@dataclass(frozen=True, slots=True, kw_only=True)
class TfFileRegistered:
    """The announcement of one TF file. It never carries `agent_name`: with `status`, the monitor would swallow it."""

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
    """Number of this TF file in the sample, from 1."""
    tf_total: int
    stf_sequence: int | None
    selection_fraction: float
    previous_selected: int | None
    """Sequence number of the STF that was selected before this one in the run: the ones between were skipped."""
    late: bool

    @property
    def event_id(self) -> str:
        """The same for every announcement of the same TF file: UUID5 of its `tf_file_id`."""
        return str(uuid5(_EVENT_NAMESPACE, self.tf_file_id))

    def as_json(self) -> str:
        """The message's body."""
        fixed = {"msg_type": "tf_file_registered", "status": "registered", "event_id": self.event_id}
        return json.dumps(fixed | asdict(self))


@dataclass(frozen=True, slots=True, kw_only=True)
class FastmonStatus:
    """How we are. It never carries `agent_name` (see above), nor `run_id`: other agents follow any that they see."""

    namespace: str
    processed_by: str
    sender: str
    status: str
    """`started`, `stopped`, `degraded` or `recovered`."""
    message: str
    """In words, for people."""
    timestamp: str
    """ISO 8601, UTC, with offset."""
    run_number: int | None

    @property
    def event_id(self) -> str:
        """Of this message alone."""
        return str(uuid5(_EVENT_NAMESPACE, f"{self.sender} {self.status} {self.timestamp}"))

    def as_json(self) -> str:
        """The message's body."""
        return json.dumps({"msg_type": "fastmon_status", "event_id": self.event_id} | asdict(self))


def event_id_of_run(namespace: str, run: str, expected: int | None) -> str:
    """The event id of a run's summary, the same each time it is sent; another, where more STFs are *expected* since."""
    return str(uuid5(_EVENT_NAMESPACE, f"{namespace}/{run}/{expected}"))
