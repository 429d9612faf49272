"""Writes the generated parts of the documents: help texts, tables of settings and metrics, .env.example, diagrams.

`make docs` runs it; with `--check` it writes nothing and exits with 1 if a document is outdated.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

import click
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from fastmon_client.cli import cli as client
from fastmon_client.dashboard.metrics import DashboardMetrics
from fastmon_daemon.base.clock import Clock
from fastmon_daemon.cli import COMMANDS
from fastmon_daemon.cli import cli as daemon
from fastmon_daemon.inspection.liveness import Liveness
from fastmon_daemon.inspection.metrics import MetricsCollector, ProcessGauges
from fastmon_daemon.outbox import open_outbox
from fastmon_daemon.presence.assessment import Assessor, ProcessState, assessment_rule
from fastmon_daemon.settings import Setting, all_settings
from fastmon_daemon.statechart import StatechartName, load_statechart
from fastmon_daemon.statechart.diagram import RENDERING, render

ROOT = Path(__file__).parent.parent
_BLOCK = re.compile(r"(<!-- generated: (.+?) -->\n).*?(<!-- end -->)", re.DOTALL)

_HEADINGS = {
    "monitor_url": "Monitor",
    "broker_host": "Broker",
    "subscribe": "Messages",
    "namespace": "Sampling",
    "db": "Daemon",
}
"""First field of a group -> heading of the group."""

_METRICS = {
    **dict.fromkeys(("fastmon_stfs", "fastmon_stf_", "fastmon_transition", "fastmon_attempts"), "STFs"),
    **dict.fromkeys(("fastmon_tf_files", "fastmon_announcements"), "STFs"),
    **dict.fromkeys(("fastmon_messages", "fastmon_rejected"), "Messages"),
    **dict.fromkeys(("fastmon_run", "fastmon_newest_run", "fastmon_unknown_runs"), "Runs"),
    **dict.fromkeys(("fastmon_link", "fastmon_outage", "fastmon_calls", "fastmon_monitor"), "Links"),
    **dict.fromkeys(("fastmon_stage", "fastmon_log"), "Presence"),
    "fastmon_": "Daemon",
}
"""Beginning of a name -> the group of the metric; the first that fits."""
_METRICS_HEAD = "| Name | Type | Labels | Meaning |\n|---|---|---|---|\n"

_INTRODUCTION = """\
# Settings of fastmon-daemon. Copy this file to .env in the working folder, or to ~/.env, and uncomment what you change.
# Keep it to yourself (chmod 600): a file that others can write is refused, a secret that others can read is warned of.
# Environment variables override .env, and .env overrides ~/.env. An empty value counts as not set.
# One NAME=value a line; values with spaces in quotes. A line that cannot be read is an error (exit code 78).
"""


def help_of(name: str) -> str:
    """The help text of a command, as a Markdown block."""
    program, _, command = name.partition(" ")
    group: click.Group = daemon if program == "fastmon-daemon" else client
    outer = click.Context(group, info_name=program, terminal_width=100, **group.context_settings)
    found = group.get_command(outer, command)
    assert found is not None
    context = click.Context(found, parent=outer, info_name=command)
    return f"```\n$ {name} --help\n{found.get_help(context)}\n```\n"


def block(name: str) -> str:
    """The generated block *name*: `settings`, `metrics`, or a command."""
    match name:
        case "settings":
            return settings_table().rstrip("\n") + "\n"
        case "metrics":
            return metrics_tables()
        case "dashboard metrics":
            page = DashboardMetrics(_idle_session, lambda: 0).render().decode()
            return _METRICS_HEAD + "".join(sorted(_metric_rows(page)))
        case _:
            return help_of(name)


def metrics_page() -> str:
    """Return the page of `/metrics` of a daemon that has done nothing yet."""
    with TemporaryDirectory() as folder:
        database = Path(folder) / "outbox.db"
        open_outbox(database).close()
        default = {field_name: setting.parse(setting.default) for field_name, setting in all_settings()}
        rule, clock = assessment_rule(default.__getitem__), Clock()
        links = dict.fromkeys(rule.stuck.links.values(), 0)
        collector = MetricsCollector(
            namespace="",
            selection_fraction=lambda: 0.0,
            database=database,
            assessor=Assessor(database, rule, ProcessState, clock),
            liveness=Liveness(clock.monotonic),
            gauges=ProcessGauges(buffered=lambda: 0, calls_in_flight=lambda: links, call_limits=lambda: links),
            clock=clock,
        )
        return collector.render().decode()


def metrics_tables() -> str:
    """Return a heading and a Markdown table for each group of metrics; each label with its values."""
    groups: dict[str, list[str]] = {title: [] for title in _METRICS.values()}
    for row in _metric_rows(metrics_page()):
        title = next(title for prefix, title in _METRICS.items() if row.startswith(f"| `{prefix}"))
        groups[title].append(row)
    return "\n".join(f"### {title}\n\n{_METRICS_HEAD}{''.join(sorted(rows))}" for title, rows in groups.items())


def _metric_rows(page: str) -> Iterator[str]:
    """A row of the table for each family of ours."""
    return (_metric_row(each) for each in text_string_to_metric_families(page) if each.name.startswith("fastmon_"))


def _idle_session() -> Mapping[str, Any]:
    """The parts of a snapshot that the dashboard's metrics show, before anything happened."""
    totals = dict.fromkeys(("tf_files", "backfilled", "duplicates"), 0)
    return {"connection": {"state": "", "heartbeat_age_s": None, "reconnects": 0}, "totals": totals, "alarms": []}


