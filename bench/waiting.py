"""Prepares the database of a daemon that was away: thousands of STFs that were received and not processed."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path

from bench.testbed import STF_BYTES
from fastmon_daemon.base.clock import Clock, utcnow
from fastmon_daemon.intake.handler import MessageHandler
from fastmon_daemon.outbox import open_outbox
from fastmon_daemon.statechart import load_statechart
from fastmon_daemon.testbed.daq_messages import RunMessages, stf_name
from fastmon_daemon.testbed.testbed import NAMESPACE

STF_PERIOD_S = 0.6


def waiting_stfs(database: Path, run: int, count: int) -> None:
    """Create *database* with STFs 1 to *count* of *run* waiting, one for each 0.6 s until now.

    The first is stored by the daemon's own code; the others are copies of its rows.
    """
    first_at = utcnow() - timedelta(seconds=count * STF_PERIOD_S)
    open_outbox(database).close()
    messages = RunMessages(namespace=NAMESPACE, run=run, size=STF_BYTES, began=first_at, now=lambda: first_at)
    charts = (load_statechart("stf"), load_statechart("run"))
    handler = MessageHandler(database, NAMESPACE, "fastmon-agent-bench", charts, clock=Clock(now=lambda: first_at))
    for message in (messages.start_run(), messages.stf_ready(1)):
        store = handler.prepare(json.dumps(message))
        assert store is not None
        store()
    with closing(sqlite3.connect(database, isolation_level=None)) as db:
        _copy(db, "stf", run, count)
        _copy(db, "history", run, count)
        db.execute("update run set last_sequence = ?", [count])


def _copy(db: sqlite3.Connection, table: str, run: int, count: int) -> None:
    """Copy row 1 of *table* for STFs 2 to *count*, each 0.6 s younger."""
    columns = [row[1] for row in db.execute(f"pragma table_info({table})")]
    changed = {
        "id": "n", "stf": "n", "sequence": "n",
        "filename": "replace(filename, :first, printf(:pattern, n))",
        "body": "replace(replace(body, :first, printf(:pattern, n)), '\"sequence\": 1,', '\"sequence\": ' || n || ',')",
        **{name: _later(name) for name in ("since", "received_at", "born_at", "due_at", "at")},
    }  # fmt: skip
    values = ", ".join(changed.get(name, name) for name in columns)
    db.execute(
        f"with recursive numbers (n) as (select 2 union all select n + 1 from numbers where n < :count)"
        f" insert into {table} ({', '.join(columns)}) select {values} from numbers, {table} where id = 1",
        {"count": count, "first": stf_name(run, 1), "pattern": f"swf.{run}.%06d.stf", "period": STF_PERIOD_S},
    )


def _later(column: str) -> str:
    """SQL: the time in *column*, as the daemon writes it, `(n - 1)` periods later."""
    return f"strftime('%Y-%m-%dT%H:%M:%f', {column}, ((n - 1) * :period) || ' seconds') || '+00:00'"
