"""What the composition root makes once and keeps."""

from __future__ import annotations

import re
from pathlib import Path

from fastmon_daemon.outbox import open_outbox
from fastmon_daemon.service.factories import instance_id


def test_an_installation_keeps_the_id_that_its_first_start_made(tmp_path: Path) -> None:
    first = open_outbox(tmp_path / "outbox.db")
    made = instance_id(first)
    first.close()
    second = open_outbox(tmp_path / "outbox.db")
    assert re.fullmatch("[0-9a-f]{8}", made)
    assert instance_id(second) == made
    second.close()
    other = open_outbox(tmp_path / "other.db")
    assert instance_id(other) != made
    other.close()
