"""Commands of both programs as processes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence

from tests.processes import DEADLINE_S, BaseTestbed

Words = tuple[str, ...]
"""The module of a program, and its arguments."""


def run_all(
    testbed: BaseTestbed, commands: Mapping[Words, Mapping[str, str]], under: Sequence[str] = ()
) -> dict[Words, tuple[int, str]]:
    """Exit code and output of each of *commands*, which maps words to changes of the environment.

    All run at the same time, by the command *under* if given.
    """
    children = {
        words: subprocess.Popen(
            [*under, sys.executable, "-m", *words], env=testbed.environment(**changes), cwd=testbed.folder, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )
        for words, changes in commands.items()
    }  # fmt: skip
    testbed.children.extend(children.values())  # type: ignore[arg-type]
    outputs = {words: child.communicate(timeout=DEADLINE_S)[0] for words, child in children.items()}
    return {words: (child.returncode, outputs[words]) for words, child in children.items()}
