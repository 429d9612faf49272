"""FASTMON_TEST_CRASH: the program has just the crash points that the matrix kills it at, and it is no setting."""

from __future__ import annotations

import re
import signal
from pathlib import Path

from tests.faults.test_kills import CRASH_POINTS
from tests.processes import living, wait_until

ROOT = Path(__file__).parents[2]


def test_the_matrix_kills_at_every_failpoint_that_there_is() -> None:
    sources = (path.read_text(encoding="utf-8") for path in (ROOT / "fastmon_daemon").rglob("*.py"))
    seams = {name for text in sources for name in re.findall(r'\bfailpoints_around\("(\w+)"\)', text)}
    assert set(CRASH_POINTS) == {f"{side}_{name}" for name in seams for side in ("before", "after")}


def test_the_process_dies_by_sigkill_at_the_meeting_that_was_named(tmp_path: Path) -> None:
    with living(tmp_path) as world:
        daemon = world.daemon(FASTMON_TEST_CRASH="before_send:8")
        world.register(1, 2)
        world.announce(1)
        world.wait_for(completed=1)
        world.announce(2)
        wait_until(lambda: daemon.poll() is not None, "it is killed")
        assert daemon.returncode == -signal.SIGKILL
        assert world.states() == {"completed": 1, "tf_registered": 1}
        assert "FASTMON_TEST_CRASH" not in world.log()
        world.daemon()
        world.wait_for(completed=2)


def test_it_is_named_in_no_document_of_the_settings() -> None:
    for document in ("README.md", ".env.example"):
        assert "FASTMON_TEST_CRASH" not in (ROOT / document).read_text(encoding="utf-8")
