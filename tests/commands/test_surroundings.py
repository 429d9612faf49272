"""Surroundings that a command may meet: no home folder, no user of that number, a working folder that was deleted."""

from __future__ import annotations

import pwd
from collections.abc import Sequence
from contextlib import chdir
from pathlib import Path

import pytest

from fastmon_daemon.outbox import open_outbox
from tests.processes import run_in_process

COMMANDS = (["config"], ["check"], ["inspect"], ["verdict", "1"], ["export"], ["backup", "copy.db"], ["run", "--once"],
            ["retry", "a.stf"], ["reconcile", "--run", "1"])  # fmt: skip


@pytest.fixture
def _nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """The user of this process is not in the list of users."""

    def unknown(uid: int) -> pwd.struct_passwd:
        raise KeyError(uid)

    monkeypatch.setattr(pwd, "getpwuid", unknown)


@pytest.fixture
def deleted(tmp_path: Path) -> Path:
    return tmp_path / "deleted"


def call(deleted: Path, words: Sequence[str], **environ: str) -> tuple[int, str]:
    """Exit code and stderr of a command in a folder that was deleted."""
    deleted.mkdir()
    with chdir(deleted):
        deleted.rmdir()
        result = run_in_process(words, environ)
    return result.returncode, result.stderr


@pytest.mark.field("17")
@pytest.mark.usefixtures("_nobody")
@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_without_home_a_command_names_the_settings(deleted: Path, words: list[str]) -> None:
    message = "fastmon-daemon: there is no home folder for the database: set FASTMON_DB, or HOME\n"
    assert call(deleted, words, FASTMON_NAMESPACE="ns") == (78, message)


@pytest.mark.field("17")
@pytest.mark.usefixtures("_nobody")
@pytest.mark.parametrize("words", [["config"], ["inspect"], ["export"]], ids=" ".join)
def test_with_absolute_paths_a_command_needs_neither_home_nor_working_folder(deleted: Path, words: list[str]) -> None:
    database = deleted.parent / "outbox.db"
    open_outbox(database).close()
    assert call(deleted, words, FASTMON_NAMESPACE="ns", FASTMON_DB=str(database)) == (0, "")


@pytest.mark.field("17")
@pytest.mark.parametrize("words", [["inspect"], ["run", "--once"], ["check"]], ids=" ".join)
def test_a_relative_path_in_a_deleted_folder_is_an_invalid_setting(deleted: Path, words: list[str]) -> None:
    message = "the working folder does not exist any more: use an absolute path\n"
    result = call(deleted, [*words, "--db", "outbox.db"], FASTMON_NAMESPACE="ns", HOME=str(deleted.parent))
    assert result == (78, f"fastmon-daemon: outbox.db: {message}")
