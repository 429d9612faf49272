"""The tables of docs/reference/: exit codes from the help of the commands, the database from a fresh one."""

from __future__ import annotations

import re
from pathlib import Path
from tempfile import TemporaryDirectory

import click
from sqlite_utils import Database

from fastmon_daemon.outbox import open_outbox

_CODE = re.compile(r", (?=[0-9]+ )")
_OF_ALL = {"2", "74"}
"""Codes of every command, which docs/reference/exit-codes.md explains once."""

TABLES = {
    "stf": "One row for each STF.",
    "tf": "One row for each TF file of a sample.",
    "history": "One row for each transition of an STF, also its receipt; rows are only added.",
    "run": "One row for each run.",
    "outage": "One row for each period in which a link was down or blocked, or the daemon itself.",
    "rejected": "One row for each message that is ours but could not be taken.",
    "elsewhere": "One row for each STF of our runs that another daemon processes, or has processed.",
    "act": "One row for each action of an operator.",
    "stf_count": "The number of STFs by run and state; triggers keep it.",
    "pruned_run": "What is kept of a run whose STFs were deleted.",
    "pruned": "The names of deleted STFs, so that a late message of one is recognized.",
    "file_seen": "The files of the watched folders that were taken.",
    "meta": "What the daemon remembers across starts.",
    "_sqlite_migrations": "The migrations that were applied; kept by sqlite-utils.",
}
"""Table -> what its rows are, in the order of the document."""

COLUMNS = {
    "stf.id": "number of the STF in this database",
    "stf.namespace": "namespace of the run",
    "stf.run": "the run, without leading zeros",
    "stf.run_id": "the run as it came, as JSON: text or a number",
    "stf.filename": "name; unique in namespace and run",
    "stf.sequence": "number in its run, from 1",
    "stf.size_bytes": "size; null: unknown",
    "stf.checksum": "checksum of the message",
    "stf.tf_count": "number of TFs; null: unknown, the setting was used",
    "stf.execution_id": "execution of the workflow",
    "stf.body": "the message, or the monitor's row, as JSON",
    "stf.origin": "`message`, `polled`, `recovered` or `file`",
    "stf.included": "1: an operator included it although it was not selected",
    "stf.state": "state in the statechart",
    "stf.life": "1, and one more for each `retry` or `include`",
    "stf.since": "when it entered its state",
    "stf.received_at": "when it was stored",
    "stf.born_at": "when it was created: its message, or the monitor's row",
    "stf.due_at": "when its next step may begin; null: finalized",
    "stf.attempts": "failed attempts in this state",
    "stf.spent_s": "seconds of the retry budget used in this state",
    "stf.last_error": "why the last attempt failed",
    "stf.remark": "what the next transition notes in the history",
    "stf.plan": "all inputs of the sample, as JSON",
    "stf.preexisting": "TF files that the monitor had before fastmon, as JSON",
    "stf.workflow_id": "the monitor's id of its workflow",
    "stf.stage_id": "the monitor's id of its workflow stage",
    "stf.unreportable": "why its stage cannot be reported",
    "tf.stf": "`id` of the STF",
    "tf.sequence": "number of the TF file in its STF",
    "tf.filename": "name, unique at the monitor",
    "tf.first": "first TF, from 0",
    "tf.last": "last TF, inclusive",
    "tf.count": "number of TFs",
    "tf.size_bytes": "size; null: unknown",
    "tf.monitor_id": "the monitor's id (UUID); null: not registered",
    "tf.registered_at": "when it was registered",
    "tf.announced_at": "when the broker confirmed its announcement",
    "tf.adopted": "how the monitor's row differs, if another writer was first",
    "history.id": "order of the transitions",
    "history.stf": "`id` of the STF",
    "history.life": "life of the STF at that time",
    "history.trigger": "trigger of the transition; null: received",
    "history.source": "state before; null: received",
    "history.dest": "state after",
    "history.at": "when",
    "history.note": "reason, or who acted",
    "history.reported_at": "when the monitor's stage had it; null: pending, empty: not to be reported yet",
    "run.namespace": "namespace",
    "run.run": "the run, without leading zeros",
    "run.run_id": "the run as it came, as JSON: text or a number",
    "run.state": "state in the statechart of runs",
    "run.execution_id": "execution of the workflow",
    "run.expected": "total number of STFs; null: unknown",
    "run.last_message_at": "when the last message of the run came",
    "run.ended_at": "when it ended",
    "run.poll_at": "when the monitor is asked next; null: not polled",
    "run.polls": "polls so far",
    "run.reconcile_error": "why the last poll failed",
    "run.nameless": "1: announced without filenames, so that only the monitor lists its STFs",
    "run.expected_by": "who told `expected`: `end_run` or `monitor`",
    "run.ended_by": "how fastmon learned of the end",
    "run.last_sequence": "highest number of an STF",
    "run.monitor_count": "STFs that the monitor listed in the last poll",
    "run.absent": "STFs that the monitor lists and that are not stored yet, as JSON",
    "run.verdict": "the verdict when the run became complete, as JSON",
    "run.summary_at": "when `fastmon_run_summary` was sent",
    "run.claimed": "1: the run is ours; 0: only its announced STFs are",
    "run.other_namespace": "whose TF files are in the run, if that is why it is not ours",
    "run.unlisted": "STFs with TF files that the monitor does not list, as JSON",
    "outage.id": "order of the outages",
    "outage.link": "`monitor`, `broker`, `announcements`; `daemon`: it was not running",
    "outage.began_at": "when it began",
    "outage.ended_at": "when it ended; null: not yet",
    "outage.reason": "why",
    "outage.blocked": "1: the link answers, but rejects us until an operator acts",
    "outage.next_probe_at": "when the link is tried next",
    "rejected.id": "number for `replay`",
    "rejected.at": "when it came",
    "rejected.reason": "why it was not taken",
    "rejected.bytes": "size as received",
    "rejected.body": "the message, its beginning if it is long",
    "rejected.is_whole": "1: `body` is all of it",
    "elsewhere.namespace": "namespace",
    "elsewhere.run": "run",
    "elsewhere.filename": "STF",
    "elsewhere.agent": "name of the other daemon",
    "elsewhere.finished": "1: the other daemon has finished it",
    "act.id": "order of the actions",
    "act.at": "when",
    "act.action": "`retry`, `discard`, `include`, `replay`, `purge` and others",
    "act.who": "user name",
    "act.reason": "`--reason`",
    "act.subject": "STF, run or message that was named",
    "act.count": "how many STFs or messages",
    "act.requested_at": "when the command was given; empty: unknown",
    "stf_count.namespace": "namespace",
    "stf_count.run": "run",
    "stf_count.state": "state",
    "stf_count.stfs": "number of STFs",
    "pruned_run.namespace": "namespace",
    "pruned_run.run": "run",
    "pruned_run.at": "when its STFs were deleted",
    "pruned_run.states": "state -> number of deleted STFs, as JSON",
    "pruned_run.tf_files": "number of their TF files",
    "pruned.namespace": "namespace",
    "pruned.run": "run",
    "pruned.filename": "STF",
    "file_seen.fingerprint": "device, inode, size and time of the last change: a renamed file keeps it",
    "file_seen.filename": "name when it was taken",
    "meta.key": "`count:...` for counters, agent name, heart-beat, fractions",
    "meta.value": "text, often JSON",
    "_sqlite_migrations.id": "order",
    "_sqlite_migrations.migration_set": "`fastmon`",
    "_sqlite_migrations.name": "name of the migration",
    "_sqlite_migrations.applied_at": "when it was applied",
}
"""Column -> its meaning."""


