"""Named points at which tests cut the power: before and after every commit, HTTP call, SEND and ACK.

In production no hook is set, and a seam costs one comparison. This module must not know what happens at a seam.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count

_hook: Callable[[str], None] | None = None


def failpoint(name: str) -> None:
    """Say that the program is at the point *name*."""
    if _hook is not None:
        _hook(name)


def set_hook(hook: Callable[[str], None] | None) -> None:
    """Call *hook* with the name of each seam from now on; None takes it away."""
    global _hook  # noqa: PLW0603 (one process, one hook, set once before any thread starts)
    _hook = hook


@contextmanager
def failpoints_around(name: str) -> Iterator[None]:
    """Seams before and after what the block does; the one after is met only where the block succeeded."""
    failpoint(f"before_{name}")
    yield
    failpoint(f"after_{name}")


def kill_at(where: str) -> Callable[[str], None]:
    """A hook that ends this process by SIGKILL at a seam: ``after_commit:7`` is the 7th meeting of that one."""
    wanted, _, nth = where.partition(":")
    met = count(1)

    def hook(name: str) -> None:
        if name == wanted and next(met) == int(nth or 1):
            os.kill(os.getpid(), signal.SIGKILL)

    return hook
