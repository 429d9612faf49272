"""Which groups are of one user alone, by the same rule in both programs."""

from __future__ import annotations

import grp
import os
import pwd

import pytest

import fastmon_client.files as client
from fastmon_daemon.base import users

USER = pwd.struct_passwd(("daq", "x", os.geteuid(), 700, "", "/", "/bin/sh"))


@pytest.mark.parametrize(
    ("name", "gid", "members", "is_private"),
    [
        ("daq", 700, [], True),
        ("daq", 700, ["daq"], True),
        ("daq", 700, ["daq", "other"], False),
        ("staff", 700, [], False),
        ("daq", 701, [], False),
    ],
)
def test_a_private_group_has_the_name_and_the_number_of_its_only_member(
    monkeypatch: pytest.MonkeyPatch, name: str, gid: int, members: list[str], is_private: bool
) -> None:
    monkeypatch.setattr(pwd, "getpwuid", lambda _: USER)
    monkeypatch.setattr(grp, "getgrgid", lambda _: grp.struct_group((name, "x", gid, members)))
    assert users.is_private_group(gid) == client.is_private_group(gid) == is_private


def test_a_group_or_user_that_nobody_knows_is_not_private(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(_: int) -> None:
        raise KeyError

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    assert not users.is_private_group(700)
    assert not client.is_private_group(700)
