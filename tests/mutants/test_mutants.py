from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.mutants.__main__ import INTERRUPTED, Mutants, main
from tests.mutants.copies import Copy, NotACopyError
from tests.mutants.mutating import sites
from tests.mutants.selecting import CoverageMap, Measured, order

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git lists the files to copy")

SMALL = """def larger(first, second):
    return first if first > second else second
"""
PROGRAM = """import sys
from fastmon_daemon.small import larger

def main():
    if "--help" not in sys.argv:
        print(larger(1, 2))
"""
PROJECT = """[project.scripts]
fastmon-daemon = "fastmon_daemon.cli:main"
[tool.pytest.ini_options]
filterwarnings = ["error"]
"""
GOOD_TEST = """from fastmon_daemon.small import larger
def test_larger():
    assert [larger(1, 2), larger(3, 2)] == [2, 3]
"""
BLIND_TEST = """from fastmon_daemon.small import larger
def test_larger():
    larger(1, 2)
"""
CHILD_TEST = """import subprocess, sys
def test_child(tmp_path):
    command = [sys.executable, "-m", "fastmon_daemon"]
    done = subprocess.run(command, cwd=tmp_path, env={}, capture_output=True, check=True)
    assert done.stdout == b"2\\n"
"""
LARGER_OR_EQUAL = """fastmon_daemon/small.py
return first if first > second else second
first > second -> first >= second
"""


def tree(root: Path, **tests: str) -> Path:
    files = {
        "pyproject.toml": PROJECT, "fastmon_daemon/__init__.py": "", "fastmon_daemon/small.py": SMALL,
        "fastmon_daemon/cli.py": PROGRAM, "fastmon_daemon/__main__.py": "from fastmon_daemon.cli import main\nmain()\n",
        **{f"tests/{name}.py": text for name, text in tests.items()},
    }  # fmt: skip
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    return root


def equivalent(root: Path, text: str) -> None:
    folder = root / "tests" / "mutants"
    folder.mkdir(exist_ok=True)
    (folder / "equivalent.txt").write_text(text)


def text_of(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:  # the process has ended
        return ""


def printed_json(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    return dict(json.loads(capsys.readouterr().out))


def changes(source: str) -> set[str]:
    return {mutation.change for site in sites("m.py", source) for mutation in site}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("a < b", {"a < b -> a <= b"}),
        ("a == b != c", {"a == b != c -> a != b != c", "a == b != c -> a == b == c"}),
        ("a not in b", {"a not in b -> a in b"}),
        ("a is b", {"a is b -> a is not b"}),
        ("a and (b or c)", {
            "a and (b or c) -> a or (b or c)", "a and (b or c) -> (b or c)", "a and (b or c) -> a",
            "b or c -> b and c", "b or c -> b", "b or c -> c",
        }),
        ("not a", {"not a -> (a)"}),
        ("if a: b", {"a -> not (a)", "a -> True", "a -> False"}),
        ("while a: b", {"a -> not (a)", "a -> False"}),
        ("b if a else c", {"a -> not (a)"}),
        ("[b for b in c if a]", {"a -> (not (a))"}),
        ("a + b", {"a + b -> a - b"}),
        ("a /b**c", {"a /b**c -> a *b**c", "b**c -> (b*c)"}),
        ("a -= b", {"a -= b -> a += b"}),
        ("a = -1.5", {"1.5 -> 2.5", "1.5 -> 0.5"}),
        ("a = 0", {"0 -> 1", "0 -> (-1)"}),
        ("def f(): return a", {"a -> None"}),
        ("def f(): return False", {"False -> True"}),
        ("if not a: b", {"not a -> (a)", "not a -> True", "not a -> False"}),
        ("def f(): a.b(c)", {"a.b(c) -> pass"}),
        ("def f(): a = b()", {"a = b() -> pass"}),
        ("for a in b: break", {"break -> continue"}),
        ("for a in b: continue", {"continue -> break"}),
        ("def f(a=True, *, b='x', c=None): d", {"True -> False", "'x' -> ''"}),
        ("class A:\n    b: bool = False", {"False -> True"}),
        ("try: a\nexcept (B, C): d", {"(B, C) -> (C,)", "(B, C) -> (B,)"}),
        ("try: a\nexcept B: d", {"B -> ()"}),
    ],
)  # fmt: skip
def test_each_kind_of_mutation(source: str, expected: set[str]) -> None:
    assert changes(source) == expected


