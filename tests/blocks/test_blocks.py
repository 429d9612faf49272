"""Every block of code in the documents that can run does run, literally, in a fresh folder, as a reader pastes it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import pytest
import yaml

from tests.blocks.parsing import DATA, ROOT, RUNS, Block, blocks, documents
from tests.processes import wait_until

PROGRAMS = Path(sys.executable).parent
OURS = ("FASTMON_", "SWF_", "ACTIVEMQ_", "MQ_", "PYTHON", "VIRTUAL_ENV")
IN_A_CLONE = ("README.md", "CONTRIBUTING.md")
IN_AN_EMPTY_FOLDER = ("docs/tutorial.md",)
GIVEN = {
    "STF swf.100016.000001.stf has failed": f"""fastmon-daemon purge --run 100015 --include-unfinished --yes || true
{sys.executable} -m tests.blocks.failed_stf swf.100016.000001.stf
until [[ $(fastmon-daemon inspect swf.100016.000001.stf --json) == *'"state": "failed"'* ]]; do sleep 0.2; done
""",
    "a dashboard has kept its state": """kept=~/.local/state/fastmon-dashboard
fastmon-client dashboard --listen 127.0.0.1:0 --state $kept &
until [ -d $kept ]; do sleep 0.2; done
kill $!
""",
}
DEADLINE_S = 600

WITH_BLOCKS = [
    str(document.relative_to(ROOT)) for document in documents() if "```" in document.read_text(encoding="utf-8")
]


@cache
def all_blocks() -> dict[str, list[Block]]:
    """Document -> its blocks."""
    return {str(document.relative_to(ROOT)): list(blocks(document)) for document in documents()}


def test_each_block_names_a_language_that_is_known() -> None:
    languages = {block.place: block.language for found in all_blocks().values() for block in found}
    unknown = {place: language for place, language in languages.items() if language not in DATA | RUNS | {"output"}}
    assert unknown == {}
    assert {block.given for found in all_blocks().values() for block in found} - {""} <= GIVEN.keys()


def test_a_test_that_is_named_as_the_reason_exists() -> None:
    named = {
        name
        for found in all_blocks().values()
        for block in found
        for name in re.findall(r"tests/\S+\.py", block.left_out)
    }
    assert named
    assert {name for name in named if not (ROOT / name).exists()} == set()


@pytest.mark.parametrize("document", WITH_BLOCKS)
def test_data_is_well_formed(document: str) -> None:
    for block in all_blocks()[document]:
        with_place = f"{block.place}\n{block.text}"
        if block.language == "json":
            assert json.loads(block.text) is not None, with_place
        elif block.language == "yaml":
            assert yaml.safe_load(block.text), with_place


@pytest.mark.documents
@pytest.mark.parametrize("document", IN_A_CLONE)
@pytest.mark.timeout(DEADLINE_S)
def test_blocks_run_in_a_clone(document: str, tmp_path: Path) -> None:
    """With the programs that the blocks themselves install."""
    files = subprocess.run(
        ["git", "ls-files", "-z", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    clone = tmp_path / "clone"
    for name in filter(None, files.stdout.split("\0")):
        if (ROOT / name).is_file():  # not one that is deleted and not committed
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, clone / name)
    with stopped_at_the_end(clone):
        passes(run(all_blocks()[document], clone, environment(tmp_path, PATH=os.defpath)))


@pytest.mark.documents
@pytest.mark.parametrize("document", IN_AN_EMPTY_FOLDER)
@pytest.mark.timeout(DEADLINE_S)
def test_blocks_run_in_an_empty_folder(document: str, tmp_path: Path) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    with stopped_at_the_end(folder):
        passes(run(all_blocks()[document], folder, environment(tmp_path)))


@pytest.mark.documents
@pytest.mark.timeout(DEADLINE_S)
def test_blocks_run_beside_a_daemon(tmp_path: Path) -> None:
    """Those of all other documents: a reader has a daemon, whose settings are in the environment, and a run 100014."""
    desk = tmp_path / "desk"
    desk.mkdir()
    others = {name: found for name, found in all_blocks().items() if name not in IN_A_CLONE + IN_AN_EMPTY_FOLDER}
    with stopped_at_the_end(desk), daemon(desk, environment(tmp_path)) as environ:
        problems = []
        for name, found in others.items():
            folder = tmp_path / name
            folder.mkdir(parents=True)
            problems.append(run(found, folder, environ))
    passes("\n".join(filter(None, problems)))


def passes(problem: str) -> None:
    """Fail with the whole text: `assert` would cut it."""
    if problem:
        pytest.fail(problem, pytrace=False)


def environment(tmp_path: Path, **more: str) -> dict[str, str]:
    """As of somebody who has just logged in."""
    inherited = {name: text for name, text in os.environ.items() if not name.startswith(OURS)}
    home = tmp_path / "home"
    home.mkdir()
    return {**inherited, "HOME": str(home), "PATH": f"{PROGRAMS}:{os.environ['PATH']}", **more}


@contextmanager
def daemon(desk: Path, environ: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """A testbed, a daemon, and the complete run 100014; the environment that leads to them."""
    subprocess.run(["fastmon-daemon", "testbed", "--detach"], cwd=desk, env=environ, check=True, capture_output=True)
    settings = dict(line.split("=", 1) for line in (desk / ".env.testbed").read_text().splitlines())
    environ = {
        **environ, **settings, "FASTMON_SELECTION_FRACTION": "1.0", "FASTMON_DB": str(desk / "outbox.db"),
        "FASTMON_HTTP": "9100" if is_free(9100) else "off",
    }  # fmt: skip
    with (desk / "log").open("w") as log:
        process = subprocess.Popen(["fastmon-daemon", "run"], cwd=desk, env=environ, stderr=log)
    try:
        of_others = "daq --run 100016 --stf 1 --namespace others"
        for words in (
            "healthcheck --ready --wait 60",
            "daq --run 100014 --stf 3 --rate 10",
            "verdict 100014 --wait 60",
            of_others,
        ):
            subprocess.run(["fastmon-daemon", *words.split()], cwd=desk, env=environ, check=True, capture_output=True)
        yield environ
    finally:
        process.terminate()
        process.wait(60)


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


@contextmanager
def stopped_at_the_end(folder: Path) -> Iterator[None]:
    """Stop the testbed that was started in *folder*, as its file says."""
    file = folder / ".env.testbed"
    try:
        yield
    finally:
        if file.exists() and (found := re.search(r"^TESTBED_PID=(\d+)$", file.read_text(), re.MULTILINE)):
            os.kill(int(found[1]), signal.SIGTERM)
            wait_until(lambda: not file.exists())


def run(found: list[Block], folder: Path, environ: Mapping[str, str]) -> str:
    """Paste the blocks of one document into one shell, one after the other; what went wrong, or an empty text."""
    wanted = [block for block in found if block.runs]
    script = "".join(
        f"echo; echo '@@ {number}'\n{GIVEN.get(block.given, '')}{as_shell(block)}"
        for number, block in enumerate(wanted)
    )
    printed = folder / "printed"
    with printed.open("w") as output:
        shell = subprocess.Popen(
            ["bash", "-e", "-c", script], cwd=folder, env={**environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
        try:
            code = shell.wait(DEADLINE_S / 2)
        except subprocess.TimeoutExpired:
            code = -1
        finally:
            with suppress(ProcessLookupError):  # the blocks may have left something in the background
                os.killpg(shell.pid, signal.SIGTERM)
            shell.wait()
    parts = re.split(r"^@@ \d+$", printed.read_text(), flags=re.MULTILINE)[1:]
    if code:
        return f"{wanted[len(parts) - 1].place}: exit code {code}\n{parts[-1]}"
    return "\n".join(filter(None, (compare(block, found, parts[number]) for number, block in enumerate(wanted))))


def as_shell(block: Block) -> str:
    """The block as lines of a shell."""
    return block.runnable if block.language == "sh" else f"python3 - <<'END_OF_BLOCK'\n{block.text}END_OF_BLOCK\n"


def compare(block: Block, found: list[Block], printed: str) -> str:
    """What the next block shows as output, and *block* did not print."""
    following = found[found.index(block) + 1 : found.index(block) + 2]
    if not following or following[0].language != "output":
        return ""
    lines = [line.strip() for line in following[0].text.splitlines() if line.strip() not in ("", "...")]
    shown = ".*?".join(".*?".join(map(re.escape, line.split("..."))) for line in lines)
    if re.search(shown, printed, re.DOTALL):
        return ""
    return f"{following[0].place}: not printed:\n{following[0].text}but:\n{printed}"
