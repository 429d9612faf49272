"""Files that settings come from: only regular files are opened, and a `.env` file is read as a whole or refused."""

import errno
import io
import re
import stat
from pathlib import Path

from dotenv.parser import Binding, parse_stream

from fastmon_daemon.base.errors import ConfigError

_NAME = re.compile(r"[a-z_][\w.-]*", re.IGNORECASE | re.ASCII)
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_SWALLOWED = re.compile(r"(?:^|[\s;])(?:FASTMON|SWF|ACTIVEMQ|MQ)_\w+\s*=")
"""A setting inside the value of another: after a quote that is not closed, or the second one of a line."""


def check_regular(path: Path) -> None:
    """Check that *path* may be opened: a FIFO would block. Raises: OSError, with *strerror* set."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "not a regular file")


def read_text(path: Path) -> str:
    """Return the text of a regular file. Raises: OSError; UnicodeDecodeError if it is not UTF-8."""
    check_regular(path)
    return path.read_text("utf-8")


def read_error(error: OSError | ValueError) -> str:
    """Return a short reason why a file could not be read."""
    if isinstance(error, OSError):
        return error.strerror or "input/output error"
    return "not UTF-8 text" if isinstance(error, UnicodeDecodeError) else str(error)


def read_env_file(path: Path) -> dict[str, str]:
    """Return the variables of a `.env` file; none if there is no such file.

    Raises: ConfigError if any part of it cannot be read, with its line; no value is shown, as it may be a secret.
    """
    found: dict[str, str] = {}
    for binding in parse_stream(io.StringIO(_env_text(path))):
        if problem := _problem(binding):
            raise ConfigError(f"{path}:{_line(binding)}: {problem}")
        if binding.key is not None and binding.value is not None:  # `export NAME` keeps the value that NAME has
            found[binding.key] = binding.value
    return found


def _env_text(path: Path) -> str:
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError, PermissionError) as error:
        # A folder that we may not search belongs to another user, whose settings are not ours.
        if isinstance(error, PermissionError) or not path.is_symlink():
            return ""
        raise ConfigError(f"{path}: symbolic link to a file that does not exist: fix or remove it") from None
    except OSError as error:
        raise ConfigError(f"{path}: unreadable ({read_error(error)}): fix or remove the file") from None
    try:
        text = read_text(path).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}:{line}: unreadable (not UTF-8 text): save the file as UTF-8") from None
    except OSError as error:
        raise ConfigError(f"{path}: unreadable ({read_error(error)}): fix or remove the file") from None
    if control := _CONTROL.search(text):
        line = text.count("\n", 0, control.start()) + 1
        raise ConfigError(f"{path}:{line}: contains a control character: save the file as UTF-8 text")
    return text


def _line(binding: Binding) -> int:
    """Return the line on which a binding begins, after the empty lines that the parser counts to it."""
    text = binding.original.string
    skipped = text[: len(text) - len(text.lstrip())]
    return binding.original.line + len(re.findall(r"\r\n|\n|\r", skipped))


def _problem(binding: Binding) -> str | None:
    """Return what is wrong with a line, and what to do; None if nothing of it is lost."""
    text = binding.original.string.strip()
    if binding.error or (binding.key is not None and not _NAME.fullmatch(binding.key)):
        return "not NAME=value, or a quote is not closed: fix or remove the line"
    if binding.key is not None and binding.value is None and not re.match(r"export\s", text):
        return "a name without a value: write NAME=value, or remove the line"
    if binding.value is not None and _SWALLOWED.search(binding.value):
        return f"the value of {binding.key} contains another setting: close its quote, and write one setting a line"
    return None
