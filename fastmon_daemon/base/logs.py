"""Logging to stderr, with secrets redacted and control characters escaped; includes the loggers of the libraries."""

from __future__ import annotations

import logging
import sys

from loguru import logger

from fastmon_daemon.base.text import escape_controls

_SEVERITY = {"DEBUG": 7, "INFO": 6, "WARNING": 4, "ERROR": 3, "CRITICAL": 2}
_LIBRARIES = {"stomp.py": "CRITICAL", "urllib3": "ERROR", "transitions": "WARNING", "sqlite_utils": "WARNING"}


class _InterceptHandler(logging.Handler):
    """Hands the records of the standard library's logging to loguru."""

    def emit(self, record: logging.LogRecord) -> None:
        logger.opt(depth=6, exception=record.exc_info).log(record.levelname, "{}: {}", record.name, record.getMessage())


class SecretRedactor:
    """Every secret that this process has read, also those replaced since. Thread-safe."""

    def __init__(self, *known: str) -> None:
        self._known: dict[str, None] = {}  # a dict: two threads may add at the same time
        for each in known:
            self.add(each)

    def add(self, secret: str) -> None:
        """Redact *secret* from now on; texts of less than four characters are ignored."""
        if len(secret) > 3:
            self._known[secret] = None

    def redact(self, text: str) -> str:
        """*text* with every secret replaced by `***`."""
        for secret in sorted(self._known.copy(), key=len, reverse=True):  # one may begin with another
            text = text.replace(secret, "***")
        return text


def configure(level: str, secrets: SecretRedactor, *, journal: bool) -> None:
    """Log to stderr from *level* on, with *secrets* redacted and control characters escaped, also in tracebacks.

    A message is one line, and the lines of a traceback are indented: nothing that others sent can look like a log line.

    With *journal*, each line begins with its syslog severity (`<3>`) and has no time, for systemd's journal.
    """

    def write(message: str) -> None:
        said = message.record["message"]  # type: ignore[attr-defined]
        end = message.find(said) + len(said)
        first, *traceback = secrets.redact(message[end:].rstrip("\n")).split("\n")
        lines = [secrets.redact(message[:end]) + first, *(f"    {line}" for line in traceback)]
        text = "".join(f"{escape_controls(line)}\n" for line in lines)
        if journal:
            prefix = f"<{_SEVERITY.get(message.record['level'].name, 6)}>"  # type: ignore[attr-defined]
            text = "".join(f"{prefix}{line}\n" for line in text.splitlines())
        sys.stderr.write(text)
        sys.stderr.flush()

    line = "{level: <8} {message}" if journal else "{time:YYYY-MM-DDTHH:mm:ss.SSS!UTC}Z {level: <8} {message}"
    logger.remove()
    logger.add(write, level=level, format=line, backtrace=False, diagnose=False)
    logging.basicConfig(handlers=[_InterceptHandler()], level="WARNING", force=True)
    for name, lowest in _LIBRARIES.items():
        logging.getLogger(name).setLevel(lowest)
