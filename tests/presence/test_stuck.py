"""Heart-beat, status message, metrics, `inspect` and the service manager's line take the same STFs as stuck."""

from __future__ import annotations

import json
import re
from contextlib import closing
from pathlib import Path
from typing import Any

from fastmon_daemon.base.clock import format_time, format_timestamp
from fastmon_daemon.base.errors import PermanentError
from fastmon_daemon.inspection.inspector import InspectionContext, Inspector
from fastmon_daemon.outbox import open_for_reading
from fastmon_daemon.presence.status import StatusPublisher
from fastmon_daemon.service.status_line import status_line
from tests.builders import FakeTestbed, settle
from tests.inspection.builders import collector_for
from tests.presence.builders import RULE, assessor_for, checker_for


class Reports:
    """The number of stuck STFs, as each report gives it."""

    def __init__(self, testbed: FakeTestbed) -> None:
        self.testbed = testbed
        self.database = testbed.folder / "outbox.db"
        self.clock = testbed.time.clock()

    def counts(self) -> dict[str, int]:
        return {
            "heart-beat": number_in(checker_for(self.testbed).health().why, r"stuck: (\d+) STFs?"),
            "status": number_in(self.status_message(), r"stuck: (\d+) STFs?"),
            "metrics": sum(map(int, re.findall(r"(?m)^fastmon_stfs_stuck{.*} (\d+)", self.metrics()))),
            "inspect": self.overview()["stuck_count"],
        }

    def status_message(self) -> str:
        published: list[str] = []
        StatusPublisher(lambda body, _event_id: published.append(body), "agent", "ns", checker_for(self.testbed)).tick()
        return str(json.loads(published[0])["message"])

    def metrics(self) -> str:
        return collector_for(assessor_for(self.testbed), self.clock).render().decode()

    def overview(self) -> dict[str, Any]:
        context = InspectionContext(rule=RULE, now=self.testbed.time.at, daemon=1)
        with closing(open_for_reading(self.database)) as reports:
            return Inspector(reports, context).overview()


def number_in(text: str, pattern: str) -> int:
    found = re.search(pattern, text)
    return int(found[1]) if found else 0


def test_all_reports_count_the_same_stuck_stfs_during_and_after_an_outage(tmp_path: Path) -> None:
    testbed = FakeTestbed(tmp_path)
    reports = Reports(testbed)
    with closing(testbed.outbox()) as outbox:
        engine = testbed.engine(outbox)
        testbed.monitor.trouble[testbed.receive(outbox, 1)] = PermanentError("wrong size")
        settle(engine)
        testbed.monitor.down = True
        for n in range(2, 7):
            testbed.receive(outbox, n)
        settle(engine)
        testbed.time.pass_(minutes=10)
        during = reports.counts()
        with outbox.transaction():
            outbox.outages.link_back("monitor", testbed.time.at)
        testbed.time.pass_(seconds=59.9)
        just_after = reports.counts()
        testbed.time.pass_(seconds=0.1)
        later = reports.counts()
    who = ("heart-beat", "status", "metrics", "inspect")
    assert during == dict.fromkeys(who, 1)  # the failed one
    assert just_after == dict.fromkeys(who, 1)
    assert later == dict.fromkeys(who, 6)


def test_the_line_of_the_service_manager_tells_since_when_an_stf_is_stuck_as_the_verdict_does(tmp_path: Path) -> None:
    testbed = FakeTestbed(tmp_path)

    def told() -> tuple[str, str]:
        now = testbed.time.at
        with closing(open_for_reading(tmp_path / "outbox.db")) as reports:
            return status_line(reports, RULE.stuck, now), assessor_for(testbed).assess(reports).line

    with closing(testbed.outbox()) as outbox:
        testbed.receive(outbox, 1)
        since = format_time(format_timestamp(testbed.time.at), testbed.time.at)
        testbed.time.pass_(seconds=59.9)
        line, verdict = told()
        assert ("stuck" in line, "stuck" in verdict) == (False, False)
        testbed.time.pass_(seconds=0.1)
        line, verdict = told()
    assert f"; stuck since {since}" in line
    assert f"(since {since}, " in verdict
    assert verdict.startswith("stuck: 1 STF")
