"""The scenario of one row: a monitor, a broker of one kind, the other agents, and the daemon as a process."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fastmon_daemon.base.clock import parse_timestamp, utcnow
from fastmon_daemon.outbox import open_for_reading
from fastmon_daemon.settings.fields import AUTO_WORKERS
from fastmon_daemon.testbed.monitor import MonitorThread
from fastmon_daemon.testbed.monitor.file_tables import FASTMON_FILES, STF_FILES
from tests.faults.account import Account, account_of, read_stfs
from tests.faults.other_agents import BrokerControl, OtherAgents
from tests.processes import BaseTestbed, BrokerAccess, name, wait_until

WORKERS = AUTO_WORKERS
"""The daemon's default: the most announcements that can be in flight at a cut."""


@dataclass(frozen=True, slots=True)
class Result:
    """One line of the table."""

    sent: int
    completed: int
    failed: int
    registered_twice: int
    announced: int
    announced_twice: int
    lost: int
    illegal: int
    seconds: float | None
    note: str = ""


class Scenario(BaseTestbed):
    """A testbed for one fault; every STF that was sent is accounted for at the end."""

    def __init__(
        self, folder: Path, monitor: MonitorThread, broker: BrokerControl, agents: OtherAgents, topic: str
    ) -> None:
        access = BrokerAccess(
            port=broker.port, publish=agents.send, host=broker.host, user=broker.user, password=broker.password,
            topic=topic,
        )  # fmt: skip
        super().__init__(folder, monitor, access)
        self.broker = broker
        self.agents = agents
        self.long = False
        self.result: Result | None = None
        self.sent: dict[str, None] = {}
        self._over_at = 0.0
        self._over_on = utcnow()
        self._seconds: float | None = None

    def register(self, *sequences: int) -> None:
        """Register STFs directly in the monitor's table, which works even while the monitor is down."""
        rows = [{"run": self.run_pk, "stf_filename": name(n)} for n in sequences]
        store = self.monitor.server.store
        self.monitor.call(lambda: [store.create(STF_FILES, row) for row in rows])

    def send(self, *sequences: int) -> None:
        """Register and announce STFs; on return, the broker has accepted the messages."""
        self.register(*sequences)
        self.announce(*sequences)

    def announce(self, *sequences: int) -> None:
        super().announce(*sequences)
        self.expect(*sequences)

    def expect(self, *sequences: int) -> None:
        """Count these STFs as sent."""
        self.sent |= dict.fromkeys(name(n) for n in sequences)

    def send_over(self, seconds: float, sequences: range) -> None:
        """Send STFs one by one, spread over *seconds*."""
        for n in sequences:
            self.send(n)
            self.wait(seconds / len(sequences))

    def wait(self, seconds: float) -> None:
        """Let the fault last for *seconds*."""
        threading.Event().wait(seconds)

    def kill(self, child: subprocess.Popen[bytes]) -> None:
        """Kill with SIGKILL and wait for the exit."""
        child.kill()
        child.wait()

    def fault_is_over(self) -> None:
        """Start to measure the time of recovery."""
        self._over_at, self._over_on = time.monotonic(), utcnow()

    def back_after(self, link: str) -> str:
        """Text for the note: when, after the end of the fault, the daemon recorded that *link* was up again."""
        reports = open_for_reading(self.database)
        try:
            latest = reports.outages.latest(10)
            ends = [outage.ended_at for outage in latest if outage.link == link]
        finally:
            reports.close()
        end = next(iter(ends), None)
        assert end is not None, f"no finished outage of the {link} is recorded"
        return f"link back after {max(0.0, (parse_timestamp(end) - self._over_on).total_seconds()):.1f} s"

    def wait_until_finished(self, failing: Collection[str] = ()) -> None:
        """Wait until every STF is completed, or failed if it is in *failing*."""
        wanted = {"completed": len(self.sent) - len(failing), "failed": len(failing)}
        wanted = {state: count for state, count in wanted.items() if count}
        began = self._over_at or time.monotonic()
        try:
            wait_until(lambda: self.states() == wanted, deadline_s=1500 if self.long else 150)
        except AssertionError as timeout:
            raise AssertionError(f"{timeout}{wanted}, but {self.states()}\n{self.log()[-4000:]}") from None
        self._seconds = time.monotonic() - began

    def close_account(self, *, cuts: int = 0, failing: Collection[str] = (), note: str = "") -> Account:
        """Check that nothing was lost or registered twice. *cuts*: how often announcements in flight were cut."""
        self.agents.wait_for_delivery()  # otherwise a second announcement in flight would not be counted
        account = account_of(self.sent, read_stfs(self.database), self._rows(), self.agents.announcements(), failing)
        self.result = Result(
            sent=account.sent, completed=account.completed, failed=account.failed, announced=account.announced,
            registered_twice=len(account.registered_twice), announced_twice=account.announced_twice,
            lost=len(account.lost), illegal=len(account.illegal), seconds=self._seconds, note=note,
        )  # fmt: skip
        assert account.problems == []
        assert account.announced_twice <= cuts * WORKERS, asdict(account)
        if self.broker.kind == "artemis":
            assert account.announced_twice == 0, "duplicate detection is on"
        return account

    def _rows(self) -> list[dict[str, Any]]:
        table = self.monitor.server.store.tables[FASTMON_FILES.path]
        return self.monitor.call(lambda: [dict(row) for row in table.rows.values()])
