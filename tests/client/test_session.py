"""The main loop, handed what no reader should hand it."""

from __future__ import annotations

from typing import Any

from fastmon_client.access import Access
from fastmon_client.output import JsonLines
from fastmon_client.picture import Picture
from fastmon_client.session import Session, now
from fastmon_client.wanted import Wanted


def test_a_message_that_is_nested_too_deeply_is_skipped() -> None:
    deep: list[Any] = []
    for _ in range(5000):
        deep = [deep]
    wanted = Wanted(types=("tf_file_registered",))
    picture = Picture("http://localhost", wanted, now())
    session = Session(Access(url="http://localhost", token=str), wanted.heard_types, picture, JsonLines())
    session._take((0, [{"msg_type": "start_run", "run_id": deep}, {"msg_type": "start_run", "run_id": 7}]), now(), 0.0)
    assert list(picture.runs) == ["7"]
