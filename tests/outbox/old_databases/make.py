"""Makes the sample of a former schema: the daemon of a commit runs against today's testbed, and is killed at work.

git archive COMMIT | tar x -C FOLDER && python -m tests.outbox.old_databases.make FOLDER
"""

from __future__ import annotations

import gzip
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

from fastmon_daemon.base.users import user_name
from tests.builders import query
from tests.hostile.hostile_monitor import HostileMonitor
from tests.processes import LiveTestbed, live_testbed, name, wait_until

SAMPLES = Path(__file__).parent
CONNECTED = "connected to the broker"
PRAGMAS = ("application_id", "user_version")
PRUNED = ("swf.100013.000001.stf", "swf.100013.000002.stf")
SETTINGS = {"FASTMON_RECONCILE": "on", "FASTMON_SELECTION_FRACTION": "0.5"}


class Former:
    """The daemon of a former commit, and its commands."""

    def __init__(self, testbed: LiveTestbed, checkout: Path) -> None:
        self.testbed = testbed
        self._settings = SETTINGS | {"PYTHONPATH": str(checkout)}

    def start(self, **changes: str) -> None:
        seen = self.testbed.log().count(CONNECTED)
        self.testbed.start("run", **self._settings | changes)
        wait_until(lambda: self.testbed.log().count(CONNECTED) > seen, CONNECTED)

    def kill(self) -> None:
        self.testbed.children[-1].kill()
        self.testbed.children[-1].wait()

    def call(self, *words: str) -> None:
        environ = self.testbed.environment(**self._settings)
        subprocess.run([sys.executable, "-m", "fastmon_daemon", *words], env=environ, check=True, timeout=60)

    def wait_for(self, condition: str) -> None:
        """Wait until an SQL condition holds."""
        wait_until(lambda: query(self.testbed.database, f"select {condition}") == [(1,)], condition)

    def take(self, *sequences: int) -> None:
        """Announce STFs that the daemon has not received, and wait until they are stored."""
        self.testbed.announce(*sequences)
        wanted = ", ".join(f"'{name(each)}'" for each in sequences)
        self.wait_for(f"(select count(*) from stf where filename in ({wanted})) = {len(sequences)}")


def prune_a_run(former: Former) -> None:
    """One run is complete, and is pruned at the next start."""
    testbed = former.testbed
    run = testbed.post("runs/", {"run_number": 100013, "start_time": "2026-11-21T19:56:56"})["run_id"]
    former.start(FASTMON_SELECTION_FRACTION="1.0")
    for sequence, stf in enumerate(PRUNED, 1):
        testbed.post("stf-files/", {"run": run, "stf_filename": stf})
        testbed.publish({"msg_type": "stf_ready", "run_id": "100013", "filename": stf, "sequence": sequence})
    testbed.publish({"msg_type": "end_run", "run_id": "100013", "total_stf_files": 2})
    former.wait_for("(select count(*) from run where state = 'complete' and summary_at is not null) = 1")
    former.kill()
    former.start(FASTMON_KEEP_DAYS="0.00001")
    former.wait_for("(select count(*) from pruned) = 2")
    former.kill()


def reject_some(method: str, path: str, _status: int, body: bytes) -> tuple[int, bytes] | None:
    """Reject the TF files of STF 101 and later, as a monitor does that knows a field to be wrong."""
    if method == "POST" and "fastmon-files" in path and b"swf.100014.0001" in body:
        return 400, b'{"tf_count": ["A valid integer is required."]}'
    return None


def finish_some(former: Former) -> None:
    """Completed, skipped, included, failed, discarded, retried and recovered STFs; rejected and ignored messages."""
    with HostileMonitor(former.testbed.monitor.url) as front:
        front.change = reject_some
        former.start(SWF_MONITOR_URL=front.url)
        _finish_some(former, former.testbed)
        former.kill()


def _finish_some(former: Former, testbed: LiveTestbed) -> None:
    testbed.publish({"msg_type": "start_run", "run_id": "100014"})
    testbed.register(*range(1, 41))
    former.take(*range(1, 13))  # the others are missed
    former.wait_for("(select count(*) from stf where due_at is not null) = 0")
    (skipped, *_) = query(testbed.database, "select filename from stf where state = 'skipped'")
    former.call("include", "--reason", "wanted by the shift", *skipped)
    testbed.register(*range(101, 107))
    former.take(*range(101, 107))
    former.wait_for("(select count(*) from stf where state in ('failed', 'skipped') and sequence > 100) = 6")
    (first, *_) = failed = query(testbed.database, "select filename from stf where state = 'failed'")
    former.call("discard", "--reason", "a test", *first)
    former.call("retry", "--reason", "once more", *failed[1])
    for body in ("no json", '{"msg_type": "stf_ready", "namespace": "ns", "run_id": 100014, "filename": 7}'):
        testbed.broker_access.publish(body)
    testbed.publish({"msg_type": "stf_ready", "namespace": "other", "run_id": "1", "filename": "other.stf"})
    former.wait_for("(select count(*) from rejected) = 2")
    former.call("reconcile", "--run", "100014")
    former.wait_for("(select count(*) from stf where origin = 'recovered') > 20")
    former.wait_for("(select count(*) from stf where due_at is not null) = 0")


def leave_work(former: Former) -> None:
    """Announcements that nobody takes, then a monitor that is down, STFs that nobody registered, and a kill."""
    testbed = former.testbed
    testbed.register(*range(41, 61))
    former.start(FASTMON_NOTIFY="rest", FASTMON_SELECTION_FRACTION="1.0")  # the monitor has no /api/messages/
    former.take(*range(41, 51))
    former.wait_for("(select count(*) from stf where state = 'tf_registered') = 10")
    testbed.monitor.faults(error_rate=1, error_status=503)
    former.take(*range(51, 71))
    former.wait_for("(select count(*) from stf where state = 'sampled') > 10")
    former.wait_for("(select count(*) from outage where ended_at is null) > 1")
    former.kill()


def stop_early(former: Former) -> None:
    """The same with the few commands of schemas 1 to 5: completed, registered and sampled STFs, and a kill."""
    testbed = former.testbed
    testbed.register(*range(1, 41))
    former.start(FASTMON_SELECTION_FRACTION="1.0")
    former.take(*range(1, 11))
    former.wait_for("(select count(*) from stf where state = 'completed') = 10")
    testbed.broker.broker.no_receipts = True
    former.take(*range(11, 21))
    former.wait_for("(select count(*) from stf where state = 'tf_registered') = 10")
    testbed.monitor.faults(error_rate=1, error_status=503)
    former.take(*range(21, 41))
    former.wait_for("(select count(*) from stf where state = 'sampled') > 10")
    former.kill()


def main(checkout: Path) -> None:
    """Write the sample of the schema that the daemon in *checkout* has."""
    with TemporaryDirectory() as folder, live_testbed(Path(folder)) as testbed:
        former = Former(testbed, checkout)
        has_commands = (checkout / "fastmon_daemon/commands/action_commands.py").exists()
        for part in (prune_a_run, finish_some, leave_work) if has_commands else (stop_early,):
            part(former)
        with closing(sqlite3.connect(testbed.database)) as database:
            pragmas = {name: database.execute(f"pragma {name}").fetchone()[0] for name in PRAGMAS}
            user = user_name(os.getuid())
            text = "\n".join([*database.iterdump(), *(f"pragma {name} = {value};" for name, value in pragmas.items())])
    sample = SAMPLES / f"v{pragmas['user_version']}.sql.gz"
    sample.write_bytes(gzip.compress(f"{text}\n".replace(user, "daq").encode(), mtime=0))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
