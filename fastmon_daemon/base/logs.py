"""Logging to stderr: as text, as JSON, or for the journal; secrets are redacted, also in what libraries log."""

from __future__ import annotations

import json
import logging
import os
import socket
import struct
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from typing import TYPE_CHECKING, Any, Literal

from loguru import logger

from fastmon_daemon.base.log_throttle import LogThrottle, is_written
from fastmon_daemon.base.text import escape_controls

if TYPE_CHECKING:
    from loguru import Message, Record

LogFormat = Literal["text", "json", "journal"]
JOURNAL = "/run/systemd/journal/socket"
FIELDS = {
    "stf": "stf", "run": "run", "source": "from", "dest": "to", "link": "link", "error": "error", "seconds": "seconds",
}  # fmt: skip
"""Name of a bound value -> its key in JSON; `from` is no name in Python."""

_SEVERITY = {"DEBUG": 7, "INFO": 6, "WARNING": 4, "ERROR": 3, "CRITICAL": 2}
_LEVELS = ((50, "CRITICAL"), (40, "ERROR"), (30, "WARNING"), (20, "INFO"))
_throttle = LogThrottle()
_LIBRARIES = {"stomp.py": "CRITICAL", "urllib3": "ERROR", "transitions": "WARNING", "sqlite_utils": "WARNING"}


class _InterceptHandler(logging.Handler):
    """Hands the records of the standard library's logging to loguru."""

    def emit(self, record: logging.LogRecord) -> None:
        # A library may have levels of its own.
        level = next((name for lowest, name in _LEVELS if record.levelno >= lowest), "DEBUG")
        logger.opt(depth=6, exception=record.exc_info).log(level, "{}: {}", record.name, record.getMessage())


class SecretRedactor:
    """Every secret that this process has read, also those replaced since. Thread-safe."""

    def __init__(self, *known: str) -> None:
        self._known: dict[str, None] = {}  # a dict: two threads may add at the same time
        self._longest_first: tuple[str, ...] = ()
        """One may begin with another."""
        for each in known:
            self.add(each)

    def add(self, secret: str) -> None:
        """Redact *secret* from now on; texts of less than four characters are ignored."""
        if len(secret) > 3:
            self._known[secret] = None
            self._longest_first = tuple(sorted(self._known.copy(), key=len, reverse=True))

    def redact(self, text: str) -> str:
        """*text* with every secret replaced by `***`."""
        for secret in self._longest_first:
            text = text.replace(secret, "***")
        return text


def configure(level: str, secrets: SecretRedactor, form: LogFormat = "text") -> None:
    """Log to stderr from *level* on, in *form*, with *secrets* redacted, also in tracebacks and in lines of libraries.

    A message is one line with control characters escaped, and the lines of a traceback are indented: nothing that
    others sent can look like a log line. Who logs too much is cut, see `LogThrottle`.
    """

    def write(message: Message) -> None:
        entry = _Entry.of(message, secrets)
        if form == "journal" and _send_to_journal(entry.journal_fields()):
            return
        sys.stderr.write({"text": entry.text, "json": entry.json, "journal": entry.prefixed}[form]())
        sys.stderr.flush()

    logger.remove()
    logger.configure(patcher=_throttle.mark)
    logger.add(write, level=level, format="{message}", filter=is_written, backtrace=False, diagnose=False)
    logging.basicConfig(handlers=[_InterceptHandler()], level="WARNING", force=True)
    logging.captureWarnings(capture=True)
    for name, lowest in _LIBRARIES.items():
        logging.getLogger(name).setLevel(lowest)


def log_uncaught() -> None:
    """Log exceptions that nobody catches, in any thread: Python would print them with their secrets."""

    def uncaught(kind: type[BaseException], error: BaseException | None, _: object) -> None:
        if not issubclass(kind, (KeyboardInterrupt, SystemExit)):
            logger.opt(exception=error).critical("unexpected error")

    sys.excepthook = uncaught
    threading.excepthook = lambda args: uncaught(args.exc_type, args.exc_value, None)


def write_sums() -> None:
    """Write what was counted instead of written, because the process ends."""
    _throttle.end_all()


@dataclass(frozen=True, slots=True)
class _Entry:
    """One log entry, without secrets."""

    record: Record
    message: str
    traceback: list[str]
    fields: dict[str, Any]

    @classmethod
    def of(cls, message: Message, secrets: SecretRedactor) -> _Entry:
        said = message.record["message"]
        extra = message.record["extra"]
        bound = {key: extra[name] for name, key in FIELDS.items() if extra.get(name) is not None}
        return cls(
            record=message.record,
            message=secrets.redact(said),
            traceback=[line for line in secrets.redact(message[len(said) :]).split("\n") if line],
            fields={key: secrets.redact(value) if isinstance(value, str) else value for key, value in bound.items()},
        )

    @property
    def level(self) -> str:
        return self.record["level"].name

    def text(self) -> str:
        """For people: time, level and message; then the traceback."""
        return self._lines(f"{self._time()} {self.level: <8} {self.message}")

    def prefixed(self) -> str:
        """For the journal: each line begins with its syslog severity, and the journal knows the time."""
        lines = self._lines(f"{self.level: <8} {self.message}").splitlines()
        return "".join(f"<{_severity(self.level)}>{line}\n" for line in lines)

    def json(self) -> str:
        """For programs: one object a line."""
        entry = {"time": self._time(), "level": self.level, "message": self.message, **self.fields}
        if self.traceback:
            entry["traceback"] = "\n".join(self.traceback)
        return f"{json.dumps(entry, default=str)}\n"

    def journal_fields(self) -> dict[str, str]:
        """For the journal's own protocol: fields that `journalctl STF=...` selects by."""
        lines = self._lines(self.message).rstrip("\n")
        fields = {key.upper(): escape_controls(value) for key, value in self.fields.items()}
        return {
            "MESSAGE": lines, "PRIORITY": str(_severity(self.level)), "SYSLOG_IDENTIFIER": "fastmon-daemon", **fields,
        }  # fmt: skip

    def _time(self) -> str:
        return f"{self.record['time'].astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}"[:-3] + "Z"

    def _lines(self, first: str) -> str:
        lines = [first, *(f"    {line}" for line in self.traceback)]
        return "".join(f"{escape_controls(line)}\n" for line in lines)


def _severity(level: str) -> int:
    return _SEVERITY.get(level, 6)


def _send_to_journal(fields: Mapping[str, str]) -> bool:
    """Send one entry by the journal's native protocol; False if it is not taken: no journal, or too long an entry."""
    parts = (
        name.encode() + b"\n" + struct.pack("<Q", len(value)) + value + b"\n"
        for name, value in ((name, text.encode(errors="replace")) for name, text in fields.items())
    )
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        try:
            sender.sendto(b"".join(parts), JOURNAL)
        except OSError:
            return False
    return True


def choose_format(wanted: str, values: Mapping[str, str]) -> LogFormat:
    """Return the format for *wanted*, the value of FASTMON_LOG_FORMAT, in the environment *values*."""
    if wanted == "json":
        return "json"
    return "journal" if wanted == "auto" and is_journal(values) else "text"


def is_journal(values: Mapping[str, str]) -> bool:
    """Whether stderr is the journal; *values* is the environment. A shell below the unit may have redirected it."""
    try:
        status = os.fstat(2)
    except OSError:
        return False
    return values.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"
