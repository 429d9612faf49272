"""Virtual environments in which a test installs the built package, and calls in them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
UV = Path(sys.executable).parent / "uv"
_OURS = ("FASTMON_", "SWF_", "ACTIVEMQ_", "MQ_", "PYTHON", "VIRTUAL_ENV")
INHERITED = {name: text for name, text in os.environ.items() if not name.startswith(_OURS)}
"""With what tells uv where packages are, without settings of ours."""


def call(*words: str | Path, cwd: Path, code: int = 0, **environ: str) -> str:
    """Run a program in *cwd*; it must exit with *code*. Returns its stdout, for another code its stderr."""
    done = subprocess.run(
        words, cwd=cwd, capture_output=True, text=True, timeout=100, check=False,
        env=INHERITED | {"HOME": str(cwd)} | environ,
    )  # fmt: skip
    assert done.returncode == code, f"{words}: {done.stdout}{done.stderr}"
    return done.stderr if code else done.stdout


def build(folder: Path) -> tuple[Path, Path]:
    """Build the package into *folder*; return sdist and wheel."""
    call(UV, "build", "--quiet", "--out-dir", folder, ROOT, cwd=ROOT, HOME=INHERITED.get("HOME", ""))
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return sdist, wheel


def installed(folder: Path, package: str | Path) -> Path:
    """Make an empty environment in *folder*, install *package* into it, and return its folder of programs."""
    home = INHERITED.get("HOME", "")
    call(UV, "venv", "--quiet", "--python", sys.executable, folder, cwd=ROOT, HOME=home)
    constraints = ROOT / "constraints.txt"
    words = (UV, "pip", "install", "--quiet", "--python", folder / "bin/python", "-c", constraints, package)
    call(*words, cwd=ROOT, HOME=home)
    return folder / "bin"
