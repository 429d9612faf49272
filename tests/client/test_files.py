"""Whom files of settings belong to, and why one cannot be read."""

from __future__ import annotations

import errno
import os
import pwd
import stat
from pathlib import Path

import pytest

from fastmon_client.files import MAX_BYTES, exposed, is_private_group, is_secret, read_error, read_text, trust_problem

OURS = os.geteuid()
OTHERS = pwd.getpwnam("nobody").pw_uid
WRITABLE = "other users can write it: check its content, then chmod go-w {}"


def status_of(owner: int = OURS, mode: int = 0o600, group: int = 65534) -> os.stat_result:
    return os.stat_result((stat.S_IFREG | mode, 1, 1, 1, owner, group, 0, 0, 0, 0))


@pytest.mark.parametrize(
    ("status", "problem"),
    [
        (status_of(), None),
        (status_of(0), None),
        (status_of(mode=0o755), None),
        (status_of(OTHERS), "belongs to user nobody, not to you: remove it, or run as that user"),
        (status_of(54321), "belongs to user 54321, not to you: remove it, or run as that user"),
        (status_of(mode=0o602), WRITABLE),
        (status_of(mode=0o620), WRITABLE),
        (status_of(0, mode=0o622), WRITABLE),
    ],
)
def test_a_file_of_somebody_else_is_not_trusted(tmp_path: Path, status: os.stat_result, problem: str | None) -> None:
    assert trust_problem(tmp_path, status) == (problem and problem.format(tmp_path))


def test_a_group_is_private_if_it_has_our_name_our_number_and_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    import grp

    user = pwd.struct_passwd(("ana", "x", OURS, 1234, "", "", ""))
    monkeypatch.setattr(pwd, "getpwuid", lambda _uid: user)
    for name, gid, members, is_private in (
        ("ana", 1234, [], True), ("ana", 1234, ["ana"], True), ("ana", 1234, ["ana", "ben"], False),
        ("ana", 1235, [], False), ("daq", 1234, [], False),
    ):  # fmt: skip
        group = grp.struct_group((name, "x", gid, members))
        monkeypatch.setattr(grp, "getgrgid", lambda _gid, group=group: group)
        assert is_private_group(gid) is is_private

    def unknown(_number: int) -> None:
        raise KeyError

    monkeypatch.setattr(grp, "getgrgid", unknown)
    assert is_private_group(1234) is False


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (OSError(errno.EACCES, "Permission denied"), "Permission denied"),
        (OSError("no number"), "input/output error"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"), "not UTF-8 text"),
        (ValueError("embedded null byte"), "embedded null byte"),
    ],
)
def test_why_a_file_cannot_be_read(error: OSError | ValueError, text: str) -> None:
    assert read_error(error) == text


def test_files_are_read_up_to_their_limit(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_bytes(b"x" * MAX_BYTES)
    assert len(read_text(file)) == MAX_BYTES
    file.write_bytes(b"x" * (MAX_BYTES + 1))
    with pytest.raises(OSError, match="more than 1048576 bytes"):
        read_text(file)
    with pytest.raises(OSError, match="not a regular file"):
        read_text(tmp_path)


def test_only_a_file_that_is_there_can_be_exposed(tmp_path: Path) -> None:
    assert exposed(tmp_path / "nothing") is None


def test_names_of_secrets() -> None:
    names = ("SWF_API_TOKEN", "MQ_PASSWD", "ACTIVEMQ_PASSWORD", "TOKEN_FILE", "ACTIVEMQ_HOST")
    assert [is_secret(name) for name in names] == [True, True, True, False, False]
