"""`make mutants`: draw single mutations of the core and see whether the tests find them. Exit 0 where enough are found.

Neither mutmut 3.8 nor cosmic-ray 8.7: mutmut mutates functions only and picks the mutant by an environment variable
that our tests' child processes do not inherit, cosmic-ray mutates the tree it runs in and has one test command for all.
Neither draws a sample with a seed; so copies, selection and sample, most of this program, would be ours all the same.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import fnmatch
import json
import queue
import random
import resource
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, TypeVar

from tests.mutants.copies import SOUND_LIMIT_S, Copy, NotACopyError, Outcome, tree_files
from tests.mutants.mutating import Mutation, sites
from tests.mutants.selecting import OWN_TESTS, CoverageMap, Measured, measure, order

CORE = ("fastmon_daemon/*.py", "fastmon_client/*.py")
NOT_CORE = (
    "fastmon_daemon/testbed/*", "fastmon_daemon/commands/*", "fastmon_daemon/checks/*",
    "*/cli.py", "*/__main__.py", "*/command.py",
)  # fmt: skip
ENOUGH = 0.92
LIMIT_FACTOR, LIMIT_EXTRA_S = 5.0, 30.0
"""A mutant's tests may take so much longer than they took on the sound tree."""
INTERRUPTED = 130

_Task = TypeVar("_Task")
_Done = TypeVar("_Done")


