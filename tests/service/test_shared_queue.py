"""Two daemons on a queue of the embedded broker; on real brokers see tests/real_brokers/test_sharing.py."""

from __future__ import annotations

import json
from pathlib import Path

from fastmon_daemon.commands.verdict import read_verdict
from tests.processes import live_testbed, name, wait_until

QUEUE = "/queue/fastmon.work"


def test_each_of_two_daemons_accounts_for_a_run_of_which_it_got_a_part(tmp_path: Path) -> None:
    with live_testbed(tmp_path) as testbed:
        databases = [tmp_path / f"{number}.db" for number in (1, 2)]
        for database in databases:
            testbed.daemon(FASTMON_DB=str(database), FASTMON_SUBSCRIBE=QUEUE, FASTMON_RECONCILE="auto")
        testbed.register(*range(1, 9))
        testbed.publish({"msg_type": "start_run", "run_id": "100014"})
        for n in range(1, 9):
            body = json.dumps({"msg_type": "stf_ready", "namespace": "ns", "run_id": "100014", "filename": name(n)})
            testbed.broker.call(lambda body=body: testbed.broker.broker.publish(QUEUE, body))
        testbed.publish({"msg_type": "end_run", "run_id": "100014", "total_stf_files": 8})

        def verdicts() -> list[tuple[bool, int, int, int]]:
            found = [read_verdict(database, "100014", "ns") for database in databases]
            return [(each.complete, each.received, each.recovered, each.elsewhere) for each in found if each]

        wait_until(lambda: [each[0] for each in verdicts()] == [True, True], f"{verdicts()}")
        (_, first, *first_others), (_, second, *second_others) = verdicts()
        assert first + second == 8
        assert min(first, second) > 0
        assert (first_others, second_others) == ([0, second], [0, first])
        assert testbed.monitor.counts()["duplicate_posts"] == 0
        assert testbed.monitor.counts()["announcements"] == testbed.monitor.counts()["distinct_announcements"] == 56
