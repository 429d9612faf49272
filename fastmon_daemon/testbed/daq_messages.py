"""The messages of run control and data agent, with the fields of the recorded ones, nulls included."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

RUN_CONTROL = "workflow_runner-agent-testbed-1"
DATA_AGENT = "data-agent-testbed-2"
WORKFLOW = "stf_datataking"
FIRST_TICK = 5.0

Message = dict[str, Any]
PHYSICS = {"state": "run", "substate": "physics"}
STANDBY = {"state": "run", "substate": "standby"}
NOT_READY = {"state": "beam", "substate": "not_ready"}


def stf_name(run: int, sequence: int) -> str:
    """The file name of STF number *sequence* (from 1) of *run*."""
    return f"swf.{run}.{sequence:06d}.stf"


@dataclass(frozen=True, kw_only=True)
class RunMessages:
    """Builds the messages of one run. *now* returns aware datetimes; ``simulation_tick`` is in seconds."""

    namespace: str
    run: int
    size: int | None
    """Bytes of each STF; None becomes null in the messages."""
    began: datetime
    now: Callable[[], datetime]

    @property
    def execution_id(self) -> str:
        """The workflow execution to which the run belongs."""
        return f"{WORKFLOW}-testbed-{self.run}"

    def run_imminent(self) -> Message:
        """A run is about to begin."""
        return self._run_control("run_imminent") | NOT_READY | {"sender": RUN_CONTROL}

    def start_run(self) -> Message:
        """The run begins."""
        return self._run_control("start_run") | PHYSICS | {"sender": RUN_CONTROL}

    def pause_run(self) -> Message:
        """A short standby begins."""
        reason = {"reason": "Brief standby period", "sender": RUN_CONTROL}
        return self._run_control("pause_run") | STANDBY | reason

    def resume_run(self) -> Message:
        """The standby is over."""
        return self._run_control("resume_run") | PHYSICS | {"sender": RUN_CONTROL}

    def end_run(self, total_stf_files: int) -> Message:
        """The run is over and had *total_stf_files* STFs."""
        return self._run_control("end_run") | {"total_stf_files": total_stf_files, "sender": RUN_CONTROL}

    def stf_gen(self, sequence: int) -> Message:
        """The DAQ has written an STF."""
        message = self._run_control("stf_gen")
        stf = {"filename": stf_name(self.run, sequence), "sequence": sequence}
        when = {"timestamp": message.pop("timestamp"), "simulation_tick": message.pop("simulation_tick")}
        return message | stf | when | PHYSICS | {"sender": RUN_CONTROL}

    def stf_ready(self, sequence: int) -> Message:
        """An STF can be read: the example data agent sends one per STF."""
        return {
            "msg_type": "stf_ready",
            "namespace": self.namespace,
            "filename": stf_name(self.run, sequence),
            "run_id": str(self.run),
            "file_url": None,
            "checksum": None,
            "size_bytes": self.size,
            "start": None,
            "end": None,
            **PHYSICS,
            "sequence": sequence,
            "simulation_tick": self._tick(),
            "processed_by": DATA_AGENT,
            "sender": DATA_AGENT,
        }

    def run_ready(self) -> Message:
        """The run has STFs: the real data agent sends one ``stf_ready`` per run, without a filename."""
        return {
            "namespace": self.namespace,
            "sender": DATA_AGENT,
            "req_id": 1,
            "msg_type": "stf_ready",
            "run_id": self.run,
        }

    def local_time(self) -> str:
        """The current time in the agents' format: local, without offset."""
        return self.now().astimezone().replace(tzinfo=None).isoformat(timespec="microseconds")

    def _run_control(self, kind: str) -> Message:
        return {
            "msg_type": kind,
            "namespace": self.namespace,
            "execution_id": self.execution_id,
            "run_id": str(self.run),
            "timestamp": self.local_time(),
            "simulation_tick": self._tick(),
        }

    def _tick(self) -> float:
        return round(FIRST_TICK + (self.now() - self.began).total_seconds(), 1)
