"""Writes docs/reliability.md from the lines of a complete run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tests.faults.matrix import all_rows
from tests.faults.scenario import WORKERS
from tests.real_brokers.install import ARTEMIS_VERSION, classic_version

DOCUMENT = Path(__file__).parents[2] / "docs" / "reliability.md"
COMMANDS = {"short": "make test-faults", "long": "make test-faults-long"}
_COLUMNS = (
    "", "fault", "broker", "sent", "completed", "failed", "lost", "registered twice", "announced", "announced twice",
    "illegal histories", "recovered in", "",
)  # fmt: skip
_HEAD = """# Reliability: what was broken, and what it cost

Written by `{command}` (the {form} form); do not edit. Each line is one row of `tests/faults/`: the daemon as a process,
the embedded monitor, and a broker: the embedded one, ActiveMQ Classic {classic} or Artemis {artemis}. After each row,
the monitor's table of TF files and the announcements on the topic are compared with the outbox
(`tests/faults/account.py`); `tests/faults/test_account.py` shows that each kind of problem is found.

- **lost**: an STF that the broker accepted and that is not `completed` (or `failed`, if the row expects it), or one of
  its TF files that is not in the monitor or was never announced.
- **registered twice**: a TF file in the monitor that is not in the outbox, has another range, size, STF or id there, or
  overlaps another TF file; or an STF whose TF files are not the sample drawn for it.
- **announced twice**: announcements beyond one per TF file. At most {workers} for each cut: those in flight
  (FASTMON_WORKERS). None on Artemis, which drops messages with an event id that it has seen.
- **illegal histories**: STFs whose history does not follow the transitions of `statecharts/stf.yaml`, each transition
  once per life.
- **recovered in**: seconds from the end of the fault (the link is up again, the last restart) until the last STF was
  finalized; for faults that do not end, from the last message.

"""


def render(form: str, lines: Sequence[dict[str, Any]]) -> str:
    """Return the text of the document."""
    head = _HEAD.format(
        command=COMMANDS[form], form=form, classic=classic_version(), artemis=ARTEMIS_VERSION, workers=WORKERS
    )
    return head + _table(lines)


def publish(form: str, lines: Sequence[dict[str, Any]]) -> str:
    """Write the document if every row was run; return a message, with the table if rows are missing."""
    missing = expected() - {(line["title"], line["broker"]) for line in lines}
    if missing:
        return f"{_table(lines)}{len(missing)} rows were not run: {DOCUMENT.name} is not changed"
    DOCUMENT.write_text(render(form, lines), encoding="utf-8")
    return f"docs/{DOCUMENT.name} is written, {len(lines)} lines"


def expected() -> set[tuple[str, str]]:
    """(title, broker) of every line that the document must have."""
    return {(row.title, kind) for row in all_rows() for kind in row.brokers}


def _table(lines: Sequence[dict[str, Any]]) -> str:
    order = {kind: place for place, kind in enumerate(("embedded", "classic", "artemis"))}
    rows = [
        _row(line) for line in sorted(lines, key=lambda each: (each["number"], each["title"], order[each["broker"]]))
    ]
    table = [_COLUMNS, ("--:", "---", "---", *["--:"] * (len(_COLUMNS) - 4), "---"), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in table)


def _row(line: dict[str, Any]) -> Iterable[str]:
    result = line["result"]
    start = (str(line["number"]), line["title"], line["broker"])
    if result is None:
        return (*start, *[""] * 9, "**FAILED**")
    counts = ("sent", "completed", "failed", "lost", "registered_twice", "announced", "announced_twice", "illegal")
    seconds = "" if result["seconds"] is None else f"{result['seconds']:.0f} s"
    note = result["note"] if line["passed"] else f"**FAILED** {result['note']}"
    return (*start, *(str(result[name]) for name in counts), seconds, note)
