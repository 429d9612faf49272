"""Reads the profiles of a run and of its reference run from the monitor's tables, some calls at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from fastmon_client.monitor_session import AccessDenied
from fastmon_client.monitor_tables import MonitorUnavailable, Tables
from fastmon_client.profile import Profile, compare
from fastmon_client.snapshot import ProfileRow, ReferenceRow

CALLS_AT_ONCE = 100
"""TF files of so many STFs are read before anything else may be asked."""
PAUSE_S = 2.0
EVERY_S = 60.0
MAX_PROFILES = 10


class ProfileReader:
    """Belongs to one thread. Raises: MonitorUnavailable, AccessDenied, LookupError if there is no such run."""

    def __init__(self, tables: Tables, now: Callable[[], datetime]) -> None:
        self._tables, self._now = tables, now
        self._profiles: dict[str, Profile] = {}

    def read(self, run: str, calls: int = CALLS_AT_ONCE) -> ProfileRow:
        """The profile of *run* after at most *calls* more calls for TF files; `to_read` STFs are left."""
        profile = self._profiles.pop(run, None) or Profile(run)
        if not profile.has_ended or not profile.row()["stfs"] or profile.to_read():
            self._read(profile, calls)
        self._profiles[run] = profile
        if len(self._profiles) > MAX_PROFILES:
            del self._profiles[next(iter(self._profiles))]
        return profile.row()

    def _read(self, profile: Profile, calls: int) -> None:
        number = int(profile.run) if profile.run.isascii() and profile.run.isdigit() else None
        row = next((row for row in self._tables.runs() if row.get("run_number") == number), None)
        if number is None or row is None:
            raise LookupError(f"the monitor has no run {profile.run}")
        profile.record_row(row)
        profile.record_listing(self._tables.stfs(number), self._now())
        for _ in range(calls):
            if not (left := profile.to_read()):
                break
            profile.record_tf_files(left[0], self._tables.tf_files(left[0]))


@dataclass(frozen=True, slots=True)
class ReferenceResult:
    """How the run of now compares with the reference run."""

    row: ReferenceRow


class ReferenceWatch:
    """Compares the current run with the run *reference*, in a thread of its own; each result goes to `put`."""

    def __init__(self, tables: Tables, reference: str, now: Callable[[], datetime]) -> None:
        self._tables, self._reference = tables, reference
        self._reader = ProfileReader(tables, now)
        self._stopped = threading.Event()

    def start(self, current: Callable[[str], str | None], put: Callable[[ReferenceResult], None]) -> None:
        """Start the thread; *current* names the run to compare, besides the reference."""
        threading.Thread(target=self._run, args=(current, put), name="reference", daemon=True).start()

    def stop(self) -> None:
        """End after the current call."""
        self._stopped.set()

    def _run(self, current: Callable[[str], str | None], put: Callable[[ReferenceResult], None]) -> None:
        pause = 0.0
        while not self._stopped.wait(pause):
            result, is_behind = self._compare(current(self._reference))
            put(result)
            pause = PAUSE_S if is_behind else EVERY_S
        self._tables.close()

    def _compare(self, run: str | None) -> tuple[ReferenceResult, bool]:
        good: ProfileRow = Profile(self._reference).row()
        now_: ProfileRow | None = None
        problem = ""
        try:
            good = self._reader.read(self._reference)
            if run is not None and not good["to_read"]:
                now_ = self._reader.read(run)
        except (MonitorUnavailable, AccessDenied, LookupError) as exc:
            problem = str(exc)
        except Exception as exc:  # noqa: BLE001 (a dead thread would say nothing any more)
            problem = f"cannot read the monitor's tables: {type(exc).__name__}"
        is_behind = bool(good["to_read"] or (now_ and now_["to_read"]) or (run is None and not problem))
        return ReferenceResult(compare(now_, good, problem)), is_behind
