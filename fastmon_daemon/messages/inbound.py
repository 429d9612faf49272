"""Inbound messages: parses a body from the topic into a frozen type.

It must not know the rules of single fields, nor STOMP, SQL or the clock.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from fastmon_daemon.base.errors import MalformedMessage
from fastmon_daemon.messages.fields import (
    MAX_INT32,
    MAX_INT64,
    body_in,
    filename_in,
    integer_in,
    json_object,
    run_id_in,
    run_identity,
    sequence_in,
    text_in,
)

STF_READY_TYPES = frozenset({"stf_ready", "data_ready"})
"""`data_ready` is the older name of `stf_ready`."""

END_RUN = "end_run"
RUN_TYPES = frozenset({"run_imminent", "start_run", "pause_run", "resume_run", END_RUN})

RUN_ACTIVITY_TYPES = frozenset({"stf_gen"})
"""Messages for other agents that show that their run is active; the real data agent often sends no others."""

STF_SEEN = "stf_seen"
"""The `kind` of a run event that does not come from the run control, but from a message about an STF."""

_ANNOUNCEMENT = b'{"msg_type": "tf_file_registered", "event_id": "'
"""How announcements begin. Seven come back for each STF that is announced: they are not worth parsing."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class _RunMessage:
    run_id: str | int
    """Unchanged, since the agents differ in its type."""
    execution_id: str | None = None
    has_namespace: bool = False
    """It bears our namespace; False: it bears none."""
    unreadable: tuple[str, ...] = ()
    """Optional fields without which it was taken, each with the reason."""

    @property
    def run(self) -> str:
        """The run's identity (see `run_identity`)."""
        return run_identity(self.run_id)


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

    def as_seen(self) -> RunEvent:
        """What it says of its run."""
        return RunEvent(
            kind=STF_SEEN, run_id=self.run_id, execution_id=self.execution_id, has_namespace=self.has_namespace
        )


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
    is_announcement = isinstance(body, bytes) and body.startswith(_ANNOUNCEMENT)
    message = {} if is_announcement else json_object(body)
    kind = message.get("msg_type")
    if not isinstance(kind, str) or kind not in STF_READY_TYPES | RUN_TYPES | RUN_ACTIVITY_TYPES:
        return IgnoredMessage("type")
    if message.get("namespace") not in (None, "", namespace):
        return IgnoredMessage("namespace", str(message["namespace"])[:100])
    if agent_name and message.get("sender") == agent_name:
        return IgnoredMessage("echo")
    has_namespace = message.get("namespace") == namespace
    if kind in STF_READY_TYPES:
        return _stf_ready(message, has_namespace)
    try:
        return _run_event(STF_SEEN if kind in RUN_ACTIVITY_TYPES else kind, message, has_namespace)
    except MalformedMessage:
        if kind in RUN_TYPES:
            raise
        return IgnoredMessage("type")


def _stf_ready(message: dict[str, Any], has_namespace: bool) -> StfReady:
    run_id, filename = run_id_in(message), filename_in(message)
    if filename is None:
        hint = _run_event(STF_SEEN, message, has_namespace)
        return StfReady(
            run_id=run_id, execution_id=hint.execution_id, has_namespace=has_namespace, unreadable=hint.unreadable
        )
    sequence = integer_in(message, "sequence", MAX_INT32)
    return StfReady(
        run_id=run_id,
        filename=filename,
        sequence=sequence_in(filename, run_id) if sequence is None else sequence,
        size_bytes=integer_in(message, "size_bytes", MAX_INT64),
        checksum=text_in(message, "checksum", 64),
        tf_count=integer_in(message, "tf_count", MAX_INT32, least=1),
        execution_id=text_in(message, "execution_id", 200),
        has_namespace=has_namespace,
        body=body_in(message),
    )


def _run_event(kind: str, message: dict[str, Any], has_namespace: bool) -> RunEvent:
    """The event; it is told of a run once, so that an optional field which cannot be read must not reject it."""
    unreadable: list[str] = []

    def optional(read: Callable[[], T | None]) -> T | None:
        try:
            return read()
        except MalformedMessage as exc:
            unreadable.append(str(exc))
            return None

    run_id = run_id_in(message)
    execution_id = optional(lambda: text_in(message, "execution_id", 200))
    total = optional(lambda: integer_in(message, "total_stf_files", MAX_INT32)) if kind == END_RUN else None
    return RunEvent(
        kind=kind, run_id=run_id, execution_id=execution_id, total_stf_files=total, has_namespace=has_namespace,
        unreadable=tuple(unreadable),
    )  # fmt: skip
