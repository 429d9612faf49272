"""`files` writes into an empty place only, and says in one line why it cannot."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from tests.processes import run_in_process

FIRST = ".env.example"


URL = "https://ops.example.org/fastmon"


def files(folder: Path, url: str = URL) -> tuple[int, str]:
    done = run_in_process(("files", str(folder), *(("--runbook-url", url) if url else ())), {"PATH": ""})
    return done.returncode, done.stderr


def test_the_files_are_written_once(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    assert files(folder) == (0, "")
    (folder / FIRST).write_text("mine")
    code, said = files(folder)
    assert (code, said.count("\n")) == (1, 1)
    assert said.startswith(f"fastmon-daemon: {folder / FIRST}: file exists and is not overwritten: ")
    assert (folder / FIRST).read_text() == "mine"


def test_the_alerts_link_to_the_runbook_of_the_operator(tmp_path: Path) -> None:
    assert files(tmp_path / "named") == (0, "")
    rules = yaml.safe_load((tmp_path / "named" / "deploy/prometheus/fastmon.rules.yml").read_text())["groups"][0][
        "rules"
    ]
    chapters = re.findall(r"(?m)^## (.+)", (tmp_path / "named" / "docs" / "runbook.md").read_text())
    links = {rule["annotations"]["runbook_url"] for rule in rules}
    assert links == {f"{URL}#{chapter.lower()}" for chapter in chapters}
    assert (
        "docs.example/fastmon/runbook.html#" not in (tmp_path / "named/deploy/prometheus/fastmon.test.yml").read_text()
    )
    code, said = files(tmp_path / "example", "")
    assert (code, said) == (
        0, "the alerts link to https://docs.example/fastmon/runbook.html, an example: --runbook-url replaces it\n",
    )  # fmt: skip
    for wrong in ("ops.example.org", "https://ops.example.org/a b", "https://ops.example.org/#x"):
        code, said = files(tmp_path / "wrong", wrong)
        assert (code, "expected http(s)://HOST/PATH" in said) == (2, True)


@pytest.mark.parametrize("is_there", [True, False])
def test_a_link_in_place_of_a_file_is_not_followed(tmp_path: Path, is_there: bool) -> None:
    target, folder = tmp_path / "target", tmp_path / "folder"
    folder.mkdir()
    (folder / FIRST).symlink_to(target)
    if is_there:
        target.write_text("of somebody else")
    code, said = files(folder)
    assert (code, "file exists" in said) == (1, True)
    assert not is_there or target.read_text() == "of somebody else"
    assert target.exists() == is_there
    assert [each.name for each in folder.iterdir()] == [FIRST], "nothing else is written, either"


def test_a_folder_that_cannot_be_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / ("x" * 300), tmp_path / "file" / "below", Path("/proc/none")):
        code, said = files(folder)
        assert (code, said.count("\n")) == (1, 1), said
        assert "cannot be written: " in said
