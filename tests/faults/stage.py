"""The stage of one row: a monitor, a broker of one kind, the other agents, and the daemon as a process.

Owns sending, waiting until all has come to rest, and closing the account. It must not know faults.
"""

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
from fastmon_daemon.testbed.monitor import MonitorThread
from fastmon_daemon.testbed.monitor.file_tables import FASTMON_FILES, STF_FILES
from tests.faults.account import Account, account_of, read_lives
from tests.faults.agents import Acts, Agents
from tests.processes import Door, Living, name, wait_until

WORKERS = 4
"""The daemon's default: so many announcements may be in flight when it is cut."""


@dataclass(frozen=True, slots=True)
class Result:
    """A line of the table."""

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


class Stage(Living):
    """A world in which things go wrong, and in which all that was sent is accounted for."""

    def __init__(self, folder: Path, monitor: MonitorThread, broker: Acts, agents: Agents, topic: str) -> None:
        door = Door(
            port=broker.port, publish=agents.send, host=broker.host, user=broker.user, password=broker.password,
            topic=topic,
        )  # fmt: skip
        super().__init__(folder, monitor, door)
        self.broker = broker
        self.agents = agents
        self.long = False
        self.result: Result | None = None
        self.sent: dict[str, None] = {}
        self._over_at = 0.0
        self._over_on = utcnow()
        self._seconds: float | None = None

    def register(self, *sequences: int) -> None:
        """The data agent's registrations, straight into the monitor's table: also while the monitor is away."""
        rows = [{"run": self.run_pk, "stf_filename": name(n)} for n in sequences]
        store = self.monitor.server.store
        self.monitor.call(lambda: [store.create(STF_FILES, row) for row in rows])

    def send(self, *sequences: int) -> None:
        """STFs are registered and announced; when this returns, the broker has taken the messages."""
        self.register(*sequences)
        self.announce(*sequences)

    def announce(self, *sequences: int) -> None:
        super().announce(*sequences)
        self.expect(*sequences)

    def expect(self, *sequences: int) -> None:
        """These count as sent."""
        self.sent |= dict.fromkeys(name(n) for n in sequences)

    def send_over(self, seconds: float, sequences: range) -> None:
        """Send these one after the other, spread over *seconds*."""
        for n in sequences:
            self.send(n)
            self.let_pass(seconds / len(sequences))

    def let_pass(self, seconds: float) -> None:
        """The fault lasts."""
        threading.Event().wait(seconds)

    def kill(self, child: subprocess.Popen[bytes]) -> None:
        """SIGKILL, and the process is gone."""
        child.kill()
        child.wait()

    def fault_is_over(self) -> None:
        """From now on the time to recover is measured."""
        self._over_at, self._over_on = time.monotonic(), utcnow()

    def back_after(self, link: str) -> str:
        """For the note: how soon after the end of the fault the daemon had its *link* again, by its own record."""
        reports = open_for_reading(self.database)
        try:
            latest = reports.outages.latest(open_only=False, limit=10)
            ends = [outage.ended_at for outage in latest if outage.link == link]
        finally:
            reports.close()
        end = next(iter(ends), None)
        assert end is not None, f"no outage of the {link} has begun and ended"
        return f"link back after {max(0.0, (parse_timestamp(end) - self._over_on).total_seconds()):.1f} s"

    def comes_to_rest(self, failing: Collection[str] = ()) -> None:
        """Wait until every STF that was sent is completed, or failed where it must."""
        wanted = {"completed": len(self.sent) - len(failing), "failed": len(failing)}
        wanted = {state: count for state, count in wanted.items() if count}
        begun = self._over_at or time.monotonic()
        try:
            wait_until(lambda: self.states() == wanted, deadline_s=1500 if self.long else 150)
        except AssertionError as late:
            raise AssertionError(f"{late}{wanted}, but {self.states()}\n{self.log()[-4000:]}") from None
        self._seconds = time.monotonic() - begun

    def close_account(self, *, cuts: int = 0, failing: Collection[str] = (), note: str = "") -> Account:
        """Compare all with all: nothing lost, nothing twice; *cuts*: so often announcements in flight were cut."""
        self.agents.hear_out()  # a second announcement that is still on its way would not be counted
        account = account_of(self.sent, read_lives(self.database), self._rows(), self.agents.heard(), failing)
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
