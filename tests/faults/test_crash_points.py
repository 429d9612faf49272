"""FASTMON_TEST_CRASH: the matrix covers all failpoints, and the variable is not a documented setting."""

from __future__ import annotations

import re
import signal
from pathlib import Path

from tests.faults.test_kills import CRASH_POINTS
from tests.processes import live_testbed, wait_until

ROOT = Path(__file__).parents[2]
BEFORE_CALL = CRASH_POINTS[2]
"""Without reconciler and stages, an STF makes just 14 calls: 7 registrations, then 7 announcements."""


def test_the_matrix_kills_at_every_failpoint() -> None:
    sources = (path.read_text(encoding="utf-8") for path in (ROOT / "fastmon_daemon").rglob("*.py"))
    failpoints = {name for text in sources for name in re.findall(r'\bfailpoints_around\("(\w+)"\)', text)}
    assert set(CRASH_POINTS) == {f"{side}_{name}" for name in failpoints for side in ("before", "after")}


def test_the_process_kills_itself_at_the_given_pass_of_a_failpoint(tmp_path: Path) -> None:
    with live_testbed(tmp_path) as testbed:
        first_announcement = f"{BEFORE_CALL}:22"  # of the second STF
        daemon = testbed.daemon(FASTMON_TEST_CRASH=first_announcement, FASTMON_RECONCILE="off", FASTMON_STAGES="off")
        testbed.register(1, 2)
        testbed.announce(1)
        testbed.wait_for(completed=1)
        testbed.announce(2)
        wait_until(lambda: daemon.poll() is not None, "the daemon is killed")
        assert daemon.returncode == -signal.SIGKILL
        assert testbed.states() == {"completed": 1, "tf_registered": 1}
        assert "FASTMON_TEST_CRASH" not in testbed.log()
        testbed.daemon()
        testbed.wait_for(completed=2)


def test_the_variable_is_in_no_document_of_the_settings() -> None:
    for document in ("README.md", ".env.example"):
        assert "FASTMON_TEST_CRASH" not in (ROOT / document).read_text(encoding="utf-8")
