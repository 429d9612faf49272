"""`make mutants`: draw single mutations of the core and check whether the tests find them. Exit 0 if enough are found.

Why neither mutmut 3.8 nor cosmic-ray 8.7: mutmut mutates only functions, and selects the mutant by an environment
variable that the tests' child processes do not inherit; cosmic-ray mutates its own tree and has a single test command.
Neither draws a sample by seed, so most of this program would be needed anyway.
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
import signal
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterable, Iterator
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
NOT_JUDGES = (f"{OWN_TESTS}*", "tests/browser/*")
"""Tests that judge no mutant: those of this program, and those that need a browser."""
ENOUGH = 0.92
LIMIT_FACTOR, LIMIT_EXTRA_S = 5.0, 30.0
"""Time limit of a mutant's tests: this factor and this many seconds over their time on the unmodified tree."""
HANGING = "--timeout=60"
"""Option of pytest for a mutant's tests: a test that hangs costs this many seconds twice."""
INTERRUPTED = 130

_Task = TypeVar("_Task")
_Done = TypeVar("_Done")


class UnusableError(Exception):
    """The run would prove nothing, for the reason in the text."""


@dataclass(frozen=True, slots=True)
class Result:
    """The result of one mutation."""

    mutation: Mutation
    diff: str
    outcome: str
    """``found``, ``survived`` or ``equivalent``."""
    by: str = ""
    """The test that found the mutation."""
    seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return the fields for --json."""
        mutation = self.mutation
        return {
            "file": mutation.file, "line": mutation.line, "begin": mutation.begin,
            "source_line": mutation.source_line, "change": mutation.change, "outcome": self.outcome, "by": self.by,
            "seconds": round(self.seconds, 2), "diff": self.diff,
        }  # fmt: skip


def read_results(path: Path, drawn: list[Mutation]) -> tuple[list[Result], list[str]]:
    """The results in *path*, the output of an interrupted run with --json, and the test files that it set aside.

    Raises: UnusableError if it is none, or has a mutation that is not of this draw.
    """
    mutations = {(each.file, each.begin, each.change): each for each in drawn}
    results = []
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        for row in told["mutants"]:
            mutation = mutations[row["file"], row["begin"], row["change"]]
            results.append(Result(mutation, row["diff"], row["outcome"], row["by"], row["seconds"]))
        unsound = list(map(str, told["unsound"]))
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise UnusableError(f"{path}: no results of this draw: give the --seed of that run, on the same tree") from exc
    return results, unsound


class Mutants:
    """The core of a tree with its mutations, its tests, and the list of equivalent mutations."""

    def __init__(self, root: Path, only: str = "*", tests: str = "*") -> None:
        files = tree_files(root)
        core = [name for name in files if _matches(name, CORE) and not _matches(name, NOT_CORE)]
        self.root = root
        self.sources = {name: (root / name).read_text(encoding="utf-8") for name in core}
        self.sites = {name: sites(name, source) for name, source in self.sources.items()}
        self.only = only
        all_tests = [name for name in fnmatch.filter(files, "tests/*test_*.py") if not _matches(name, NOT_JUDGES)]
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
                    f"{path.name}: an entry needs four lines (file, source line, change, reason):\n{block}"
                )
            entry = (parts[0], parts[1], parts[2])
            if entry not in known:
                raise UnusableError(f"{path.name}: stale entry, matches no mutation of the tree: remove it:\n{block}")
            entries.add(entry)
        return entries

    def draw(self, count: int, seed: int) -> list[Mutation]:
        """Draw *count* mutations of different places, all places with the same probability."""
        places = [site for name, found in self.sites.items() if fnmatch.fnmatch(name, self.only) for site in found]
        if not places:
            raise UnusableError(f"nothing to mutate: no module of the core matches --only {self.only!r}")
        rng = random.Random(seed)
        return [rng.choice(site) for site in rng.sample(places, min(count, len(places)))]

    def is_equivalent(self, mutation: Mutation) -> bool:
        """Whether the mutation is listed as equivalent: no test can find it."""
        return _key(mutation) in self.equivalent


class Runner:
    """Runs tests in copies of the tree, one copy per job, and collects the results."""

    def __init__(self, mutants: Mutants, jobs: int, folder: Path) -> None:
        self._mutants = mutants
        print(f"making {jobs} copies of the tree", file=sys.stderr, flush=True)
        programs = tomllib.loads((mutants.root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
        self._copies = [Copy(mutants.root, folder / str(number)) for number in range(jobs)]
        for copy in self._copies:
            copy.check({target.partition(".")[0]: program for program, target in programs.items()})
        self._idle: queue.SimpleQueue[Copy] = queue.SimpleQueue()
        for copy in self._copies:
            self._idle.put(copy)
        self._seconds: dict[str, float] = {}
        self.unsound: list[str] = []
        """Test files that fail on the unmodified tree: they judge no mutant."""
        self.results: list[Result] = []

    def measure(self, known: CoverageMap) -> list[str]:
        """Measure which lines each test file runs; return the test files that failed."""
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
        """Run *tests* on the unmodified tree: keep their times for the limits, and set aside those that fail.

        Raises: UnusableError if all fail.
        """

        def checked(test: str, outcome: Outcome) -> str:
            if outcome.passed:
                self._seconds[test] = outcome.seconds
                return f"{outcome.seconds:7.1f} s  {test}"
            self.unsound.append(test)
            return f"{outcome.seconds:7.1f} s  {test}  FAILED, so it judges no mutant:\n{outcome.output[-2000:]}"

        def run(copy: Copy, test: str) -> Outcome:
            outcome = copy.run(test, SOUND_LIMIT_S)
            return outcome if outcome.passed or copy.ended else copy.run(test, SOUND_LIMIT_S)  # as in `_judge`

        self._all("sound", tests, run, checked)
        if not self._seconds:
            raise UnusableError("all tests fail on the unmodified tree, so none can judge a mutant")

    def judge(self, plan: dict[Mutation, list[str]]) -> None:
        """Run each mutation against its tests, without the unsound ones; append to `results`."""

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
            for test in filter(self._seconds.__contains__, tests):
                limit_s = LIMIT_FACTOR * self._seconds[test] + LIMIT_EXTRA_S
                outcome = copy.run(test, limit_s, HANGING)
                spent += outcome.seconds
                failed = outcome.failed_test
                if not outcome.passed and failed:  # a single failure may come from a busy machine
                    outcome = copy.run(failed, limit_s, HANGING)
                    spent += outcome.seconds
                if copy.ended:  # the tests were killed, so they found nothing
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
        report: Callable[[_Task, _Done], str],
    ) -> None:
        """Run all tasks on the idle copies, with a line on stderr for each that is done. Raises: KeyboardInterrupt."""

        def one(task: _Task) -> _Done:
            copy = self._idle.get()
            try:
                if copy.ended:
                    raise KeyboardInterrupt
                return work(copy, task)
            finally:
                self._idle.put(copy)

        with self._interrupts_end_copies(), ThreadPoolExecutor(len(self._copies)) as pool:
            pending = {pool.submit(one, task): task for task in tasks}
            for number, done in enumerate(as_completed(pending), 1):
                line = report(pending[done], done.result())
                print(f"{what} {number}/{len(pending)} {line}", file=sys.stderr, flush=True)
        if self._copies[0].ended:
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def _interrupts_end_copies(self) -> Iterator[None]:
        """End the copies at SIGINT and at any exception, before the pool waits for its threads.

        SIGINT raises nothing meanwhile: while the pool starts a thread, a KeyboardInterrupt makes it lose that thread,
        which then works on in a folder that is being removed.
        """

        def end(*_: object) -> None:
            for copy in self._copies:
                copy.end()

        handler = signal.signal(signal.SIGINT, end)
        try:
            yield
        except BaseException:
            end()
            raise
        finally:
            signal.signal(signal.SIGINT, handler)


def table(results: list[Result]) -> str:
    """Return the table of outcomes by package; the last line is the total."""
    rows: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for result in results:
        rows[str(PurePath(result.mutation.file).parent)][result.outcome] += 1
    total = sum(rows.values(), collections.Counter[str]())
    lines = [f"{'package':32} {'drawn':>6} {'found':>6} {'survived':>9} {'equivalent':>11}"]
    for package, row in [*sorted(rows.items()), ("all", total)]:
        lines.append(f"{package:32} {row.total():6} {row['found']:6} {row['survived']:9} {row['equivalent']:11}")
    return "\n".join(lines)


def share(results: list[Result]) -> float | None:
    """Return the share of found mutations among those not marked equivalent; None if there are none."""
    judged = [result for result in results if result.outcome != "equivalent"]
    return sum(result.outcome == "found" for result in judged) / len(judged) if judged else None


def report(results: list[Result], unsound: list[str], seed: int, drawn: int, as_json: bool) -> int:
    """Print the results; return 0 if enough were found, otherwise 1."""
    results = sorted(results, key=lambda result: (result.mutation.file, result.mutation.line))
    found = share(results)
    cpu_s = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
    if as_json:
        summary = {"seed": seed, "drawn": drawn, "share": found, "enough": ENOUGH, "cpu_s": round(cpu_s, 1)}
        print(
            json.dumps(summary | {"unsound": sorted(set(unsound)), "mutants": [result.as_dict() for result in results]})
        )
    else:
        for result in results:
            if result.outcome == "survived":
                print(
                    f"survived: {result.mutation.file}:{result.mutation.line}: {result.mutation.change}\n{result.diff}"
                )
        print(table(results))
        if unsound:
            print("set aside, because they fail on the unmodified tree:", *sorted(set(unsound)))
        text = "none judged" if found is None else f"{found:.1%} found, {ENOUGH:.0%} are enough"
        print(f"seed {seed}, {len(results)} of {drawn} drawn: {text}; {cpu_s:.0f} s of CPU")
    if found is None:
        raise UnusableError("no mutant was judged")
    return 0 if found >= ENOUGH else 1


def run(options: argparse.Namespace, root: Path) -> int:
    """Run with *options*; return the exit code."""
    mutants = Mutants(root, options.only, options.tests)
    if not mutants.tests:
        raise UnusableError(f"no test file matches --tests {options.tests!r}")
    known = CoverageMap.load(mutants.map_path)
    drawn = mutants.draw(options.count, options.seed)
    earlier, unsound = read_results(options.resume, drawn) if options.resume else ([], [])
    judged = {each.mutation for each in earlier}
    to_judge = [mutation for mutation in drawn if mutation not in judged]
    marked = [Result(mutation, "", "equivalent") for mutation in to_judge if mutants.is_equivalent(mutation)]
    plan = {
        mutation: order(mutation, mutants.sources[mutation.file], mutants.tests, known)
        for mutation in to_judge if not mutants.is_equivalent(mutation)
    }  # fmt: skip
    if options.list and not options.map:
        for mutation in to_judge:
            tests = f"{len(plan[mutation])} test files" if mutation in plan else "equivalent"
            print(f"{mutation.file}:{mutation.line}: {mutation.change} ({tests})")
        return 0
    with tempfile.TemporaryDirectory(prefix="m-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)  # some tests become another user
        runner = Runner(mutants, options.jobs, Path(folder))
        if options.map:
            failed = runner.measure(known)
            print(
                f"measured {len(mutants.tests)} test files, {len(failed)} failed under the tracer",
                *failed,
                sep="\n",
            )
            return 0
        print(f"seed {options.seed}: {len(drawn)} mutations; first their tests on the unmodified tree", file=sys.stderr)
        try:
            runner.check_sound(sorted({test for tests in plan.values() for test in tests}))
            runner.judge(plan)
        except KeyboardInterrupt:
            print("interrupted; results so far:", file=sys.stderr)
            with contextlib.suppress(UnusableError):
                report(
                    [*earlier, *marked, *runner.results],
                    [*unsound, *runner.unsound],
                    options.seed,
                    len(drawn),
                    options.json,
                )
            return INTERRUPTED
        return report(
            [*earlier, *marked, *runner.results], [*unsound, *runner.unsound], options.seed, len(drawn), options.json
        )


def main(arguments: list[str] | None = None, root: Path | None = None) -> int:
    """Return the exit code: 0 enough found, 1 too few, 2 unusable, 130 interrupted."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.mutants", description="Check whether the tests find random mutations of the core."
    )
    parser.add_argument("--count", type=int, default=150, help="number of mutations to draw (150)")
    parser.add_argument("--seed", type=int, help="seed of the draw (default: random, printed)")
    parser.add_argument(
        "--resume", type=Path, metavar="FILE", help="judge only what FILE lacks, the --json of an interrupted run"
    )
    parser.add_argument("--only", default="*", metavar="GLOB", help="mutate only these modules")
    parser.add_argument(
        "--tests", default="*", metavar="GLOB", help="run (or with --map measure) only these test files"
    )
    parser.add_argument("--jobs", type=int, default=2, help="number of copies that run at the same time (2)")
    parser.add_argument("--list", action="store_true", help="list the drawn mutations, run nothing")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--map", action="store_true", help="only measure which tests run which lines")
    options = parser.parse_args(arguments)
    if options.count < 1 or options.jobs < 1:
        parser.error("--count and --jobs must be at least 1")
    if options.seed is None:
        options.seed = random.SystemRandom().randrange(1_000_000)
    try:
        return run(options, root or Path(__file__).resolve().parents[2])
    except (UnusableError, NotACopyError) as exc:
        print(f"mutants: {exc}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return INTERRUPTED


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatch(name, pattern) for pattern in patterns)


def _key(mutation: Mutation) -> tuple[str, str, str]:
    return mutation.file, mutation.source_line, mutation.change


if __name__ == "__main__":
    sys.exit(main())
