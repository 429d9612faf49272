"""What is found in the outbox by number or by name: STFs and refused messages; and what a person drops by it."""

from __future__ import annotations

from collections.abc import Collection

from sqlite_utils import Database

from fastmon_daemon.outbox.rows import Stf, Tf
from fastmon_daemon.outbox.selecting import STF_COLUMNS, read_stf, read_tf


class Lookups:
    """The part of `Outbox` that finds and drops by number or name; it writes inside the transactions of that."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def get(self, stf_id: int) -> Stf:
        """The STF as it stands on disk. Raises `KeyError` for an id that is not there."""
        row = self._db.execute(f"select {STF_COLUMNS} where stf.id = ?", [stf_id]).fetchone()
        if row is None:
            raise KeyError(stf_id)
        return read_stf(row, self._tfs(stf_id))

    def _tfs(self, stf_id: int) -> tuple[Tf, ...]:
        rows = self._db.execute("select * from tf where stf = ? order by sequence", [stf_id])
        return tuple(read_tf(row) for row in rows)

    def find(self, *, filename: str | None = None, run: str | None = None, namespace: str | None = None) -> list[Stf]:
        """The STFs with all of the properties that are given, oldest first."""
        given = {"filename": filename, "run": run, "namespace": namespace}
        wanted = {key: value for key, value in given.items() if value is not None}
        where = " and ".join(f"{key} = ?" for key in wanted) or "1"
        rows = self._db.execute(f"select id from stf where {where} order by id", list(wanted.values()))  # noqa: S608
        return [self.get(stf_id) for (stf_id,) in rows.fetchall()]

    def longest_in(self, state: str, until: str, most: int, run: str | None, namespace: str | None) -> list[Stf]:
        """Up to *most* STFs that came into *state* until then, the longest there first."""
        rows = self._db.execute(
            "select id from stf where state = ? and since <= ? and run = coalesce(?, run)"
            " and namespace = coalesce(?, namespace) order by since, id limit ?",
            [state, until, run, namespace, most],
        )
        return [self.get(stf_id) for (stf_id,) in rows.fetchall()]

    def refused(self, ids: Collection[int]) -> dict[int, tuple[str, bool]]:
        """Those of the refused messages that are still kept, by number: the body, and whether it was kept whole."""
        query = f"select id, body, reason from refused where id in ({', '.join('?' * len(ids))}) order by id"  # noqa: S608
        rows = self._db.execute(query, list(ids)).fetchall()
        return {number: (body, "(kept: the first " not in reason) for number, body, reason in rows}

    def note_last_received(self, note: str) -> None:
        """Add a note to the history row of the STF that was received last, in the same transaction."""
        self._db.execute(
            "update history set note = note || ', ' || ?"
            " where id = (select max(id) from history where trigger is null)",
            [note],
        )

    def drop_refused(self, number: int) -> None:
        """A refused message was taken in after all."""
        self._db.execute("delete from refused where id = ?", [number])

    def forget_stfs(self, run: str, namespace: str, most: int) -> int:
        """Drop up to *most* STFs of a run; how many it were."""
        those = "select id from stf where run = ? and namespace = ? limit ?"
        return self._db.execute(f"delete from stf where id in ({those})", [run, namespace, most]).rowcount  # noqa: S608

    def forget_run(self, run: str, namespace: str) -> None:
        """Drop all else that is known of a run."""
        for table in ("pruned", "pruned_run", "run"):
            self._db.execute(f"delete from {table} where run = ? and namespace = ?", [run, namespace])  # noqa: S608

    def namespaces_of(self, run: str) -> list[str]:
        """The namespaces in which a run of that number is known."""
        query = "select namespace from stf where run = :run union select namespace from run where run = :run order by 1"
        return [namespace for (namespace,) in self._db.execute(query, {"run": run})]
