"""The bare loop: the least that a program does that registers, announces and records STFs with the same libraries.

For each STF: 7 POSTs with one requests.Session, 7 SENDs with stomp.py whose receipts are awaited together, and the rows
of the daemon's database by sqlite3, in 4 durable commits. It has no intake, no retries, no recovery and no reports.
Arguments: database, run, number of STFs (which are registered). The last line is a JSON object.
"""

from __future__ import annotations

import json
import sqlite3
import sys
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

from bench.links import Rest, Topic
from bench.recorder import TF_PER_STF
from bench.testbed import STF_BYTES
from fastmon_daemon.base.clock import format_timestamp, utcnow
from fastmon_daemon.outbox import open_outbox
from fastmon_daemon.testbed.daq_messages import RunMessages
from fastmon_daemon.testbed.testbed import NAMESPACE

AGENT = "bare-loop"
TF_COUNT = 1000

Row = dict[str, Any]


def main(database: Path, run: int, count: int) -> None:
    """Process *count* STFs of *run*, one after the other."""
    open_outbox(database).close()  # the daemon's tables and indexes
    db = sqlite3.connect(database, isolation_level=None)
    db.execute("pragma synchronous = full")
    rest, topic = Rest(), Topic()
    messages = RunMessages(namespace=NAMESPACE, run=run, size=STF_BYTES, began=utcnow(), now=utcnow)
    bodies = [json.dumps(messages.stf_ready(sequence)) for sequence in range(1, count + 1)]
    began, cpu = time.monotonic(), time.process_time()
    for sequence, body in enumerate(bodies, start=1):
        process(db, rest, topic, json.loads(body), body, sequence)
    used = {"cpu_s": time.process_time() - cpu, "wall_s": time.monotonic() - began, "stfs": count}
    db.close()
    print(json.dumps(used))


def process(db: sqlite3.Connection, rest: Rest, topic: Topic, stf: Row, body: str, number: int) -> None:
    """The life of one STF: received, sampled, registered, announced, completed."""
    now = format_timestamp(utcnow())
    db.execute("begin immediate")
    db.execute(
        "insert into stf (id, namespace, run, run_id, filename, sequence, size_bytes, body, origin, state, since,"
        " received_at, born_at, due_at) values (?, ?, ?, ?, ?, ?, ?, ?, 'message', 'received', ?, ?, ?, ?)",
        [number, NAMESPACE, stf["run_id"], json.dumps(stf["run_id"]), stf["filename"], stf["sequence"],
         stf["size_bytes"], body, now, now, now, now],
    )  # fmt: skip
    record(db, number, None, None, "received")
    db.execute("commit")

    tfs = sample(stf)
    db.execute("begin immediate")
    db.executemany(
        "insert into tf (stf, sequence, filename, first, last, count, size_bytes) values (?, ?, ?, ?, ?, ?, ?)",
        [[number, tf["tf_sequence"], tf["tf_filename"], tf["tf_first"], tf["tf_last"], tf["tf_count"],
          tf["file_size_bytes"]] for tf in tfs],
    )  # fmt: skip
    move(db, number, "sample_tfs", "received", "sampled")
    db.execute("commit")

    for tf in tfs:
        tf["tf_file_id"] = rest.post("fastmon-files/", registration(stf, tf))["tf_file_id"]
    now = format_timestamp(utcnow())
    db.execute("begin immediate")
    db.executemany(
        "update tf set monitor_id = ?, registered_at = ? where stf = ? and sequence = ?",
        [[tf["tf_file_id"], now, number, tf["tf_sequence"]] for tf in tfs],
    )
    move(db, number, "register_tfs", "sampled", "tf_registered")
    db.execute("commit")

    topic.send([announcement(stf, tf) for tf in tfs])
    now = format_timestamp(utcnow())
    db.execute("begin immediate")
    db.executemany(
        "update tf set announced_at = ? where stf = ? and sequence = ?",
        [[now, number, tf["tf_sequence"]] for tf in tfs],
    )
    move(db, number, "notify_clients", "tf_registered", "notified")
    move(db, number, "close_stf", "notified", "completed")
    db.execute("update stf set due_at = null where id = ?", [number])
    db.execute("commit")


def sample(stf: Row) -> list[Row]:
    """One TF range in each of the equal partitions of the STF."""
    step = TF_COUNT // TF_PER_STF
    length = int(0.15 * step)
    return [
        {
            "tf_sequence": n + 1, "tf_filename": f"{stf['filename'].removesuffix('.stf')}_tf_{n + 1:03d}.tf",
            "tf_first": n * step, "tf_last": n * step + length - 1, "tf_count": length,
            "file_size_bytes": stf["size_bytes"] * length // TF_COUNT,
        }
        for n in range(TF_PER_STF)
    ]  # fmt: skip


def registration(stf: Row, tf: Row) -> Row:
    """The row of a TF file, as it is sent to the monitor."""
    row = {name: tf[name] for name in ("tf_filename", "tf_first", "tf_last", "tf_count", "file_size_bytes")}
    return row | {"stf_file": stf["filename"], "status": "registered", "metadata": metadata(stf)}


def metadata(stf: Row) -> Row:
    """The fields that the daemon stores with a TF file."""
    return {
        "simulation": True, "created_from": stf["filename"], "agent_name": AGENT, "namespace": NAMESPACE,
        "received_at": format_timestamp(utcnow()), "selection_fraction": 1.0,
        "state": stf["state"], "substate": stf["substate"], "start": stf["start"],
        "end": stf["end"], "tf_size_fraction": 0.15, "tf_files_per_stf": TF_PER_STF, "tf_count_per_stf": TF_COUNT,
        "tf_sequence_start": 1, "sampling_seed": "0" * 64, "sampling_version": "v1",
    }  # fmt: skip


def announcement(stf: Row, tf: Row) -> str:
    """The message that a TF file is registered, with the daemon's fields."""
    return json.dumps({
        "msg_type": "tf_file_registered", "event_id": str(uuid4()), "sender": AGENT, "processed_by": AGENT,
        "timestamp": format_timestamp(utcnow()), "status": "registered", "namespace": NAMESPACE,
        "run_id": stf["run_id"], "run_number": int(stf["run_id"]), "execution_id": None, **tf,
        "tf_total": TF_PER_STF, "stf_filename": stf["filename"], "stf_sequence": stf["sequence"],
        "selection_fraction": 1.0, "previous_selected": None, "late": False,
    })  # fmt: skip


def move(db: sqlite3.Connection, number: int, trigger: str, source: str, dest: str) -> None:
    """Move an STF, with a row of its history."""
    now = format_timestamp(utcnow())
    db.execute("update stf set state = ?, since = ? where id = ? and state = ?", [dest, now, number, source])
    record(db, number, trigger, source, dest)


def record(db: sqlite3.Connection, number: int, trigger: str | None, source: str | None, dest: str) -> None:
    """Add a row to the history of an STF."""
    db.execute(
        "insert into history (stf, life, trigger, source, dest, at) values (?, 1, ?, ?, ?, ?)",
        [number, trigger, source, dest, format_timestamp(utcnow())],
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