@pytest.mark.parametrize(
    "source",
    [
        '"""1 < 2"""',
        "def f(a: Literal[1] = b) -> Literal[2]: c",
        "__all__ = [a + b]",
        "def f(): logger.opt(depth=1).warning(a + b)",
        "assert a < b",
        "f'{a + 1}'",
        "if TYPE_CHECKING: a + b",
        "a = dict[str, b] | None",
        "isinstance(a, int | Path)",
        "while True: a",
        "folder / 'name' + f'{a}'",
        "def f(): return None",
    ],
)
def test_inert_places_are_not_mutated(source: str) -> None:
    assert changes(source) == set()


def test_a_mutation_changes_only_its_piece_of_text() -> None:
    source = "é = ('ü' <  # not < but\n    b)\n"
    [[mutation]] = sites("m.py", source)
    assert mutation.apply(source) == "é = ('ü' <=  # not < but\n    b)\n"
    assert (mutation.line, mutation.source_line) == (1, "é = ('ü' <  # not < but")
    assert mutation.diff(source) == (
        "--- a/m.py\n+++ b/m.py\n@@ -1,2 +1,2 @@\n-é = ('ü' <  # not < but\n+é = ('ü' <=  # not < but\n     b)\n"
    )


def test_a_hanging_mutant_is_killed_and_has_not_passed(tmp_path: Path) -> None:
    root = tree(tmp_path / "root", test_it="import time\ndef test_it():\n    time.sleep(600)\n")
    copy = Copy(root, tmp_path / "copy")
    outcome = copy.run("tests/test_it.py", 0.5)
    assert outcome.code is None
    assert not outcome.passed


def test_a_program_outside_the_copy_is_rejected(tmp_path: Path) -> None:
    root = tree(tmp_path / "root")
    shutil.copytree(root / "fastmon_daemon", root / "fastmon_aside")
    copy = Copy(root, tmp_path / "copy")
    copy.check({"fastmon_daemon": "fastmon-daemon"})
    with pytest.raises(NotACopyError, match="fastmon-daemon --help does not run the copy"):
        copy.check({"fastmon_aside": "fastmon-daemon"})


def test_a_seed_repeats_its_draw_and_draws_each_place_once(tmp_path: Path) -> None:
    mutants = Mutants(tree(tmp_path, test_small=GOOD_TEST))
    assert mutants.draw(2, 7) == mutants.draw(2, 7)
    assert len({mutants.draw(1, seed)[0] for seed in range(50)}) == 3  # comparison, choice, return
    assert {mutation.file for mutation in mutants.draw(150, 1)} == {"fastmon_daemon/small.py"}  # cli.py is not core


def test_a_mutant_that_no_test_finds_survives(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tree(tmp_path, test_small=BLIND_TEST)
    assert main(["--count", "2", "--seed", "1", "--jobs", "1", "--json"], root) == 1
    report = printed_json(capsys)
    assert [mutant["outcome"] for mutant in report["mutants"]] == ["survived", "survived"]
    assert report["share"] == 0
    assert all("\n-    return first if first > second else second\n" in mutant["diff"] for mutant in report["mutants"])
    assert (root / "fastmon_daemon" / "small.py").read_text() == SMALL


def test_an_interrupted_run_is_resumed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tree(tmp_path / "root", test_small=GOOD_TEST)
    assert main(["--count", "3", "--seed", "1", "--jobs", "1", "--json"], root) == 1
    whole = printed_json(capsys)
    part = tmp_path / "part.json"
    judged = {**whole["mutants"][0], "by": "an earlier run"}
    part.write_text(json.dumps(whole | {"mutants": [judged], "unsound": ["tests/test_aside.py"]}))
    assert main(["--count", "3", "--seed", "1", "--jobs", "1", "--json", "--resume", str(part)], root) == 1
    report = printed_json(capsys)
    resumed = report["mutants"]
    assert report["unsound"] == ["tests/test_aside.py"]
    same = ("begin", "change", "outcome", "diff")
    assert [[each[name] for name in same] for each in resumed] == [
        [each[name] for name in same] for each in whole["mutants"]
    ]
    assert [each["by"] == "an earlier run" for each in resumed] == [True, False, False]
    assert main(["--count", "1", "--seed", "2", "--jobs", "1", "--resume", str(tmp_path / "none")], root) == 2
    assert "no results of this draw: give the --seed of that run, on the same tree" in capsys.readouterr().err


@pytest.mark.parametrize("fails_at", ["x", "xx"])
def test_a_test_that_fails_only_once_finds_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], fails_at: str
) -> None:
    runs = tmp_path / "runs"
    runs.write_text("")
    flaky = f"""from pathlib import Path
def test_flaky():
    runs = Path({str(runs)!r})
    runs.write_text(runs.read_text() + "x")
    assert runs.read_text() != {fails_at!r}
"""
    root = tree(tmp_path / "root", test_small=flaky)
    assert main(["--count", "1", "--seed", "1", "--jobs", "1", "--json"], root) == 1
    assert [mutant["outcome"] for mutant in printed_json(capsys)["mutants"]] == ["survived"]
    assert runs.read_text() == "xxx"  # on the unmodified tree, on the mutant, and once more because it failed


