"""Wheel, sdist and the single file, installed into empty environments and used from another folder."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from tests.packaging.environments import INHERITED, ROOT, UV, build, call, installed
from tests.processes import wait_until

SETTINGS = {"FASTMON_NAMESPACE": "ns", "FASTMON_NOTIFY": "off"}
SHIPPED = {".env.example", "docs/runbook.md"} | {
    str(each.relative_to(ROOT))
    for folder in ("systemd", "deploy", "man", "docs/schemas")
    for each in (ROOT / folder).rglob("*")
    if each.is_file()
}
EXTRAS = {"testbed": ("starlette", "uvicorn", "httptools"), "dashboard": ("starlette", "uvicorn"), "svg": ("mermaidx",)}

pytestmark = [pytest.mark.timeout(400), pytest.mark.xdist_group("packaging")]  # one worker builds, once


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return build(tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def programs(built: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of the wheel without extras."""
    return installed(tmp_path_factory.mktemp("wheel") / "venv", built[1])


@contextmanager
def running(*words: str | Path, cwd: Path) -> Iterator[subprocess.Popen[bytes]]:
    with (cwd / "log").open("wb") as log:
        process = subprocess.Popen(
            words, cwd=cwd, env=INHERITED | {"HOME": str(cwd)} | SETTINGS, stdout=log, stderr=log
        )
    try:
        yield process
    finally:
        process.terminate()
        assert process.wait(60) == 0, (cwd / "log").read_text()


def test_the_wheel_runs_from_another_folder(programs: Path, tmp_path: Path) -> None:
    daemon = programs / "fastmon-daemon"
    assert "stateDiagram" in call(daemon, "diagram", cwd=tmp_path)
    call(programs / "fastmon-client", "version", cwd=tmp_path)
    with running(daemon, "run", "--db", "outbox.db", cwd=tmp_path):
        wait_until((tmp_path / "outbox.db.sock").exists, "the daemon is ready")
        assert "alive" in call(daemon, "healthcheck", "--db", "outbox.db", cwd=tmp_path, **SETTINGS)


def test_what_an_installation_needs_is_written_out(programs: Path, tmp_path: Path) -> None:
    call(programs / "fastmon-daemon", "files", "out", cwd=tmp_path)
    out = tmp_path / "out"
    assert {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()} == SHIPPED
    for unit in (out / "systemd").glob("*.service"):
        assert re.search(rf"(?m)^ExecStart={programs}/fastmon-(daemon run|client dashboard .*)$", unit.read_text())
    assert f"command={programs}/fastmon-daemon run\n" in (out / "systemd/supervisord-fastmon.conf").read_text()
    assert "file exists" in call(programs / "fastmon-daemon", "files", "out", cwd=tmp_path, code=1)
    for page in (ROOT / "man").iterdir():  # where `man` finds it
        assert (programs.parent / "share/man/man1" / page.name).read_text() == page.read_text()


def test_programs_find_the_schemas_of_the_messages(programs: Path, tmp_path: Path) -> None:
    schema = call(programs / "fastmon-daemon", "schema", "stf_ready", cwd=tmp_path)
    assert schema == (ROOT / "docs" / "schemas" / "stf_ready.json").read_text(encoding="utf-8")
    (read,) = re.findall(r"```python\n(import importlib.*?)```", (ROOT / "docs" / "messages.md").read_text(), re.DOTALL)
    shown = call(programs / "python", "-c", f"{read}\nprint(schema['title'])", cwd=tmp_path)
    assert shown == "A TF file is registered with the monitor\n"


def test_the_sdist_has_all_that_the_wheel_needs(built: tuple[Path, Path], tmp_path: Path) -> None:
    with tarfile.open(built[0]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert names >= SHIPPED | {"statecharts/stf.yaml", "constraints.txt", "Makefile"}
    daemon = installed(tmp_path / "venv", built[0]) / "fastmon-daemon"
    assert "stateDiagram" in call(daemon, "diagram", cwd=tmp_path)
    call(daemon, "files", "out", cwd=tmp_path)


@pytest.mark.parametrize("extra", EXTRAS)
def test_an_extra_brings_what_its_commands_need(
    built: tuple[Path, Path], programs: Path, tmp_path: Path, extra: str
) -> None:
    words = {
        "testbed": ("fastmon-daemon", "testbed", "--env-file", "env"),
        "dashboard": ("fastmon-client", "dashboard", "--listen", "127.0.0.1:0"),
        "svg": ("fastmon-daemon", "diagram", "--format", "svg"),
    }[extra]
    assert f"pip install '.[{extra}]'" in call(programs / words[0], *words[1:], cwd=tmp_path, code=1)
    own = installed(tmp_path / "venv", f"{built[1]}[{extra}]")
    found = call(own / "python", "-c", "import importlib.metadata as m; print(*(d.name for d in m.distributions()))",
                 cwd=tmp_path)  # fmt: skip
    assert set(EXTRAS[extra]) <= set(found.split())
    if extra == "svg":
        assert "<svg" in call(own / words[0], *words[1:], cwd=tmp_path)
        return
    with running(own / words[0], *words[1:], cwd=tmp_path):
        if extra == "testbed":
            wait_until((tmp_path / "env").exists, "broker and monitor are ready")
        else:
            wait_until(lambda: page_of(tmp_path), "the page is served")
            assert requests.get(f"{page_of(tmp_path)}/livez", timeout=20).status_code == 200


def page_of(folder: Path) -> str:
    """Return the address that a dashboard has logged."""
    found = re.search(r"http://127\.0\.0\.1:\d+", (folder / "log").read_text())
    return found[0] if found else ""


def test_the_single_file_runs_with_python_only(tmp_path: Path) -> None:
    """The commands of `make dist`, in another folder."""
    recipe = (ROOT / "Makefile").read_text().partition("\ndist:")[2].partition("\n\n")[0]
    lines = [line.strip() for line in recipe.replace("\\\n", " ").splitlines()[1:]]
    script = "\n".join(lines).replace("$(BIN)", str(UV.parent)).replace("--out-dir dist .", f"--out-dir dist {ROOT}")
    script = script.replace("requirements.txt", f"{ROOT}/requirements.txt")
    call("sh", "-ec", script, cwd=tmp_path, HOME=INHERITED.get("HOME", ""))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    words = [sys.executable, "-I", "-S", str(tmp_path / "dist/fastmon-daemon.pyz")]
    shown = subprocess.run(
        [*words, "diagram"], cwd=elsewhere, env={"HOME": str(elsewhere), "PATH": "/usr/bin:/bin"}, capture_output=True,
        text=True, timeout=100, check=False,
    )  # fmt: skip
    assert "stateDiagram" in shown.stdout, shown.stderr
