"""`files` writes into an empty place only, and says in one line why it cannot."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.processes import run_in_process

FIRST = ".env.example"


def files(folder: Path) -> tuple[int, str]:
    done = run_in_process(("files", str(folder)), {"PATH": ""})
    return done.returncode, done.stderr


def test_the_files_are_written_once(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    assert files(folder) == (0, "")
    (folder / FIRST).write_text("mine")
    code, said = files(folder)
    assert (code, said.count("\n")) == (1, 1)
    assert said.startswith(f"fastmon-daemon: {folder / FIRST}: file exists and is not overwritten: ")
    assert (folder / FIRST).read_text() == "mine"


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