def test_enough_found_mutants_are_a_success_and_child_processes_run_the_mutant(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tree(tmp_path, test_program=CHILD_TEST)
    equivalent(root, f"# a comment\n\n{LARGER_OR_EQUAL}equal numbers are the same\n")
    assert main(["--count", "3", "--seed", "2", "--jobs", "1", "--json"], root) == 0
    outcomes = [(mutant["outcome"], mutant["by"]) for mutant in printed_json(capsys)["mutants"]]
    assert sorted(outcomes) == [
        ("equivalent", ""),
        ("found", "tests/test_program.py::test_child"),
        ("found", "tests/test_program.py::test_child"),
    ]


def test_tests_that_fail_on_the_unmodified_tree_judge_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = GOOD_TEST.replace("[2, 3]", "[3, 2]")
    root = tree(tmp_path, test_blind=BLIND_TEST, test_wrong=wrong)
    assert main(["--count", "1", "--seed", "1", "--jobs", "1", "--json"], root) == 1
    printed = printed_json(capsys)
    assert [mutant["outcome"] for mutant in printed["mutants"]] == ["survived"]
    assert printed["unsound"] == ["tests/test_wrong.py"]


def test_if_no_test_passes_on_the_unmodified_tree_the_run_is_unusable(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tree(tmp_path, test_small=GOOD_TEST.replace("[2, 3]", "[3, 2]"))
    assert main(["--count", "1", "--jobs", "1"], root) == 2
    assert "all tests fail on the unmodified tree" in capsys.readouterr().err


def test_another_user_can_run_the_copy_and_other_programs_are_in_it(tmp_path: Path) -> None:
    other_user = """import pathlib, subprocess, sys
def test_other_user():
    assert all(folder.stat().st_mode & 0o005 == 0o005 for folder in pathlib.Path(__file__).parents[:4])
    subprocess.run([pathlib.Path(sys.executable).parent / "ruff", "--version"], check=True)
"""
    root = tree(tmp_path, test_other_user=other_user)
    assert main(["--count", "1", "--seed", "1", "--jobs", "1"], root) == 1  # 1: judged, and survived


@pytest.mark.parametrize(
    ("text", "word"),
    [(LARGER_OR_EQUAL, "four lines"), (LARGER_OR_EQUAL.replace(">=", "<=") + "a reason\n", "stale")],
)
def test_an_invalid_list_of_equivalents_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, word: str
) -> None:
    root = tree(tmp_path, test_small=GOOD_TEST)
    equivalent(root, text)
    assert main(["--list"], root) == 2
    assert word in capsys.readouterr().err


def test_nothing_to_mutate_is_an_error(tmp_path: Path) -> None:
    assert main(["--only", "no/such/*"], tree(tmp_path, test_small=GOOD_TEST)) == 2


def test_the_map_includes_child_processes(tmp_path: Path) -> None:
    root = tree(tmp_path, test_aside="def test_aside():\n    pass\n", test_far=CHILD_TEST, test_small=GOOD_TEST)
    assert main(["--map", "--jobs", "1"], root) == 0
    mutants = Mutants(root)
    known = CoverageMap.load(mutants.map_path)
    mutation = mutants.draw(1, 1)[0]
    assert set(order(mutation, SMALL, mutants.tests, known)) == {"tests/test_far.py", "tests/test_small.py"}
    assert known.lines["tests/test_far.py"]["fastmon_daemon/small.py"][1] == [1, 2]


def test_a_line_of_a_changed_module_is_tried_with_all_tests_that_use_the_module(tmp_path: Path) -> None:
    mutants = Mutants(tree(tmp_path, test_aside=GOOD_TEST, test_small=GOOD_TEST))
    known = CoverageMap()
    for test, line in zip(mutants.tests, (2, 99), strict=True):
        known.put(test, Measured(True, 1.0, {"fastmon_daemon/small.py": ("of another text", [1, line])}))
    mutation = mutants.draw(1, 1)[0]
    assert order(mutation, SMALL, mutants.tests, known) == ["tests/test_aside.py"]


def test_without_a_map_tests_with_the_module_s_name_come_first(tmp_path: Path) -> None:
    mutants = Mutants(tree(tmp_path, test_aside=GOOD_TEST, test_small=GOOD_TEST))
    mutation = mutants.draw(1, 1)[0]
    assert order(mutation, SMALL, mutants.tests, CoverageMap()) == ["tests/test_small.py", "tests/test_aside.py"]


HANGING_TEST = """from fastmon_daemon.small import larger
import time
def test_it():
    if larger(1, 2) != 2:
        print('hangs')
        time.sleep(600)
"""
WRITING_TEST = """import os, time
from pathlib import Path
def test_it():
    folder = Path(os.environ["TMPDIR"])
    for number in range(300):
        (folder / f"written-{number}").mkdir(parents=True)
        time.sleep(0.01)
"""
INTERRUPT_IN_THREAD_START = """
import os, signal, threading, time
from pathlib import Path
start = threading.Thread.start
def start_and_interrupt(thread):
    start(thread)
    while not list(Path(os.environ["TMPDIR"]).rglob("written-*")):
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGINT)
threading.Thread.start = start_and_interrupt
"""


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    """TMPDIR of `interruptible`."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


def interruptible(root: Path, scratch: Path, prelude: str = "") -> subprocess.Popen[str]:
    """`python -m tests.mutants` on *root*, as a child process."""
    program = f"{prelude}\nfrom tests.mutants.__main__ import *; sys.exit(main(sys.argv[1:], Path({str(root)!r})))"
    return subprocess.Popen(
        [sys.executable, "-c", program, "--count", "3", "--seed", "2", "--jobs", "1"],
        cwd=Path(__file__).parents[2], env=os.environ | {"TMPDIR": str(scratch)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def assert_nothing_is_left(scratch: Path) -> None:
    assert not list(scratch.iterdir())
    assert not [process for process in Path("/proc").glob("[0-9]*/cmdline") if str(scratch) in text_of(process)]


def test_an_interrupt_reports_the_results_so_far_and_leaves_nothing_behind(tmp_path: Path, scratch: Path) -> None:
    root = tree(tmp_path, test_small=HANGING_TEST)
    equivalent(root, f"{LARGER_OR_EQUAL}equal numbers are the same\n")
    with interruptible(root, scratch) as child:
        assert child.stderr is not None
        assert any("sound 1/1" in line for line in child.stderr)
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=60)
    assert child.returncode == INTERRUPTED
    assert "results so far" in err
    assert "1 of 3 drawn: none judged" in out
    assert_nothing_is_left(scratch)


def test_an_interrupt_while_a_worker_thread_starts_leaves_nothing_behind(tmp_path: Path, scratch: Path) -> None:
    root = tree(tmp_path, test_small=WRITING_TEST)
    with interruptible(root, scratch, INTERRUPT_IN_THREAD_START) as child:
        _, err = child.communicate(timeout=60)
    assert (child.returncode, "results so far" in err) == (INTERRUPTED, True), err
    assert_nothing_is_left(scratch)
