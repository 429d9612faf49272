"""Files that settings come from: only regular files are opened, and a `.env` file is read as a whole or refused.

The rules are those of the daemon: tests/client/test_environment.py holds both to one table of files.
"""

import errno
import grp
import io
import os
import pwd
import re
import stat
from pathlib import Path

import click
from dotenv.parser import Binding, parse_stream

from fastmon_client.formatting import escape


class SettingsError(click.ClickException):
    """A setting that the client cannot start with; no message shows a secret."""

    exit_code = 78

    def show(self, file: object = None) -> None:  # noqa: ARG002 (click's signature)
        """Print it as one line on stderr."""
        click.echo(f"fastmon-client: {escape(self.format_message())}", err=True)


MAX_BYTES = 1024 * 1024
"""Longest file of settings or of a secret."""
_SECRET = re.compile(r"(?:TOKEN|PASSWORD|PASSWD)$")
_NAME = re.compile(r"[a-z_][\w.-]*", re.IGNORECASE | re.ASCII)
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_SWALLOWED = re.compile(r"(?:^|[\s;])(?:FASTMON|SWF|ACTIVEMQ|MQ)_\w+\s*=")
"""A setting inside the value of another: after a quote that is not closed, or the second one of a line."""


def check_regular(path: Path) -> None:
    """Check that *path* may be opened: a FIFO would block. Raises: OSError, with *strerror* set."""
    _check(path.stat())


def read_text(path: Path) -> str:
    """Return the text of a regular file. Raises: OSError; UnicodeDecodeError if it is not UTF-8."""
    return _read(path)[0]


def _read(path: Path) -> tuple[str, os.stat_result]:
    """Return the text of a regular file, and the state of that very file, which may be exchanged at any time."""
    check_regular(path)  # to open a device may have effects
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    with os.fdopen(descriptor, encoding="utf-8") as file:
        status = os.fstat(descriptor)
        _check(status)
        return file.read(), status


def _check(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "not a regular file")
    if status.st_size > MAX_BYTES:
        raise OSError(errno.EFBIG, f"more than {MAX_BYTES} bytes")


def exposed(path: Path) -> str | None:
    """Return a warning if other users can read *path*, which contains a secret."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return None
    return f"{path}: contains a secret that other users can read: chmod o-rwx {path}" if mode & stat.S_IROTH else None


def is_secret(name: str) -> bool:
    """Return whether the variable of this name holds a secret."""
    return _SECRET.search(name) is not None


def trust_problem(path: Path, status: os.stat_result) -> str | None:
    """Return why a file or folder may be the work of somebody else, and what to do; None if it is ours."""
    for owner in (path.lstat().st_uid, status.st_uid):  # of a symbolic link, too
        if owner not in (0, os.geteuid()):
            return f"belongs to user {_name_of(owner)}, not to you: remove it, or run as that user"
    if status.st_mode & stat.S_IWOTH or (status.st_mode & stat.S_IWGRP and not is_private_group(status.st_gid)):
        return f"other users can write it: check its content, then chmod go-w {path}"
    return None


def _name_of(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return str(user)


def is_private_group(gid: int) -> bool:
    """Return whether it is the group of our user alone: many systems make one for each user, with a umask of 002."""
    try:
        group, user = grp.getgrgid(gid), pwd.getpwuid(os.geteuid())
    except KeyError:
        return False
    return (group.gr_name, gid) == (user.pw_name, user.pw_gid) and set(group.gr_mem) <= {user.pw_name}


def read_error(error: OSError | ValueError) -> str:
    """Return a short reason why a file could not be read."""
    if isinstance(error, OSError):
        return error.strerror or "input/output error"
    return "not UTF-8 text" if isinstance(error, UnicodeDecodeError) else str(error)


def read_env_file(path: Path) -> dict[str, str]:
    """Return the variables of a `.env` file; none if there is no such file.

    Raises: SettingsError if it is not ours, or cannot be read whole, with the line; no value is shown: it may
    be a secret.
    """
    found: dict[str, str] = {}
    for binding in parse_stream(io.StringIO(_env_text(path))):
        if problem := _problem(binding):
            raise SettingsError(f"{path}:{_line(binding)}: {problem}")
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
        raise SettingsError(f"{path}: symbolic link to a file that does not exist: fix or remove it") from None
    except OSError as error:
        raise SettingsError(f"{path}: unreadable ({read_error(error)}): fix or remove the file") from None
    try:
        text, status = _read(path)
        text, problem = text.removeprefix("\ufeff"), trust_problem(path, status)
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise SettingsError(f"{path}:{line}: unreadable (not UTF-8 text): save the file as UTF-8") from None
    except OSError as error:
        raise SettingsError(f"{path}: unreadable ({read_error(error)}): fix or remove the file") from None
    if problem:
        raise SettingsError(f"{path}: {problem}")
    if control := _CONTROL.search(text):
        line = text.count("\n", 0, control.start()) + 1
        raise SettingsError(f"{path}:{line}: contains a control character: save the file as UTF-8 text")
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
