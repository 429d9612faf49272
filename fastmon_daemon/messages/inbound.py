"""Inbound messages: parses a body from the topic into a frozen type.

It must not know the rules of single fields, nor STOMP, SQL or the clock.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from fastmon_daemon.base.errors import MalformedMessage
from fastmon_daemon.messages.fields import (
    MAX_INT32,
    MAX_INT64,
    body_in,
    filename_in,
    integer_in,
    json_object,
    run_id_in,
    sequence_in,
    text_in,
)

STF_READY_TYPES = frozenset({"stf_ready", "data_ready"})
"""`data_ready` is the older name of `stf_ready`."""

END_RUN = "end_run"
RUN_TYPES = frozenset({"run_imminent", "start_run", "pause_run", "resume_run", END_RUN})

RUN_ACTIVITY_TYPES = frozenset({"stf_gen"})
"""Messages for other agents that show that their run is active; the real data agent often sends no others."""

STF_HEARD = "hear_stf"
"""The `kind` of a run event that does not come from the run control, but from a message about an STF."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _RunMessage:
    run_id: str | int
    """Unchanged, since the agents differ in its type."""
    execution_id: str | None = None

    @property
    def run(self) -> str:
        """The run's identity: `100014` and `"100014"` are one run."""
        return str(self.run_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class StfReady(_RunMessage):
    """An STF is ready (`stf_ready`); without a filename, only a hint to poll this run."""

    filename: str | None = None
    sequence: int | None = None
    """Number of the STF in its run, from 1: from the message, else from the filename."""
    size_bytes: int | None = None
    checksum: str | None = None
    tf_count: int | None = None
    body: str = "{}"
    """The whole message as JSON text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEvent(_RunMessage):
    """A state change of a run; `kind` is the message's type and the trigger of the run's statechart."""

    kind: str
    total_stf_files: int | None = None
    """Total number of STFs in the run; only in `end_run`."""


@dataclass(frozen=True, slots=True)
class IgnoredMessage:
    """A message that is not for us: acknowledged, counted and dropped."""

    reason: str
    """`type` (of another msg_type), `namespace` (of another testbed user) or `echo` (our own)."""
    namespace: str = field(default="", compare=False)
    """The other namespace, at most 100 characters of it."""


def parse(body: str | bytes, *, namespace: str, agent_name: str = "") -> StfReady | RunEvent | IgnoredMessage:
    """Parse the message in *body*.

    Raises: MalformedMessage with the reason, and nothing else, whatever the input.
    """
    message = json_object(body)
    kind = message.get("msg_type")
    if not isinstance(kind, str) or kind not in STF_READY_TYPES | RUN_TYPES | RUN_ACTIVITY_TYPES:
        return IgnoredMessage("type")
    if message.get("namespace") not in (None, "", namespace):
        return IgnoredMessage("namespace", str(message["namespace"])[:100])
    if agent_name and message.get("sender") == agent_name:
        return IgnoredMessage("echo")
    if kind not in RUN_ACTIVITY_TYPES:
        return _stf_ready(message) if kind in STF_READY_TYPES else _run_event(kind, message)
    try:
        return _run_event(STF_HEARD, message)
    except MalformedMessage:
        return IgnoredMessage("type")


def _stf_ready(message: dict[str, Any]) -> StfReady:
    run_id, execution_id = run_id_in(message), text_in(message, "execution_id", 200)
    filename = filename_in(message)
    if filename is None:
        return StfReady(run_id=run_id, execution_id=execution_id)
    sequence = integer_in(message, "sequence", MAX_INT32)
    return StfReady(
        run_id=run_id,
        filename=filename,
        sequence=sequence_in(filename) if sequence is None else sequence,
        size_bytes=integer_in(message, "size_bytes", MAX_INT64),
        checksum=text_in(message, "checksum", 64),
        tf_count=integer_in(message, "tf_count", MAX_INT32, least=1),
        execution_id=execution_id,
        body=body_in(message),
    )


def _run_event(kind: str, message: dict[str, Any]) -> RunEvent:
    return RunEvent(
        kind=kind,
        run_id=run_id_in(message),
        execution_id=text_in(message, "execution_id", 200),
        total_stf_files=integer_in(message, "total_stf_files", MAX_INT32) if kind == END_RUN else None,
    )
