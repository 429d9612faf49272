"""Named points before and after every commit, HTTP call, SEND and ACK, at which tests kill the process.

Without a hook (in production) a failpoint costs one comparison.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import count

_hook: Callable[[str], None] | None = None
_NO_FAILPOINTS = nullcontext()


def failpoint(name: str) -> None:
    """Call the hook, if one is set, with the name of this failpoint."""
    if _hook is not None:
        _hook(name)


def set_hook(hook: Callable[[str], None] | None) -> None:
    """Call *hook* with the name of every failpoint that is reached from now on; None removes the hook."""
    global _hook  # noqa: PLW0603 (one process, one hook, set once before any thread starts)
    _hook = hook


def failpoints_around(name: str) -> AbstractContextManager[None]:
    """Failpoints `before_<name>` and `after_<name>` around the block; the second only if the block succeeds."""
    return _NO_FAILPOINTS if _hook is None else _failpoints_around(name)


@contextmanager
def _failpoints_around(name: str) -> Iterator[None]:
    failpoint(f"before_{name}")
    yield
    failpoint(f"after_{name}")


def kill_at(where: str) -> Callable[[str], None]:
    """A hook that kills this process (SIGKILL) at a failpoint: `after_commit:7` means its 7th commit."""
    wanted, _, nth = where.partition(":")
    reached = count(1)

    def hook(name: str) -> None:
        if name == wanted and next(reached) == int(nth or 1):
            os.kill(os.getpid(), signal.SIGKILL)

    return hook
