"""Which selection fraction holds for which run: a change holds from the next run on, also after a crash."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

from fastmon_daemon.engine.sampling import is_selected
from fastmon_daemon.outbox import Outbox, RunRow

_KEY = "selection_fractions"


class SelectionFractions:
    """The fraction of each run. What changes nothing is for any thread, `change` for the engine's."""

    def __init__(self, current: float, earlier: Mapping[tuple[str, str], float] | None = None) -> None:
        """*current* is that of runs that begin now; *earlier* has others: (namespace, run) -> fraction."""
        self._state = current, dict(earlier or {})

    @classmethod
    def load(cls, outbox: Outbox, current: float) -> SelectionFractions:
        """Return what `change` stored; a restart with another *current* changes that of all runs."""
        stored = json.loads(outbox.recall(_KEY) or "{}")
        if stored.get("current") != current:
            return cls(current)
        return cls(current, {(namespace, run): value for namespace, run, value in stored["earlier"]})

    @property
    def current(self) -> float:
        """The fraction of runs that begin now."""
        return self._state[0]

    def of(self, namespace: str, run: str) -> float:
        """Return the fraction of one run."""
        current, earlier = self._state
        return earlier.get((namespace, run), current)

    def selects(self, run: RunRow, sequence: int | None, filename: str) -> bool:
        """Whether the STF of *run* with this sequence and file name is selected."""
        return is_selected(self.of(run.namespace, run.run), sequence, filename)

    def change(self, outbox: Outbox, current: float) -> Callable[[], None]:
        """Store that *current* holds for all runs that are not stored yet; the others keep their fractions.

        Needs a transaction; call what is returned once it is on disk.
        """
        kept = {key: self.of(*key) for key in outbox.runs.unpruned_names()}
        earlier = {key: value for key, value in kept.items() if value != current}
        rows = [[*key, value] for key, value in earlier.items()]
        outbox.remember(_KEY, json.dumps({"current": current, "earlier": rows}))

        def use() -> None:
            self._state = current, earlier

        return use