def _metric_row(family: Metric) -> str:
    values: dict[str, dict[str, None]] = {}
    for sample in family.samples:
        for label in sample.labels.keys() - {"le"}:
            values.setdefault(label, {})[sample.labels[label]] = None
    labels = "; ".join(
        f"`{label}`" + ("" if family.name.endswith("_info") else f": {', '.join(values[label])}")
        for label in sorted(values)
    )
    suffix = "_total" if family.type == "counter" else ""
    return f"| `{family.name}{suffix}` | {family.type} | {labels or '-'} | {family.documentation} |\n"


def env_example() -> str:
    """Return the text of `.env.example`: every setting commented out, with its default."""
    return _INTRODUCTION + "".join(_heading(field_name) + _example(setting) for field_name, setting in all_settings())


def settings_table() -> str:
    """Return a Markdown table of all settings: name, default, meaning."""
    rows = "".join(_row(setting) for _, setting in all_settings())
    return f"| Name | Default | Meaning |\n|---|---|---|\n{rows}"


def _heading(field_name: str) -> str:
    return f"\n# ---- {_HEADINGS[field_name]} ----\n" if field_name in _HEADINGS else ""


def _example(setting: Setting) -> str:
    notes = "".join(f"# {note}\n" for note in _notes(setting))
    return f"\n{notes}#{setting.names[0]}={setting.default}\n"


def _row(setting: Setting) -> str:
    default = f"`{setting.default}`" if setting.default else "-"
    return f"| `{setting.names[0]}` | {default} | {' '.join(_notes(setting))} |\n"


def _notes(setting: Setting) -> Iterator[str]:
    yield setting.meaning
    if setting.names[1:]:
        yield f"Alias: {', '.join(setting.names[1:])}."
    if setting.secret:
        files = " or ".join(f"{name}_FILE" for name in setting.names)
        yield f"Secret: {files} may name a file that contains it."


def export_all(folder: Path) -> list[Path]:
    """Write `{chart}.mmd` and `{chart}.svg` of every chart into *folder*; return the written files in order."""
    files = {}
    for name in get_args(StatechartName):
        chart = load_statechart(name)
        mermaid = render(chart, "mermaid")
        files[folder / f"{name}.mmd"] = mermaid
        files[folder / f"{name}.svg"] = _with_digest(render(chart, "svg"), mermaid)
    for path, text in files.items():
        path.write_text(text, encoding="utf-8")
    return list(files)


def is_exported_from(svg: str, mermaid: str) -> bool:
    """Whether `export_all` made *svg* from *mermaid* and it is unchanged. Rendering it again would take seconds."""
    picture, _, _ = svg.rpartition("<!-- drawn from ")
    return svg == _with_digest(picture, mermaid)


def _with_digest(svg: str, mermaid: str) -> str:
    digest = sha256(f"{mermaid}{RENDERING}{svg}".encode()).hexdigest()
    return f"{svg}<!-- drawn from {digest} -->\n"


def documents() -> dict[Path, str]:
    """The generated documents except the diagrams, with their expected text."""
    with_blocks = (ROOT / "README.md", ROOT / "docs" / "metrics.md")
    return {
        **{path: _BLOCK.sub(lambda found: found[1] + block(found[2]) + found[3], path.read_text(encoding="utf-8"))
           for path in with_blocks},
        ROOT / ".env.example": env_example(),
    }  # fmt: skip


def undocumented() -> set[str]:
    """Commands whose help is not in the README."""
    shown = {found[2] for found in _BLOCK.finditer((ROOT / "README.md").read_text(encoding="utf-8"))}
    commands = {f"fastmon-daemon {name}" for name in COMMANDS} | {f"fastmon-client {name}" for name in client.commands}
    return commands - shown


def stale() -> list[str]:
    """The documents and diagrams that are outdated."""
    expected = documents()
    with TemporaryDirectory() as folder:
        for drawn in export_all(Path(folder)):
            expected[ROOT / "statecharts" / drawn.name] = drawn.read_text(encoding="utf-8")
    return [str(path.relative_to(ROOT)) for path, text in expected.items()
            if not path.exists() or path.read_text(encoding="utf-8") != text]  # fmt: skip


def main() -> int:
    """Write the documents; with `--check` only compare them."""
    if "--check" in sys.argv[1:]:
        problems = stale() + sorted(f"README.md: the help of {name} is missing" for name in undocumented())
        print("\n".join(problems))
        return 1 if problems else 0
    for path, text in documents().items():
        path.write_text(text, encoding="utf-8")
    export_all(ROOT / "statecharts")
    return 0


if __name__ == "__main__":
    sys.exit(main())
