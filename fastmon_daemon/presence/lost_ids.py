"""Ids of workflows and stages that the monitor has and we do not: their answer was lost, or our database is new.

The monitor cannot look them up, but it sends its tables whole, the newest rows first: rarely, one bounded read of them
finds all that are lost.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from loguru import logger

from fastmon_daemon.base.backoff import Backoff
from fastmon_daemon.base.errors import FastmonError
from fastmon_daemon.messages import run_identity
from fastmon_daemon.monitor import STAGES, WORKFLOWS, AgentClient, UnreadableRow, id_in, optional_id_in, text_in
from fastmon_daemon.monitor.directory import AGENT_TYPE
from fastmon_daemon.outbox import StageKeys, Stf

EVERY_S = 600.0
"""Least seconds between two lookups."""
MAX_ROWS = 20_000
"""Rows of a table that a lookup reads. If that finds not all of them, the others stay lost, and so do later ones."""
_PAUSES = Backoff(first_s=EVERY_S, longest_s=86_400.0, shortest_s=EVERY_S)
"""Pauses after lookups that failed."""


@dataclass(slots=True, kw_only=True)
class _Lost:
    stf: Stf
    workflow_id: str | None
    stage_exists: bool
    """Whether the monitor said so."""
    stage_id: str | None = None
    other_run: str | None = None
    """The run that the monitor's workflow of this name belongs to, if it is another one."""

    @property
    def is_left(self) -> bool:
        """Whether what exists was not found."""
        return (self.stage_id is None and self.stage_exists) or (self.workflow_id is None and self.other_run is None)


class LostIds:
    """The STFs with a lost id, and the lookup of them. Used by one thread."""

    def __init__(self, client: AgentClient, agent_name: str, monotonic: Callable[[], float]) -> None:
        self._client = client
        self._agent_name = agent_name
        self._monotonic = monotonic
        self._lost: dict[int, _Lost] = {}
        self._not_before = monotonic()
        self._failures = 0
        self.hopeless = ""
        """Why no lookup can help any more; empty if one may."""

    def __contains__(self, stf_id: int) -> bool:
        return stf_id in self._lost

    def add(self, stf: Stf, workflow_id: str | None) -> None:
        """Note that the monitor has a stage of *stf*, or, if *workflow_id* is None, a workflow of that name."""
        self._lost[stf.id] = _Lost(stf=stf, workflow_id=workflow_id, stage_exists=workflow_id is not None)

    def look_up(self) -> dict[int, StageKeys]:
        """STF id -> its ids, or why it has none; empty if nothing is lost, or it is too early for a lookup."""
        if not self._lost or self._monotonic() < self._not_before:
            return {}
        logger.info("workflow stages: reading the monitor's tables: {} STFs have an unknown id there", len(self._lost))
        try:
            whole = self._find_workflows() & self._find_stages()
        except FastmonError as exc:
            self._failures += 1
            pause_s = _PAUSES.pause_s(self._failures, jitter=lambda: 1.0)
            self._not_before = self._monotonic() + pause_s
            logger.warning("workflow stages: lookup failed, retrying in {:.0f} s: {}", pause_s, exc)
            return {}
        self._failures, self._not_before = 0, self._monotonic() + EVERY_S
        if not whole and any(lost.is_left for lost in self._lost.values()):
            self.hopeless = f"not among the newest {MAX_ROWS} rows of the monitor's table"
        found = {stf_id: self._keys(lost) for stf_id, lost in self._lost.items()}
        for stf_id, keys in found.items():
            if keys.unreportable:
                logger.warning("{}: stage not reportable: {}", self._lost[stf_id].stf.filename, keys.unreportable)
        self._lost.clear()
        return found

    def _find_workflows(self) -> bool:
        """Find the workflows; False if the bound was reached before all were found."""
        wanted: dict[str, list[_Lost]] = {}
        for lost in self._lost.values():
            if lost.workflow_id is None:
                wanted.setdefault(lost.stf.filename, []).append(lost)

        def take(row: Any) -> bool:
            for lost in wanted.pop(text_in(row, "filename") or "", ()):
                run = optional_id_in(row, "run_id")
                if run is None or run_identity(run) == run_identity(lost.stf.run_id):
                    lost.workflow_id = id_in(row, "workflow_id")
                else:
                    lost.other_run = run
            return bool(wanted)

        return not wanted or self._read(WORKFLOWS, take)

    def _find_stages(self) -> bool:
        """Find our stages of the workflows; False if the bound was reached before all were found.

        A workflow whose answer was lost may have no stage: then the whole table is read.
        """
        wanted = {lost.workflow_id: lost for lost in self._lost.values() if lost.workflow_id is not None}

        def take(row: Any) -> bool:
            if (text_in(row, "agent_name"), text_in(row, "agent_type")) == (self._agent_name, AGENT_TYPE):
                lost = wanted.pop(id_in(row, "workflow"), None)
                if lost is not None:
                    lost.stage_id = id_in(row, "stage_id")
            return bool(wanted)

        return not wanted or self._read(STAGES, take)

    def _read(self, table: str, take: Callable[[Any], bool]) -> bool:
        """Pass rows to *take*; False if it wants more than `MAX_ROWS`. Rows of another shape are passed over."""
        rows = 0
        wants_more = True

        def take_bounded(row: Any) -> bool:
            nonlocal rows, wants_more
            rows += 1
            try:
                wants_more = take(row)
            except UnreadableRow as exc:
                logger.debug("workflow stages: a row of {} is passed over: {}", table, exc)
            return wants_more and rows < MAX_ROWS

        self._client.read_table(table, take_bounded)
        return not wants_more or rows < MAX_ROWS

    def _keys(self, lost: _Lost) -> StageKeys:
        reason = None
        if lost.other_run is not None:
            reason = f"the monitor has a workflow of this name for run {lost.other_run}"
        elif lost.is_left:
            what = "workflow" if lost.workflow_id is None else "stage"
            reason = f"its {what} is {self.hopeless or 'not in the table of the monitor, which says that it exists'}"
        return StageKeys(workflow_id=lost.workflow_id, stage_id=lost.stage_id, unreportable=reason)
