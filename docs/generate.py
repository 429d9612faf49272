"""Writes the generated parts of the documents: help texts and the settings table in README.md, .env.example, diagrams.

`make docs` runs it; with `--check` it writes nothing and exits with 1 if a document is outdated.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from fastmon_client.cli import cli as client
from fastmon_daemon.cli import COMMANDS
from fastmon_daemon.cli import cli as daemon
from fastmon_daemon.settings.docs import env_example, settings_table
from fastmon_daemon.statechart.diagram import export_all

ROOT = Path(__file__).parent.parent
_BLOCK = re.compile(r"(<!-- generated: (.+?) -->\n).*?(<!-- end -->)", re.DOTALL)


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
    """The generated block *name*: `settings`, or a command."""
    return settings_table().rstrip("\n") + "\n" if name == "settings" else help_of(name)


def documents() -> dict[Path, str]:
    """The generated documents except the diagrams, with their expected text."""
    readme = ROOT / "README.md"
    return {
        readme: _BLOCK.sub(lambda found: found[1] + block(found[2]) + found[3], readme.read_text(encoding="utf-8")),
        ROOT / ".env.example": env_example(),
    }


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
