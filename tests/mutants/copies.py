"""A copy of the tree with its own virtual environment, in which modules are mutated."""

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
PASSED = (0, 5)  # 5: nothing collected, because the folder needs an option
SENTINEL_CODE = 77
SOUND_LIMIT_S = 1800.0
"""Time limit of a test file on the unmodified tree."""
_mtimes = itertools.count(int(time.time()) + 10)


class NotACopyError(Exception):
    """The copy is not the code that runs, or the tree cannot be copied."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of one test file."""

    code: int | None
    """Exit code of pytest; None after the time limit."""
    seconds: float
    output: str

    @property
    def passed(self) -> bool:
        return self.code in PASSED

    @property
    def failed_test(self) -> str:
        """The failed test, from pytest's short summary; empty if there is none."""
        found = re.search(r"^(?:FAILED|ERROR) (.+?)(?: - |$)", self.output, re.MULTILINE)
        return found[1] if found else ""


def tree_files(root: Path) -> list[str]:
    """List the files of the tree that git tracks or does not ignore, sorted, with slashes."""
    command = ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, capture_output=True, check=True).stdout.decode().split("\0")
    except (OSError, subprocess.CalledProcessError) as exc:
        raise NotACopyError(f"git cannot list {root}: {exc}") from exc
    return sorted(name for name in set(listed) if name and (root / name).is_file())


class Copy:
    """A copy of the tree in the new *folder*, whose path should be short: tests bind Unix sockets below it."""

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
        # The folders named in a .pth file are searched, but .pth files in them are not read: so the copy sees the
        # packages of this environment, but not its editable install of the tree.
        paths = [str(self.tree), *site.getsitepackages()]
        (self.site_packages / "copy.pth").write_text("\n".join(paths) + "\n", encoding="utf-8")
        self._copy_scripts(environment / "bin")
        (folder / "tmp").mkdir()
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "PYTEST", "COVERAGE"))}
        path = f"{environment / 'bin'}{os.pathsep}{kept.get('PATH', os.defpath)}"
        self._environ = kept | {"PATH": path, "VIRTUAL_ENV": str(environment), "TMPDIR": str(folder / "tmp")}

    def _copy_scripts(self, target: Path) -> None:
        """Copy the console scripts of this environment, with the copy's interpreter, and link its other programs."""
        source = Path(sys.executable).parent
        for script in source.iterdir():
            if script.is_file() and not (target / script.name).exists():
                text = script.read_bytes()
                if text.startswith(f"#!{source}/python".encode()):
                    (target / script.name).write_bytes(f"#!{self.python}\n".encode() + text.partition(b"\n")[2])
                    (target / script.name).chmod(0o755)
                elif not text.startswith(b"#!"):
                    (target / script.name).symlink_to(script)

    def check(self, programs: dict[str, str]) -> None:
        """Check that each program (by package) runs the copy: it exits when its package in the copy does.

        Raises: NotACopyError.
        """
        for package, program in programs.items():
            init = f"{package}/__init__.py"
            sound = self.read(init)
            commands = [[str(self.python.parent / program), "--help"], [str(self.python), "-m", package, "--help"]]
            for text, code in ((sound, 0), (f"{sound}\nraise SystemExit({SENTINEL_CODE})\n", SENTINEL_CODE)):
                self.write(init, text)
                for command in commands:  # as tests do: in another folder, with an empty environment
                    done = subprocess.run(command, cwd="/", env={}, capture_output=True, check=False, timeout=120)
                    if done.returncode != code:
                        raise NotACopyError(
                            f"{' '.join(command)} does not run the copy: exit code {done.returncode}, not {code}\n"
                            f"{done.stderr.decode(errors='replace')}"
                        )
            self.write(init, sound)

    def read(self, file: str) -> str:
        """Read a module of the copy."""
        return (self.tree / file).read_text(encoding="utf-8")

    def write(self, file: str, text: str) -> None:
        """Write a module of the copy with a new mtime: Python trusts a .pyc by mtime and size."""
        path = self.tree / file
        path.write_text(text, encoding="utf-8")
        stamp = next(_mtimes)
        os.utime(path, (stamp, stamp))

    def run(self, tests: str, limit_s: float, *options: str) -> Outcome:
        """Run one test file or one test for at most *limit_s*, and leave no process behind."""
        command = [str(self.python), *PYTEST, *options, f"--basetemp={self._folder / 't'}", tests]
        began = time.monotonic()
        log = self._folder / "output"
        with log.open("wb") as output:
            process = subprocess.Popen(
                command, cwd=self.tree, env=self._environ, start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            )  # fmt: skip
            try:
                if self.ended:  # since the caller checked
                    process.kill()
                code = process.wait(limit_s)
            except subprocess.TimeoutExpired:
                code = None
            finally:
                self._kill()
                process.wait()
        return Outcome(code, time.monotonic() - began, log.read_text(encoding="utf-8", errors="replace"))

    def end(self) -> None:
        """Kill the processes of this copy and run no more tests; any thread may call it."""
        self.ended = True
        self._kill()

    def _kill(self) -> None:
        """Kill the tests and the processes that they left: nothing else uses this copy's interpreter."""
        end = time.monotonic() + 10.0
        while self._kill_once() and time.monotonic() < end:
            time.sleep(0.01)  # a killed process may still write for a moment

    def _kill_once(self) -> bool:
        """Kill all processes of this copy; return whether there was one. (A zombie's command line is empty.)"""
        prefix, found = os.fsencode(self.python.parent) + b"/", False
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if (process / "cmdline").read_bytes().startswith(prefix):
                    found = True
                    os.kill(int(process.name), signal.SIGKILL)
        return found