class UnusableError(Exception):
    """The answer would mean nothing; the text says why."""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one mutation."""

    mutation: Mutation
    diff: str
    outcome: str
    """found, survived or equivalent"""
    by: str = ""
    """The test that found it."""
    seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """For --json."""
        mutation = self.mutation
        return {
            "file": mutation.file, "line": mutation.line, "source_line": mutation.source_line,
            "change": mutation.change, "outcome": self.outcome, "by": self.by, "seconds": round(self.seconds, 2),
            "diff": self.diff,
        }  # fmt: skip


class Mutants:
    """One tree, its core, its tests and its list of equivalents."""

    def __init__(self, root: Path, only: str = "*", tests: str = "*") -> None:
        files = tree_files(root)
        core = [name for name in files if _fits(name, CORE) and not _fits(name, NOT_CORE)]
        self.root = root
        self.sources = {name: (root / name).read_text(encoding="utf-8") for name in core}
        self.sites = {name: sites(name, source) for name, source in self.sources.items()}
        self.only = only
        all_tests = [name for name in fnmatch.filter(files, "tests/*test_*.py") if not name.startswith(OWN_TESTS)]
        self.tests = fnmatch.filter(all_tests, tests)
        self.map_path = root / ".mutants" / "map.json"
        self.equivalent = self._equivalents(root / OWN_TESTS / "equivalent.txt")

    def _equivalents(self, path: Path) -> set[tuple[str, str, str]]:
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        text = "\n".join(line for line in lines if not line.startswith("#")).strip("\n")
        known = {_key(mutation) for found in self.sites.values() for site in found for mutation in site}
        entries = set()
        for block in filter(None, text.split("\n\n")):
            parts = [line.strip() for line in block.strip("\n").splitlines()]
            if len(parts) != 4 or not all(parts):
                raise UnusableError(
                    f"{path.name}: an entry has four lines (file, source line, change, reason):\n{block}"
                )
            entry = (parts[0], parts[1], parts[2])
            if entry not in known:
                raise UnusableError(f"{path.name}: stale, fits no mutation of the tree:\n{block}")
            entries.add(entry)
        return entries

    def draw(self, count: int, seed: int) -> list[Mutation]:
        """*count* mutations of different places, each place as likely as any other."""
        places = [site for name, found in self.sites.items() if fnmatch.fnmatch(name, self.only) for site in found]
        if not places:
            raise UnusableError(f"nothing to mutate: no module of the core fits {self.only!r}")
        chance = random.Random(seed)
        return [chance.choice(site) for site in chance.sample(places, min(count, len(places)))]

    def is_equivalent(self, mutation: Mutation) -> bool:
        """Whether the list says that no test could see it."""
        return _key(mutation) in self.equivalent


class Bench:
    """Copies of the tree to work in, as many as jobs, and what is known so far."""

    def __init__(self, mutants: Mutants, jobs: int, folder: Path) -> None:
        self._mutants = mutants
        print(f"making {jobs} copies of the tree", file=sys.stderr, flush=True)
        programs = tomllib.loads((mutants.root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
        self._copies = [Copy(mutants.root, _made(folder / str(number))) for number in range(jobs)]
        for copy in self._copies:
            copy.check({target.partition(".")[0]: program for program, target in programs.items()})
        self._idle: queue.SimpleQueue[Copy] = queue.SimpleQueue()
        for copy in self._copies:
            self._idle.put(copy)
        self._seconds: dict[str, float] = {}
        self.results: list[Result] = []

    def measure(self, known: CoverageMap) -> list[str]:
        """Measure what each file of tests runs; those that failed meanwhile."""
        failed = []

        def put(test: str, measured: Measured) -> str:
            known.put(test, measured)
            known.save(self._mutants.map_path)
            if not measured.passed:
                failed.append(test)
            return f"{measured.seconds:7.1f} s  {test}{'' if measured.passed else '  FAILED'}"

        self._all("measured", self._mutants.tests, measure, put)
        return failed

    def check_sound(self, tests: list[str]) -> None:
        """UnusableError unless all these pass on the tree as it is; their times are kept, for the limits."""
        failed: list[str] = []

        def checked(test: str, outcome: Outcome) -> str:
            self._seconds[test] = outcome.seconds
            if not outcome.passed:
                failed.append(f"{test}:\n{outcome.output[-2000:]}")
            return f"{outcome.seconds:7.1f} s  {test}{'' if outcome.passed else '  FAILED'}"

        self._all("sound", tests, lambda copy, test: copy.run(test, SOUND_LIMIT_S), checked)
        if failed:
            raise UnusableError(
                "the tests fail on the tree as it is, so they can judge no mutant: " + "\n".join(failed)
            )

    def judge(self, plan: dict[Mutation, list[str]]) -> None:
        """Run each mutation against its tests; `results` grows meanwhile."""

        def judged(mutation: Mutation, result: Result) -> str:
            self.results.append(result)
            by = f" by {result.by}" if result.by else ""
            return f"{result.seconds:7.1f} s  {mutation.file}:{mutation.line}: {mutation.change}: {result.outcome}{by}"

        self._all("mutant", plan, lambda copy, mutation: self._judge(copy, mutation, plan[mutation]), judged)

    def _judge(self, copy: Copy, mutation: Mutation, tests: list[str]) -> Result:
        source = self._mutants.sources[mutation.file]
        spent = 0.0
        copy.write(mutation.file, mutation.apply(source))
        try:
            for test in tests:
                limit_s = LIMIT_FACTOR * self._seconds[test] + LIMIT_EXTRA_S
                outcome = copy.run(test, limit_s)
                spent += outcome.seconds
                failed = outcome.failed_test
                if not outcome.passed and failed:  # once may be an accident of a busy machine
                    outcome = copy.run(failed, limit_s)
                    spent += outcome.seconds
                if copy.ended:  # what was killed at the end was found by nobody
                    raise KeyboardInterrupt
                if not outcome.passed:
                    by = f"{test} (time limit)" if outcome.code is None else failed or test
                    return Result(mutation, mutation.diff(source), "found", by, spent)
        finally:
            copy.write(mutation.file, source)
        return Result(mutation, mutation.diff(source), "survived", seconds=spent)

    def _all(
        self,
        what: str,
        tasks: Iterable[_Task],
        work: Callable[[Copy, _Task], _Done],
        tell: Callable[[_Task, _Done], str],
    ) -> None:
        """Do all tasks on the idle copies, and tell of each on stderr as it is done."""

        def one(task: _Task) -> _Done:
            copy = self._idle.get()
            try:
                if copy.ended:
                    raise KeyboardInterrupt
                return work(copy, task)
            finally:
                self._idle.put(copy)

        with ThreadPoolExecutor(len(self._copies)) as pool:
            waiting = {pool.submit(one, task): task for task in tasks}
            try:
                for number, done in enumerate(as_completed(waiting), 1):
                    line = tell(waiting[done], done.result())
                    print(f"{what} {number}/{len(waiting)} {line}", file=sys.stderr, flush=True)
            except BaseException:
                for copy in self._copies:
                    copy.end()
                raise


def table(results: list[Result]) -> str:
    """Package, drawn, found, survived, equivalent; the last line is the sum."""
    rows: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for result in results:
        rows[str(PurePath(result.mutation.file).parent)][result.outcome] += 1
    total = sum(rows.values(), collections.Counter[str]())
    lines = [f"{'package':32} {'drawn':>6} {'found':>6} {'survived':>9} {'equivalent':>11}"]
    for package, row in [*sorted(rows.items()), ("all", total)]:
        lines.append(
            f"{package:32} {row.total():6} {row['found']:6} {row['survived']:9} {row['equivalent']:11}"
        )  # fmt: skip
    return "\n".join(lines)


def share(results: list[Result]) -> float | None:
    """Found ones among those that are not marked equivalent; None where there are none."""
    judged = [result for result in results if result.outcome != "equivalent"]
    return sum(result.outcome == "found" for result in judged) / len(judged) if judged else None


def report(results: list[Result], seed: int, drawn: int, as_json: bool) -> int:
    """Print what is known; 0 where enough were found."""
    results = sorted(results, key=lambda result: (result.mutation.file, result.mutation.line))
    found = share(results)
    cpu_s = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
    if as_json:
        told = {"seed": seed, "drawn": drawn, "share": found, "enough": ENOUGH, "cpu_s": round(cpu_s, 1)}
        print(json.dumps(told | {"mutants": [result.as_dict() for result in results]}))
    else:
        for result in results:
            if result.outcome == "survived":
                print(
                    f"survived: {result.mutation.file}:{result.mutation.line}: {result.mutation.change}\n{result.diff}"
                )
        print(table(results))
        words = "none judged" if found is None else f"{found:.1%} found, {ENOUGH:.0%} are enough"
        print(f"seed {seed}, {len(results)} of {drawn} drawn: {words}; {cpu_s:.0f} s of CPU")
    if found is None:
        raise UnusableError("no mutant was judged")
    return 0 if found >= ENOUGH else 1


def run(options: argparse.Namespace, root: Path) -> int:
    """As the options say; the exit code."""
    mutants = Mutants(root, options.only, options.tests)
    if not mutants.tests:
        raise UnusableError(f"no test fits {options.tests!r}")
    known = CoverageMap.load(mutants.map_path)
    drawn = mutants.draw(options.count, options.seed)
    marked = [Result(mutation, "", "equivalent") for mutation in drawn if mutants.is_equivalent(mutation)]
    plan = {
        mutation: order(mutation, mutants.sources[mutation.file], mutants.tests, known)
        for mutation in drawn if not mutants.is_equivalent(mutation)
    }  # fmt: skip
    if options.list and not options.map:
        for mutation in drawn:
            tests = f"{len(plan[mutation])} files of tests" if mutation in plan else "equivalent"
            print(f"{mutation.file}:{mutation.line}: {mutation.change} ({tests})")
        return 0
    with tempfile.TemporaryDirectory(prefix="m-", ignore_cleanup_errors=True) as folder:
        bench = Bench(mutants, options.jobs, Path(folder))
        if options.map:
            failed = bench.measure(known)
            print(
                f"measured {len(mutants.tests)} files of tests, {len(failed)} failed under the tracer",
                *failed,
                sep="\n",
            )
            return 0
        print(f"seed {options.seed}: {len(drawn)} mutations; first their tests on the tree as it is", file=sys.stderr)
        try:
            bench.check_sound(sorted({test for tests in plan.values() for test in tests}))
            bench.judge(plan)
        except KeyboardInterrupt:
            print("interrupted; what is known so far:", file=sys.stderr)
            with contextlib.suppress(UnusableError):
                report([*marked, *bench.results], options.seed, len(drawn), options.json)
            return INTERRUPTED
        return report([*marked, *bench.results], options.seed, len(drawn), options.json)


def main(words: list[str] | None = None, root: Path | None = None) -> int:
    """0 enough found, 1 too few, 2 unusable, 130 interrupted."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description="Do the tests find what is wrong?")
    parser.add_argument("--count", type=int, default=150, help="mutations to draw (150)")
    parser.add_argument("--seed", type=int, help="of the draw; without one, a new one is taken and told")
    parser.add_argument("--only", default="*", metavar="GLOB", help="modules to draw from")
    parser.add_argument("--tests", default="*", metavar="GLOB", help="files of tests to run, or to measure with --map")
    parser.add_argument("--jobs", type=int, default=2, help="copies that work at once (2)")
    parser.add_argument("--list", action="store_true", help="say what is drawn, run nothing")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--map", action="store_true", help="measure which tests run which lines, and nothing else")
    options = parser.parse_args(words)
    if options.count < 1 or options.jobs < 1:
        parser.error("--count and --jobs are 1 at least")
    if options.seed is None:
        options.seed = random.SystemRandom().randrange(1_000_000)
    try:
        return run(options, root or Path(__file__).resolve().parents[2])
    except (UnusableError, NotACopyError) as exc:
        print(f"mutants: {exc}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return INTERRUPTED


def _fits(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatch(name, pattern) for pattern in patterns)


def _key(mutation: Mutation) -> tuple[str, str, str]:
    return mutation.file, mutation.source_line, mutation.change


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


if __name__ == "__main__":
    sys.exit(main())
