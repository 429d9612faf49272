"""The folder of a dashboard (`--state`): a few small JSON files, written by one dashboard, read by anybody.

Terminals share the folder with it; a file that several of them write is changed under a lock of its own.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TypeVar

from loguru import logger

from fastmon_client.files import trust_problem

MAX_BYTES = 16 * 1024 * 1024
"""Longest file."""
_Value = TypeVar("_Value")


class StateFolderError(Exception):
    """The folder cannot be used: another dashboard has it, or others could plant files in it."""


class StateFolder:
    """Made with mode 0700 if it is not there."""

    def __init__(self, path: Path, *, is_shared: bool = False) -> None:
        """Lock it; not if *is_shared*: beside the dashboard that has it. Raises: OSError, StateFolderError."""
        self.path = path
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if problem := trust_problem(path, path.stat()):  # others could plant links in it
            raise StateFolderError(f"{path}: {problem}")
        self._lock: IO[str] | None = None
        if is_shared:
            return
        self._lock = (path / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            self._lock.close()
            raise StateFolderError(f"{path} is in use by another dashboard: use another folder") from exc

    def close(self) -> None:
        """Let another dashboard use the folder."""
        if self._lock:
            self._lock.close()

    @contextmanager
    def changing(self, name: str) -> Iterator[None]:
        """Keep others from changing the file *name* meanwhile. Raises: OSError."""
        with (self.path / name).with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # for as long as it takes to write a small file
            yield

    def version(self, name: str) -> tuple[int, int] | None:
        """What changes whenever the file *name* is replaced; None without the file."""
        try:
            found = (self.path / name).stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns

    def read(self, name: str, parse: Callable[[Any], _Value]) -> _Value | None:
        """The value that *parse* makes of the file *name*; None without one. A file that is not ours is put aside.

        *parse* may raise ValueError, TypeError, KeyError, AttributeError. Raises: OSError.
        """
        try:
            return read_file(self.path, name, parse)
        except ValueError as exc:
            aside = (self.path / name).with_suffix(".unreadable")
            (self.path / name).replace(aside)
            logger.warning("{}: moved to {}", exc, aside.name)
            return None

    def write(self, name: str, value: Any) -> None:
        """Replace the file *name*, or leave it as it is. Raises: OSError."""
        path = self.path / name
        beside = path.with_suffix(".tmp")
        beside.write_text(json.dumps({"version": 1, **value}, indent=1), encoding="utf-8")
        os.replace(beside, path)  # noqa: PTH105 (Path.replace is the same; this names the atomic call)


def read_file(folder: Path, name: str, parse: Callable[[Any], _Value]) -> _Value | None:
    """The value that *parse* makes of the file *name* in *folder*; None without one.

    Raises: OSError; ValueError if it is not ours.
    """
    path = folder / name
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return None
    except UnicodeDecodeError as exc:
        raise ValueError(f"{path} cannot be read: not UTF-8 text") from exc
    try:
        if len(text) > MAX_BYTES:
            raise ValueError("too long")
        return parse(json.loads(text))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as exc:
        raise ValueError(f"{path} cannot be read ({type(exc).__name__})") from exc
