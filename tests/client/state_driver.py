"""Drives an `AppState` by hand: run 7, its STFs, its TF files."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from fastmon_client.app_state import AppState, Earlier
from fastmon_client.intervals import Intervals
from fastmon_client.message_filter import MessageFilter

T0 = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)
LONG_AGO = T0 - timedelta(hours=1)


class StateDriver:
    """An `AppState` and its clock."""

    def __init__(
        self, *, run_ids: tuple[str, ...] = (), namespace: str | None = None, connected: bool = True,
        types: tuple[str, ...] = ("tf_file_registered",), agents: tuple[str, ...] = (),
        topic: str | None = None, earlier: Earlier = Earlier(), **changes: Any,  # noqa: B008 (frozen)
    ) -> None:  # fmt: skip
        filter_ = MessageFilter(types=types, agents=agents, run_ids=run_ids, namespace=namespace)
        self.now = T0
        self.state = AppState(
            "http://localhost", filter_, T0, intervals=Intervals(**changes), topic=topic, earlier=earlier
        )
        if connected:
            self.state.connected(T0)

    def wait(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def receive(self, **message: Any) -> bool:
        return self.state.receive(message, self.now)

    def send_run_event(self, kind: str, **more: Any) -> None:
        self.receive(msg_type=kind, run_id=7, namespace="ns", **more)

    def tf(self, sequence: int, number: int = 1, **changes: Any) -> bool:
        return self.receive(**announcement(sequence, number) | changes)

    def compare(self, registered: list[int], tf_files: dict[int, int], since: datetime = LONG_AGO) -> list[str]:
        """A comparison with a monitor that has these STFs and TF file counts; returns the queried STFs."""
        queried = self.state.record_stfs("7", [(stf(n), since) for n in registered], self.now)
        for name in queried:
            sequence = int(name.split(".")[2])
            rows = [row(sequence, number) for number in range(1, tf_files.get(sequence, 0) + 1)]
            self.state.record_tf_files("7", name, rows, self.now)
        self.state.finish_comparison("7", None, self.now)
        return queried

    @property
    def row(self) -> dict[str, Any]:
        return dict(self.state.snapshot(self.now)["runs"][0])

    @property
    def strip(self) -> dict[int, str]:
        return {cell["sequence"]: cell["kind"] for cell in self.row["strip"]}

    def alarms(self) -> list[str]:
        self.state.tick(self.now)
        return [alarm["kind"] for alarm in self.state.snapshot(self.now)["alarms"] if alarm["until"] is None]


def stf(sequence: int) -> str:
    return f"swf.7.{sequence:06d}.stf"


def announcement(sequence: int, number: int, *, total: int = 2, fraction: float | None = 1.0) -> dict[str, Any]:
    return {
        "msg_type": "tf_file_registered", "run_id": "7", "namespace": "ns", "stf_filename": stf(sequence),
        "tf_filename": f"swf.7.{sequence:06d}_tf_{number:03d}.tf", "tf_file_id": f"{sequence}/{number}",
        "stf_sequence": sequence, "tf_total": total, "selection_fraction": fraction, "file_size_bytes": 10,
        "timestamp": T0.isoformat(),
    }  # fmt: skip


def row(sequence: int, number: int) -> dict[str, Any]:
    message = announcement(sequence, number)
    fields = ("tf_file_id", "tf_filename", "file_size_bytes")
    return {"stf_file": stf(sequence), "created_at": T0.isoformat()} | {key: message[key] for key in fields}
