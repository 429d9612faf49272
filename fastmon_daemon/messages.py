"""What arrives on the topic and what leaves on it, as frozen types: parsed once, at the door.

This module knows JSON and the shapes of the messages. It must not know STOMP, SQL or the clock.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from typing import Any, NoReturn
from uuid import UUID, uuid5

from fastmon_daemon.errors import BadMessage

STF_READY_TYPES = frozenset({"stf_ready", "data_ready"})
"""`data_ready` is the older name of `stf_ready`."""

RUN_TYPES = frozenset({"run_imminent", "start_run", "pause_run", "resume_run", "end_run"})

MAX_BODY_BYTES = 1_048_576
"""The longest message body that is parsed, in bytes; a real `stf_ready` has less than 1 kB."""

MAX_FILENAME = 240
"""Characters of an STF filename; the monitor takes 255 for a TF filename, which is longer by its suffix."""

_MAX_INT64 = 2**63 - 1
_MAX_INT32 = 2**31 - 1
_EVENT_NAMESPACE = UUID("6e0f9f1c-5b0e-5c0c-9d5e-0a3f0e1d7c55")
_SEQUENCE = re.compile(r"(\d+)\.[^.]*$")


@dataclass(frozen=True, slots=True, kw_only=True)
class StfReady:
    """An STF is there (`stf_ready`), or, without a filename, "look at this run"."""

    run_id: str | int
    """As it came, passed on verbatim: the agents differ in its type."""
    filename: str | None = None
    namespace: str | None = None
    sequence: int | None = None
    """Number of the STF in its run, from 1; from the message, else from the filename."""
    size_bytes: int | None = None
    checksum: str | None = None
    tf_count: int | None = None
    execution_id: str | None = None
    sender: str | None = None
    body: str = "{}"
    """The whole message as JSON text."""

    @property
    def run(self) -> str:
        """The run's identity: `100014` and `"100014"` are one run."""
        return str(self.run_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunNews:
    """What the run control says of a run; `kind` is the message's type and the trigger of the run's chart."""

    kind: str
    run_id: str | int
    namespace: str | None = None
    execution_id: str | None = None
    total_stf_files: int | None = None

    @property
    def run(self) -> str:
        """The run's identity: `100014` and `"100014"` are one run."""
        return str(self.run_id)


@dataclass(frozen=True, slots=True)
class Foreign:
    """A message that is not for us: acknowledged, counted and forgotten."""

    why: str
    """`type` (another msg_type), `namespace` (another testbed user's) or `echo` (our own)."""


def parse(body: str | bytes, *, namespace: str, agent_name: str = "") -> StfReady | RunNews | Foreign:
    """The message in *body*, as one of our types.

    Raises `BadMessage`, with the reason, for what cannot be parsed; nothing else whatever the input.
    """
    message = _object(body)
    kind = message.get("msg_type")
    if not isinstance(kind, str) or (kind not in STF_READY_TYPES and kind not in RUN_TYPES):
        return Foreign("type")
    if message.get("namespace") not in (None, "", namespace):
        return Foreign("namespace")
    if agent_name and message.get("sender") == agent_name:
        return Foreign("echo")
    return _stf_ready(message) if kind in STF_READY_TYPES else _run_news(kind, message)


def _object(body: str | bytes) -> dict[str, Any]:
    if len(body) > MAX_BODY_BYTES:
        raise BadMessage(f"the body has {len(body)} bytes, more than {MAX_BODY_BYTES}")
    try:
        value = json.loads(body, parse_constant=_no_constant)
    except (ValueError, RecursionError) as exc:  # UnicodeDecodeError is a ValueError
        raise BadMessage(f"not JSON: {type(exc).__name__}: {str(exc)[:200]}") from exc
    if not isinstance(value, dict):
        raise BadMessage(f"not a JSON object but {_kind(value)}")
    return value


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def plain_json(value: object, *, ensure_ascii: bool = True) -> str:
    """*value* as JSON text that every reader takes: a number beyond all floats, such as `1e999`, becomes null."""
    try:
        return json.dumps(value, ensure_ascii=ensure_ascii, allow_nan=False)
    except ValueError:
        finite = json.loads(json.dumps(value), parse_constant=lambda _: None)
        return json.dumps(finite, ensure_ascii=ensure_ascii)


def _stf_ready(message: dict[str, Any]) -> StfReady:
    filename = _filename(message)
    sequence = _integer(message, "sequence", _MAX_INT32)
    if sequence is None and filename is not None:
        sequence = sequence_in(filename)
    return StfReady(
        run_id=_run_id(message),
        filename=filename,
        namespace=_text(message, "namespace", 100),
        sequence=sequence,
        size_bytes=_integer(message, "size_bytes", _MAX_INT64),
        checksum=_text(message, "checksum", 64),
        tf_count=_integer(message, "tf_count", _MAX_INT32, least=1),
        execution_id=_text(message, "execution_id", 200),
        sender=_text(message, "sender", 200),
        body=plain_json(message),
    )


def _run_news(kind: str, message: dict[str, Any]) -> RunNews:
    return RunNews(
        kind=kind,
        run_id=_run_id(message),
        namespace=_text(message, "namespace", 100),
        execution_id=_text(message, "execution_id", 200),
        total_stf_files=_integer(message, "total_stf_files", _MAX_INT32),
    )


def sequence_in(filename: str) -> int | None:
    """The sequence number that an STF's name carries (`swf.100014.000001.stf`: 1), or None."""
    found = _SEQUENCE.search(filename)
    number = int(found[1][:20]) if found else None
    return number if number is not None and number <= _MAX_INT32 else None


def _run_id(message: dict[str, Any]) -> str | int:
    value = message.get("run_id")
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise BadMessage(f"run_id: {_kind(value)} where a string or an integer is needed")
    text = str(value) if isinstance(value, str) or abs(value) <= _MAX_INT64 else ""
    if not 1 <= len(text) <= 50 or not _is_plain(text):
        raise BadMessage("run_id: not 1 to 50 plain characters")
    return value


def _filename(message: dict[str, Any]) -> str | None:
    value = message.get("filename")
    if value is None:
        return None
    if not isinstance(value, str):
        raise BadMessage(f"filename: {_kind(value)} where a string is needed")
    if not 1 <= len(value) <= MAX_FILENAME:
        raise BadMessage(f"filename: {len(value)} characters, not 1 to {MAX_FILENAME}")
    if not _is_plain(value) or "/" in value or "\\" in value:
        raise BadMessage("filename: control characters, outer spaces or slashes in it")
    return value


def _is_plain(text: str) -> bool:
    return text.isprintable() and text == text.strip()


def _text(message: dict[str, Any], key: str, longest: int) -> str | None:
    value = message.get(key)
    if value is None:
        return None
    if not isinstance(value, str):
        raise BadMessage(f"{key}: {_kind(value)} where a string is needed")
    if len(value) > longest or not value.isprintable():
        raise BadMessage(f"{key}: more than {longest} characters, or control characters in it")
    return value or None


def _integer(message: dict[str, Any], key: str, most: int, least: int = 0) -> int | None:
    value = message.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise BadMessage(f"{key}: {_kind(value)} where an integer is needed")
    if not least <= value <= most:
        raise BadMessage(f"{key}: out of range, {least} to {most}")
    return value


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


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


def run_number(run_id: str | int) -> int | None:
    """The monitor's run number for a `run_id`, or None where it is not a number."""
    text = str(run_id)
    return int(text) if text.isascii() and text.isdigit() and int(text) <= _MAX_INT32 else None


def event_id_of_run(namespace: str, run: str, expected: int | None) -> str:
    """The event id of a run's summary, the same each time it is sent; another, where more STFs are *expected* since."""
    return str(uuid5(_EVENT_NAMESPACE, f"{namespace}/{run}/{expected}"))
