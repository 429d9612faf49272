"""Power loss: wherever the write-ahead log ends, no STF is lost that was acknowledged by then."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path

import pytest

from fastmon_daemon.outbox import open_outbox
from fastmon_daemon.testbed.stomp_broker import Frame
from tests.builders import query
from tests.faults.account import illegal_history, read_stfs
from tests.faults.matrix import fault
from tests.faults.scenario import Scenario
from tests.faults.sync_trace import command, synced_before_acks
from tests.faults.test_broker_rows import embedded
from tests.processes import wait_until

pytestmark = pytest.mark.timeout(2700)

_HEADER, _FRAME_HEADER = 32, 24


@fault(3, "power loss: the write-ahead log cut at every frame, and the sync before the ACK")
def test_power_loss_at_any_frame_of_the_log(scenario: Scenario, tmp_path: Path) -> None:
    log = scenario.database.with_name("outbox.db-wal")
    deliveries: dict[str, str] = {}
    sizes: dict[str, int] = {}

    def watch(what: str, _session: object, frame: Frame) -> None:
        if what == "send" and frame.command == "MESSAGE" and b"stf_ready" in frame.body:
            deliveries[frame.headers["ack"]] = json.loads(frame.body)["filename"]
        elif what == "receive" and frame.command == "ACK":
            sizes[frame.headers["id"]] = log.stat().st_size

    embedded(scenario).broker.hook = watch
    options = {"FASTMON_TF_FILES_PER_STF": "2"}
    strace = command(tmp_path / "trace")
    daemon = scenario.daemon(under=strace or (), **options)
    scenario.send_over(2, range(1, 31 if scenario.long else 9))
    wait_until(lambda: deliveries.keys() <= sizes.keys(), "all are acknowledged")
    scenario.kill(daemon)
    acks, synced = sizes, log.stat().st_size
    if strace:
        acks, synced = synced_before_acks((tmp_path / "trace").read_text().splitlines())
        assert deliveries.keys() <= acks.keys()
    safe = {filename: acks[ack] for ack, filename in deliveries.items()}
    frames = cut_at_every_frame(scenario.database, tmp_path / "cut.db", safe)
    with log.open("r+b") as file:
        file.truncate(synced)  # drop what was never synced
    scenario.fault_is_over()
    scenario.daemon(**options)
    scenario.wait_until_finished()
    seen = "strace saw each one after the sync of its STF" if strace else "the sync was not observed: no strace"
    scenario.close_account(cuts=1, note=f"{frames} frames, each complete and half; {len(safe)} ACKs: {seen}")


def cut_at_every_frame(database: Path, copy: Path, safe: dict[str, int]) -> int:
    """Open the database after each cut. *safe*: STF -> minimum length of the log that must contain it."""
    log = database.with_name(f"{database.name}-wal").read_bytes()
    frame = _FRAME_HEADER + struct.unpack(">I", log[8:12])[0]
    boundaries = range(_HEADER, len(log) + 1, frame)
    assert len(boundaries) > len(safe) > 0
    assert all(_HEADER < length <= len(log) for length in safe.values()), safe
    for end in (cut for boundary in boundaries for cut in (boundary, boundary + frame // 2)):
        stored = reopened(database, log[:end], copy)
        lost = [filename for filename, length in safe.items() if length <= end and filename not in stored]
        assert lost == [], f"acknowledged, but lost with a log of {end} bytes"
    return len(boundaries) - 1


def reopened(database: Path, log: bytes, copy: Path) -> set[str]:
    """Open a copy of *database* with *log*, as the next start does; check it and return its STFs."""
    for old in copy.parent.glob(f"{copy.name}*"):
        old.unlink()
    shutil.copy(database, copy)
    copy.with_name(f"{copy.name}-wal").write_bytes(log)
    outbox = open_outbox(copy)
    assert query(copy, "pragma integrity_check") == [("ok",)]
    outbox.close()
    stfs = read_stfs(copy)
    assert [reason for stf, history in stfs for reason in illegal_history(stf, history)] == []
    return {stf.filename for stf, _ in stfs}
