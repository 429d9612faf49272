"""The power goes: the write-ahead log ends at any frame, and nothing that was acknowledged by then is gone."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path

import pytest

from fastmon_daemon.outbox import open_outbox
from fastmon_daemon.testbed.stomp_broker import Frame
from tests.builders import query
from tests.faults.account import illegal_history, read_lives
from tests.faults.matrix import fault
from tests.faults.stage import Stage
from tests.faults.sync_trace import command, synced_before_acks
from tests.faults.test_broker_rows import own
from tests.processes import wait_until

pytestmark = pytest.mark.timeout(2700)

_HEADER, _FRAME_HEADER = 32, 24


@fault(3, "power loss: the write-ahead log cut at every frame, and the sync before the ACK")
def test_the_power_goes_at_any_frame_of_the_log(stage: Stage, tmp_path: Path) -> None:
    log = stage.database.with_name("outbox.db-wal")
    deliveries: dict[str, str] = {}
    sizes: dict[str, int] = {}

    def watch(what: str, _session: object, frame: Frame) -> None:
        if what == "send" and frame.command == "MESSAGE" and b"stf_ready" in frame.body:
            deliveries[frame.headers["ack"]] = json.loads(frame.body)["filename"]
        elif what == "receive" and frame.command == "ACK":
            sizes[frame.headers["id"]] = log.stat().st_size

    own(stage).broker.hook = watch
    few = {"FASTMON_TF_FILES_PER_STF": "2"}
    strace = command(tmp_path / "trace")
    daemon = stage.daemon(under=strace or (), **few)
    stage.send_over(2, range(1, 31 if stage.long else 9))
    wait_until(lambda: deliveries.keys() <= sizes.keys(), "all are acknowledged")
    stage.kill(daemon)
    acks, synced = sizes, log.stat().st_size
    if strace:
        acks, synced = synced_before_acks((tmp_path / "trace").read_text().splitlines())
        assert deliveries.keys() <= acks.keys()
    safe = {filename: acks[ack] for ack, filename in deliveries.items()}
    frames = cut_at_every_frame(stage.database, tmp_path / "cut.db", safe)
    with log.open("r+b") as file:
        file.truncate(synced)  # what was never synced is gone
    stage.fault_is_over()
    stage.daemon(**few)
    stage.comes_to_rest()
    seen = "strace saw each after the sync of its STF" if strace else "the sync was not observed: no strace here"
    stage.close_account(cuts=1, note=f"{frames} frames, each whole and half; {len(safe)} ACKs: {seen}")


def cut_at_every_frame(database: Path, copy: Path, safe: dict[str, int]) -> int:
    """Open what is left after each cut. *safe*: STF -> how long the log must be so that it cannot be missing."""
    log = database.with_name(f"{database.name}-wal").read_bytes()
    frame = _FRAME_HEADER + struct.unpack(">I", log[8:12])[0]
    boundaries = range(_HEADER, len(log) + 1, frame)
    assert len(boundaries) > len(safe) > 0
    assert all(_HEADER < length <= len(log) for length in safe.values()), safe
    for end in (cut for boundary in boundaries for cut in (boundary, boundary + frame // 2)):
        kept = reopened(database, log[:end], copy)
        gone = [filename for filename, length in safe.items() if length <= end and filename not in kept]
        assert gone == [], f"acknowledged, and gone with a log of {end} bytes"
    return len(boundaries) - 1


def reopened(database: Path, log: bytes, copy: Path) -> set[str]:
    """The STFs of a copy of *database* with that log, opened as the next start does; whole and legal."""
    for old in copy.parent.glob(f"{copy.name}*"):
        old.unlink()
    shutil.copy(database, copy)
    copy.with_name(f"{copy.name}-wal").write_bytes(log)
    outbox = open_outbox(copy)
    assert query(copy, "pragma integrity_check") == [("ok",)]
    outbox.close()
    lives = read_lives(copy)
    assert [reason for stf, history in lives for reason in illegal_history(stf, history)] == []
    return {stf.filename for stf, _ in lives}
