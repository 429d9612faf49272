"""What arrives on the topic, as frozen types: parsed once, at the door.

It must not know what one field may be, nor STOMP, SQL or the clock.
"""

from __future__ import annotations

from dataclasses import dataclass
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

RUN_SIGNS = frozenset({"stf_gen"})
"""Messages that are not for us, but show that their run goes on: for a real data agent's run often the only ones."""

STF_HEARD = "hear_stf"
"""The `kind` of what is known of a run only by its STFs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StfReady:
    """An STF is there (`stf_ready`), or, without a filename and all that belongs to one, "look at this run"."""

    run_id: str | int
    """As it came, passed on verbatim: the agents differ in its type."""
    filename: str | None = None
    sequence: int | None = None
    """Number of the STF in its run, from 1; from the message, else from the filename."""
    size_bytes: int | None = None
    checksum: str | None = None
    tf_count: int | None = None
    execution_id: str | None = None
    body: str = "{}"
    """The whole message as JSON text."""

    @property
    def run(self) -> str:
        """The run's identity: `100014` and `"100014"` are one run."""
        return str(self.run_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEvent:
    """What the run control says of a run; `kind` is the message's type and the trigger of the run's chart."""

    kind: str
    run_id: str | int
    execution_id: str | None = None
    total_stf_files: int | None = None
    """How many STFs the run had; only `end_run` says it."""

    @property
    def run(self) -> str:
        """The run's identity: `100014` and `"100014"` are one run."""
        return str(self.run_id)


@dataclass(frozen=True, slots=True)
class IgnoredMessage:
    """A message that is not for us: acknowledged, counted and forgotten."""

    reason: str
    """`type` (another msg_type), `namespace` (another testbed user's) or `echo` (our own)."""


def parse(body: str | bytes, *, namespace: str, agent_name: str = "") -> StfReady | RunEvent | IgnoredMessage:
    """The message in *body*, as one of our types.

    Raises `MalformedMessage`, with the reason, for what cannot be parsed; nothing else whatever the input.
    """
    message = json_object(body)
    kind = message.get("msg_type")
    if not isinstance(kind, str) or kind not in STF_READY_TYPES | RUN_TYPES | RUN_SIGNS:
        return IgnoredMessage("type")
    if message.get("namespace") not in (None, "", namespace):
        return IgnoredMessage("namespace")
    if agent_name and message.get("sender") == agent_name:
        return IgnoredMessage("echo")
    if kind in RUN_SIGNS:
        return _run_sign(message)
    return _stf_ready(message) if kind in STF_READY_TYPES else _run_news(kind, message)


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


def _run_news(kind: str, message: dict[str, Any]) -> RunEvent:
    return RunEvent(
        kind=kind,
        run_id=run_id_in(message),
        execution_id=text_in(message, "execution_id", 200),
        total_stf_files=integer_in(message, "total_stf_files", MAX_INT32) if kind == END_RUN else None,
    )


def _run_sign(message: dict[str, Any]) -> RunEvent | IgnoredMessage:
    try:
        return RunEvent(kind=STF_HEARD, run_id=run_id_in(message), execution_id=text_in(message, "execution_id", 200))
    except MalformedMessage:
        return IgnoredMessage("type")
