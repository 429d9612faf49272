"""The wheel and the sdist, installed into an empty environment and used from another folder; shell completion."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
UV = Path(sys.executable).parent / "uv"
OURS = ("FASTMON_", "SWF_", "ACTIVEMQ_", "MQ_", "PYTHON", "VIRTUAL_ENV")
INHERITED = {name: text for name, text in os.environ.items() if not name.startswith(OURS)}
"""With what tells uv where packages are, without settings of ours."""


def call(*words: str | Path, cwd: Path, **environ: str) -> str:
    done = subprocess.run(
        words, cwd=cwd, capture_output=True, text=True, timeout=100, check=False,
        env=INHERITED | environ,
    )  # fmt: skip
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.mark.timeout(400)
def test_the_wheel_runs_in_an_empty_environment_from_another_folder(tmp_path: Path) -> None:
    call(UV, "build", "--quiet", "--out-dir", tmp_path / "dist", ROOT, cwd=tmp_path)
    (sdist,), (wheel,) = (tmp_path / "dist").glob("*.tar.gz"), (tmp_path / "dist").glob("*.whl")
    with tarfile.open(sdist) as archive:
        assert {"statecharts/stf.yaml", "systemd/fastmon-daemon.service", ".env.example"} <= {
            name.partition("/")[2] for name in archive.getnames()
        }
    venv = tmp_path / "venv"
    call(UV, "venv", "--quiet", "--python", sys.executable, venv, cwd=tmp_path)
    install = [UV, "pip", "install", "--quiet", "--python", venv / "bin" / "python"]
    call(*install, "-c", ROOT / "constraints.txt", wheel, cwd=tmp_path)
    program, elsewhere = venv / "bin" / "fastmon-daemon", tmp_path / "elsewhere"
    elsewhere.mkdir()
    environ = {"FASTMON_NAMESPACE": "ns", "HOME": str(elsewhere), "FASTMON_NOTIFY": "off"}
    assert "stateDiagram" in call(program, "diagram", cwd=elsewhere, **environ)
    call(program, "files", "out", cwd=elsewhere, **environ)
    written = {str(path.relative_to(elsewhere / "out")) for path in (elsewhere / "out").rglob("*") if path.is_file()}
    shipped = (each for name in ("systemd", "deploy", "docs/schemas") for each in (ROOT / name).rglob("*"))
    in_repository = {str(each.relative_to(ROOT)) for each in shipped if each.is_file()}
    assert written == in_repository | {".env.example"}
    unit = (elsewhere / "out/systemd/fastmon-daemon.service").read_text()
    assert f"ExecStart={program} run\n" in unit
    schema = call(program, "schema", "stf_ready", cwd=elsewhere, **environ)
    assert schema == (ROOT / "docs" / "schemas" / "stf_ready.json").read_text(encoding="utf-8")
    (read,) = re.findall(r"```python\n(import importlib.*?)```", (ROOT / "docs" / "messages.md").read_text(), re.DOTALL)
    shown = call(venv / "bin" / "python", "-c", f"{read}\nprint(schema['title'])", cwd=elsewhere, **environ)
    assert shown == "A TF file is registered with the monitor\n"
    again = subprocess.run([program, "files", "out"], cwd=elsewhere, capture_output=True, text=True, check=False)
    assert (again.returncode, again.stderr.count("file exists")) == (1, 1)
    call(venv / "bin" / "fastmon-client", "version", cwd=elsewhere, **environ)
    daemon = subprocess.Popen([program, "run", "--db", "outbox.db"], cwd=elsewhere, env=INHERITED | environ)
    try:
        call("sh", "-c", "until test -S outbox.db.sock; do sleep 0.1; done", cwd=elsewhere)
        assert "alive" in call(program, "healthcheck", "--db", "outbox.db", cwd=elsewhere, **environ)
    finally:
        daemon.terminate()
        assert daemon.wait(60) == 0


@pytest.mark.timeout(400)
def test_the_single_file_runs_with_python_only(tmp_path: Path) -> None:
    """The commands of `make dist`, in another folder."""
    recipe = (ROOT / "Makefile").read_text().partition("\ndist:")[2].partition("\n\n")[0]
    lines = [line.strip() for line in recipe.replace("\\\n", " ").splitlines()[1:]]
    script = "\n".join(lines).replace("$(BIN)", str(UV.parent)).replace("--out-dir dist .", f"--out-dir dist {ROOT}")
    call("sh", "-ec", script.replace("requirements.txt", f"{ROOT}/requirements.txt"), cwd=tmp_path)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    words = [sys.executable, "-I", "-S", str(tmp_path / "dist/fastmon-daemon.pyz")]
    shown = subprocess.run(
        [*words, "diagram"], cwd=elsewhere, env={"HOME": str(elsewhere), "PATH": "/usr/bin:/bin"}, capture_output=True,
        text=True, timeout=100, check=False,
    )  # fmt: skip
    assert "stateDiagram" in shown.stdout, shown.stderr


COMPLETE = {
    "bash": 'source "$1"; COMP_WORDS=(fastmon-daemon rep); COMP_CWORD=1; _fastmon_daemon_completion fastmon-daemon; '
            'echo "${COMPREPLY[@]}"',
    "zsh": 'autoload -U compinit; compinit -u; source "$1"; print ${_comps[fastmon-daemon]}',
    "fish": 'source $argv[1]; complete -C "fastmon-daemon rep"',
}  # fmt: skip


@pytest.mark.parametrize("shell", COMPLETE)
def test_a_shell_completes_commands(tmp_path: Path, shell: str) -> None:
    programs = str(Path(sys.executable).parent)
    script = tmp_path / "script"
    script.write_text(call(f"{programs}/fastmon-daemon", "completion", shell, cwd=tmp_path))
    assert "fastmon-daemon" in script.read_text()
    found = shutil.which(shell)
    if found is None:
        pytest.skip(f"{shell} is not on this machine")
    words = [found, "-c", COMPLETE[shell], *([] if shell == "fish" else [shell]), str(script)]
    shown = call(*words, cwd=tmp_path, PATH=f"{programs}:{os.environ['PATH']}", HOME=str(tmp_path))
    assert ("_fastmon_daemon_completion" if shell == "zsh" else "report") in shown
