"""Completion in the shells of Debian, and the manual pages."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.client.terminal import Terminal
from tests.packaging.environments import ROOT, call
from tests.tools import needs

PROGRAMS = Path(sys.executable).parent
WANTED = {"fastmon-daemon": ("rep", "report"), "fastmon-client": ("sta", "start")}
"""Program -> the beginning of a command, and one that it may become."""
BASH = 'source "$1"; COMP_WORDS=("$2" "$3"); COMP_CWORD=1; "_${2//-/_}_completion" "$2"; echo "${COMPREPLY[@]}"'
MANUALS = sorted((ROOT / "man").glob("*.1"))


@pytest.fixture(params=WANTED)
def program(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def script(program: str, shell: str, folder: Path) -> Path:
    path = folder / f"_{program}"
    path.write_text(call(PROGRAMS / program, "completion", shell, cwd=folder))
    return path


def environment(folder: Path) -> dict[str, str]:
    return {"PATH": f"{PROGRAMS}:{os.environ['PATH']}", "HOME": str(folder)}


def test_bash_completes_a_command(program: str, tmp_path: Path) -> None:
    begin, command = WANTED[program]
    words = ("bash", "--norc", "-c", BASH, "bash", script(program, "bash", tmp_path), program, begin)
    assert command in call(*words, cwd=tmp_path, **environment(tmp_path)).split()


@needs("fish")
def test_fish_completes_a_command(program: str, tmp_path: Path) -> None:
    begin, command = WANTED[program]
    text = f"source {script(program, 'fish', tmp_path)}; complete -C '{program} {begin}'"
    found = call("fish", "--no-config", "-c", text, cwd=tmp_path, **environment(tmp_path))
    assert command in [line.partition("\t")[0] for line in found.splitlines()]


@needs("zsh")
def test_zsh_completes_a_command(program: str, tmp_path: Path) -> None:
    """From a folder of $fpath, as its help says, and with the key of a user: zsh completes only in its line editor."""
    begin, command = WANTED[program]
    script(program, "zsh", tmp_path)
    (tmp_path / ".zshrc").write_text(f"fpath=({tmp_path} $fpath); autoload -U compinit; compinit -u; PS1='READY '\n")
    with Terminal("-i", of=("zsh",), **environment(tmp_path)) as terminal:
        terminal.wait_for("READY")
        terminal.type(f"{program} {begin}\t")
        terminal.wait_for(lambda lines: any(re.search(rf"\b{command}\b", line) for line in lines))


@needs("mandoc")
@pytest.mark.parametrize("page", MANUALS, ids=lambda page: page.name)
def test_a_manual_page_is_well_formed(page: Path) -> None:
    said = subprocess.run(["mandoc", "-T", "lint", "-W", "warning", page], capture_output=True, text=True, check=False)
    problems = [line for line in (said.stdout + said.stderr).splitlines() if "missing date" not in line]
    assert problems == []


@needs("man")
@pytest.mark.parametrize("page", MANUALS, ids=lambda page: page.name)
def test_man_shows_every_command_and_option_without_a_warning(page: Path, tmp_path: Path) -> None:
    program = page.name.partition(".")[0]
    text = ("env", "MANROFFOPT=-ww", "MANWIDTH=100", "LC_ALL=C.UTF-8", "man", "--warnings=w", "-l", page)
    done = subprocess.run(text, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    shown = re.sub(".\b", "", done.stdout)
    commands = re.findall(
        r"(?m)^  ([a-z]\w+) ", call(PROGRAMS / program, "--help", cwd=tmp_path).partition("Commands:")[2]
    )
    assert len(commands) > 5
    for command in commands:
        assert f"   {program} {command} " in shown
        options = re.findall(r"--[a-z][a-z-]+", call(PROGRAMS / program, command, "--help", cwd=tmp_path))
        assert all(option in shown for option in options)
