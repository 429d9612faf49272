"""A copy of the tree with an environment of its own, where a module can be wrong without harm to the tree."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shutil
import signal
import site
import subprocess
import sys
import time
import venv
from dataclasses import dataclass
from pathlib import Path

PYTEST = ("-m", "pytest", "-q", "-x", "-rfE", "-p", "no:cacheprovider", "-p", "no:xdist", "--hypothesis-seed=0")
PASSED = (0, 5)  # 5: nothing collected, as in folders that need an option
SENTINEL_CODE = 77
SOUND_LIMIT_S = 1800.0
"""For a file of tests on a tree that is as it should be."""
_mtimes = itertools.count(int(time.time()) + 10)


class NotACopyError(Exception):
    """What is imported is not what was copied, or the tree cannot be copied."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one file of tests ended."""

    code: int | None
    """None: the time limit was reached."""
    seconds: float
    output: str

    @property
    def passed(self) -> bool:
        return self.code in PASSED

    @property
    def failed_test(self) -> str:
        """The test that failed, by pytest's short summary; empty where it tells of none."""
        found = re.search(r"^(?:FAILED|ERROR) (.+?)(?: - |$)", self.output, re.MULTILINE)
        return found[1] if found else ""


def tree_files(root: Path) -> list[str]:
    """What git knows of the tree, and what is new in it; paths with slashes, in order."""
    command = ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, capture_output=True, check=True).stdout.decode().split("\0")
    except (OSError, subprocess.CalledProcessError) as exc:
        raise NotACopyError(f"git cannot list {root}: {exc}") from exc
    return sorted(name for name in set(listed) if name and (root / name).is_file())


class Copy:
    """The tree in *folder*, which is made and should be short: tests bind Unix sockets below it."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.tree = folder / "tree"
        self._folder = folder
        self.ended = False
        for name in tree_files(root):
            (self.tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, self.tree / name)
        environment = self.tree / ".venv"
        venv.EnvBuilder(symlinks=True).create(environment)
        self.python = environment / "bin" / "python"
        self.site_packages = next((environment / "lib").glob("python*")) / "site-packages"
        # A folder named in a .pth file is searched, but the .pth files in it are not read: so what this environment has
        # is seen, except for its editable install of the tree.
        paths = [str(self.tree), *site.getsitepackages()]
        (self.site_packages / "copy.pth").write_text("\n".join(paths) + "\n", encoding="utf-8")
        self._copy_scripts(environment / "bin")
        (folder / "tmp").mkdir()
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "PYTEST", "COVERAGE"))}
        path = f"{environment / 'bin'}{os.pathsep}{kept.get('PATH', os.defpath)}"
        self._environ = kept | {"PATH": path, "VIRTUAL_ENV": str(environment), "TMPDIR": str(folder / "tmp")}

    def _copy_scripts(self, target: Path) -> None:
        """The console scripts of this environment, begun by the copy's interpreter."""
        source = Path(sys.executable).parent
        for script in source.iterdir():
            if script.is_file() and not (target / script.name).exists():
                text = script.read_bytes()
                if text.startswith(f"#!{source}/python".encode()):
                    (target / script.name).write_bytes(f"#!{self.python}\n".encode() + text.partition(b"\n")[2])
                    (target / script.name).chmod(0o755)

    def check(self, programs: dict[str, str]) -> None:
        """See that each program (by its package) is the copy's: it ends at once when its package in the copy does."""
        for package, program in programs.items():
            init = f"{package}/__init__.py"
            sound = self.read(init)
            commands = [[str(self.python.parent / program), "--help"], [str(self.python), "-m", package, "--help"]]
            for text, code in ((sound, 0), (f"{sound}\nraise SystemExit({SENTINEL_CODE})\n", SENTINEL_CODE)):
                self.write(init, text)
                for command in commands:  # as tests start them: elsewhere, and with next to nothing in the environment
                    told = subprocess.run(command, cwd="/", env={}, capture_output=True, check=False, timeout=120)
                    if told.returncode != code:
                        raise NotACopyError(
                            f"{' '.join(command)} does not run the copy: exit code {told.returncode}, not {code}\n"
                            f"{told.stderr.decode(errors='replace')}"
                        )
            self.write(init, sound)

    def read(self, file: str) -> str:
        """A module of the copy."""
        return (self.tree / file).read_text(encoding="utf-8")

    def write(self, file: str, text: str) -> None:
        """Change a module of the copy, with a time that no version of it had: a .pyc is believed by time and size."""
        path = self.tree / file
        path.write_text(text, encoding="utf-8")
        stamp = next(_mtimes)
        os.utime(path, (stamp, stamp))

    def run(self, tests: str, limit_s: float) -> Outcome:
        """Run one file of tests, or one test of it, in *limit_s* at the most, and leave no process behind."""
        command = [str(self.python), *PYTEST, f"--basetemp={self._folder / 't'}", tests]
        begun = time.monotonic()
        log = self._folder / "output"
        with log.open("wb") as output:
            process = subprocess.Popen(
                command, cwd=self.tree, env=self._environ, start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            )  # fmt: skip
            try:
                if self.ended:  # between the decision to run this and its start
                    process.kill()
                code = process.wait(limit_s)
            except subprocess.TimeoutExpired:
                code = None
            finally:
                self._kill()
                process.wait()
        return Outcome(code, time.monotonic() - begun, log.read_text(encoding="utf-8", errors="replace"))

    def end(self) -> None:
        """Kill what runs of this copy, from any thread; nothing is run any more."""
        self.ended = True
        self._kill()

    def _kill(self) -> None:
        """The tests, and what they started and could not end: nothing else is begun by this copy's interpreter."""
        end = time.monotonic() + 10.0
        while self._kill_once() and time.monotonic() < end:
            time.sleep(0.01)  # a process that was killed may still write for a moment

    def _kill_once(self) -> bool:
        """Kill each process that is left; whether there was one. (A zombie's command line is empty.)"""
        ours, found = os.fsencode(self.python.parent) + b"/", False
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if (process / "cmdline").read_bytes().startswith(ours):
                    found = True
                    os.kill(int(process.name), signal.SIGKILL)
        return found
