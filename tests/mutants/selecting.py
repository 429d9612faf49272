"""Selects the tests that should find a mutation: those that run its line, the fastest first.

`--map` measures that with coverage, for each test file separately, child processes included. For a module that has
changed since, the tests that ran it at all are selected; for one that is not in the map, all tests, by name.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.mutants.copies import SOUND_LIMIT_S, Copy
from tests.mutants.mutating import Mutation, function_lines

OWN_TESTS = "tests/mutants/"
MEASURING = """[run]
include = {tree}/fastmon_*/*
data_file = {data}/data
parallel = true
core = ctrace
patch = _exit
disable_warnings = no-data-collected, module-not-measured, couldnt-parse, already-imported
"""


@dataclass(frozen=True, slots=True)
class Measured:
    """Which lines one test file ran."""

    passed: bool
    seconds: float
    lines: dict[str, tuple[str, list[int]]]
    """Module -> (digest of its text, lines)."""


@dataclass
class CoverageMap:
    """Which lines of each module each test file ran, and how long it took."""

    seconds: dict[str, float] = field(default_factory=dict)
    lines: dict[str, dict[str, tuple[str, list[int]]]] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path) -> CoverageMap:
        """Load the map; empty if the file does not exist."""
        return cls(**json.loads(path.read_text(encoding="utf-8"))) if path.exists() else cls()

    def put(self, test_file: str, measured: Measured) -> None:
        """Replace the entry of *test_file*."""
        self.seconds[test_file] = round(measured.seconds, 3)
        self.lines[test_file] = measured.lines

    def save(self, path: Path) -> None:
        """Save the map to *path*."""
        path.parent.mkdir(exist_ok=True)
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps(self.__dict__), encoding="utf-8")
        fresh.replace(path)


def measure(copy: Copy, test_file: str) -> Measured:
    """Run one test file under the tracer, including all Python processes that it starts."""
    import coverage

    folder = copy.tree.parent / f"coverage-{time.monotonic_ns()}"
    folder.mkdir()
    settings = folder / "settings"
    settings.write_text(MEASURING.format(tree=copy.tree, data=folder), encoding="utf-8")
    start = copy.site_packages / "zz_measure.pth"  # every interpreter of the copy reads it, even without environment
    start.write_text(
        f"import os; os.environ['COVERAGE_PROCESS_START'] = {str(settings)!r}; "
        "import coverage; coverage.process_startup()\n",
        encoding="utf-8",
    )
    try:
        outcome = copy.run(test_file, SOUND_LIMIT_S)
    finally:
        start.unlink()
    found: dict[str, set[int]] = {}
    for path in folder.glob("data.*"):
        data: Any = coverage.CoverageData(str(path))
        with contextlib.suppress(coverage.CoverageException):  # written by a process that was killed
            data.read()
            for name in data.measured_files():
                found.setdefault(Path(name).relative_to(copy.tree).as_posix(), set()).update(data.lines(name) or ())
    lines = {module: (_digest(copy.read(module)), sorted(ran)) for module, ran in sorted(found.items())}
    return Measured(outcome.passed, outcome.seconds, lines)


def order(mutation: Mutation, source: str, tests: list[str], known: CoverageMap) -> list[str]:
    """Return the *tests* that can find this mutation, in the order to run them.

    Nearly all tests run a line that runs at import: those that also run a function of the module come first.
    """
    measured = {test: known.lines[test][mutation.file] for test in tests if mutation.file in known.lines.get(test, {})}
    if not measured:
        return sorted(tests, key=lambda test: (-_similarity(mutation.file, test), known.seconds.get(test, 0.0)))
    digest, inside = _digest(source), function_lines(source)
    first, last = mutation.statement
    place = set(range(first, last + 1))
    users = {test for test, (_, ran) in measured.items() if inside & set(ran)}
    runners = {test for test, (of, ran) in measured.items() if (place & set(ran) if of == digest else test in users)}
    # A killed process reports no lines; so for a line that no test ran, all users of the module are selected.
    return [
        *sorted(runners or users or measured, key=lambda test: (test not in users, known.seconds[test])),
        *sorted(set(tests) - known.seconds.keys(), key=lambda test: (-_similarity(mutation.file, test), test)),
    ]


def _similarity(module: str, test: str) -> int:
    """Return the number of words that the names share."""
    return len(_words(module.removeprefix("fastmon_daemon/")) & _words(test.removeprefix("tests/")))


def _words(path: str) -> set[str]:
    return {word for word in re.split(r"[/_.]", path) if word not in {"", "py", "test", "fastmon", "init"}}


def _digest(source: str) -> str:
    return hashlib.sha256(source.encode()).hexdigest()
