"""Where log lines go: to stderr, without secrets; the libraries' own loggers join at the level they deserve."""

from __future__ import annotations

import logging
import sys

from loguru import logger

_SEVERITY = {"DEBUG": 7, "INFO": 6, "WARNING": 4, "ERROR": 3, "CRITICAL": 2}
_LIBRARIES = {"stomp.py": "ERROR", "urllib3": "ERROR", "transitions": "WARNING", "sqlite_utils": "WARNING"}


class _InterceptHandler(logging.Handler):
    """Hands records of the standard library's logging to loguru."""

    def emit(self, record: logging.LogRecord) -> None:
        logger.opt(depth=6, exception=record.exc_info).log(record.levelname, "{}: {}", record.name, record.getMessage())


class SecretRedactor:
    """All secrets that this process has read so far, also those that were replaced since; any thread may use it."""

    def __init__(self, *known: str) -> None:
        self._known: dict[str, None] = {}  # threads may add at once: none may undo what another did
        for each in known:
            self.add(each)

    def add(self, secret: str) -> None:
        """One more; what is shorter than four characters is none."""
        if len(secret) > 3:
            self._known[secret] = None

    def redact(self, text: str) -> str:
        """*text* without them."""
        for secret in sorted(self._known.copy(), key=len, reverse=True):  # one may begin with another
            text = text.replace(secret, "***")
        return text


def configure(level: str, secrets: SecretRedactor, *, journal: bool) -> None:
    """Log to stderr from *level* on; *secrets* are blotted out of every line, tracebacks included.

    With *journal* each line bears its syslog severity (`<3>`) and no time, as systemd's journal wants it.
    """

    def write(message: str) -> None:
        text = secrets.redact(str(message))
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