def exit_codes(program: click.Group) -> str:
    """A row for each command of *program* with its codes, but those of every command."""
    context = click.Context(program)
    rows = []
    for name in program.list_commands(context):
        command = program.get_command(context, name)
        assert command is not None
        said = " ".join(f"{command.help} {command.epilog or ''}".split()).partition("Exit codes: ")[2]
        pairs = (each.partition(" ") for each in _CODE.split(said.rstrip(".")) if each)
        meanings = "; ".join(f"**{code}** {meaning}" for code, _, meaning in pairs if code not in _OF_ALL)
        rows.append(f"| `{name}` | {meanings or '**0** done'} |\n")
    return f"| Command | Exit codes |\n|---|---|\n{''.join(rows)}"


def database_tables() -> str:
    """Each table of a fresh database, with its columns. Raises: ValueError if one has no meaning."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "outbox.db"
        open_outbox(path).close()
        database = Database(path)
        try:
            found = {name: _table(database, name) for name in database.table_names()}
            named = {f"{table}.{column.name}" for table in found for column in database.table(table).columns}
        finally:
            database.close()
    if wrong := (found.keys() ^ TABLES.keys()) | (named ^ COLUMNS.keys()):
        raise ValueError(f"without a meaning, or not in the database: {', '.join(sorted(wrong))}")
    return "\n".join(f"### {name}\n\n{meaning}\n\n{found[name]}" for name, meaning in TABLES.items())


def _table(database: Database, name: str) -> str:
    table = database.table(name)
    rows = "".join(
        f"| `{column.name}` | {column.type.lower()} | {'no' if column.notnull or column.is_pk else 'null'}"
        f" | {COLUMNS.get(f'{name}.{column.name}')} |\n"
        for column in table.columns
    )
    keys = ", ".join(f"`{key}`" for key in table.pks)
    return f"| Column | Type | Null | Meaning |\n|---|---|---|---|\n{rows}\nPrimary key: {keys}.\n"
