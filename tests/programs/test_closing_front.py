"""A front of the monitor that closes each connection at its second request, before both programs as processes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.processes import DEADLINE_S, live_testbed, name
from tests.programs.commands import run_all
from tests.programs.fronts import one_request_each

STFS = range(1, 21)


@pytest.mark.field("24")
def test_no_link_is_called_down_and_every_tf_is_registered_once(tmp_path: Path) -> None:
    with live_testbed(tmp_path) as testbed, one_request_each(testbed.monitor.port) as front:
        url = f"http://127.0.0.1:{front.port}"
        testbed.register(*STFS)
        daemon = testbed.daemon(SWF_MONITOR_URL=url)
        for sequence in STFS:
            testbed.announce(sequence)
        testbed.wait_for(completed=len(STFS))
        words = ("fastmon_client", "summary", "--run", "100014")
        [(code, summary)] = run_all(testbed, {words: {"SWF_MONITOR_URL": url}}).values()
        daemon.terminate()
        assert daemon.wait(DEADLINE_S) == 0
        told = [line for line in testbed.log().splitlines() if " ERROR " in line or " WARNING " in line]
        registered = Counter(row["stf_file"] for row in testbed.rows("fastmon-files"))
    assert told == []
    assert registered == dict.fromkeys(map(name, STFS), 7)
    assert "140 TF files of 20 STFs" in summary
    assert code in (0, 5), "5: the newest STFs are too young for a verdict"
