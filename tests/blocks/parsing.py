"""Finds the blocks of code in the documents, and what the documents say about running them.

A fenced block of language `sh` or `python`, and an indented block (it is a shell's), runs literally. It is left out
only if the HTML comment right before it says so: `<!-- not run: REASON -->`. `<!-- given: FACT -->` instead makes a
fact of `GIVEN` true before it. A block of language `output` is what the block before it prints; `...` in it stands
for anything. Every other language is data, which cannot run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]
NOT_HERE = ("CHANGELOG.md", "DECISIONS.md")
DATA = {"text", "json", "yaml", "toml", "ini", "dockerfile", "sql", "xml"}
RUNS = {"sh", "python"}
OF_THE_HOST = ("systemctl", "journalctl", "supervisorctl", "sudo", "df", "du")
"""Programs that ask a host on which the daemon is a service: their lines are left out, the others of the block run."""

_MARKER = re.compile(r"<!-- (not run|given): (.+?) -->\s*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Block:
    """A block of code in a document."""

    document: Path
    line: int
    language: str
    text: str
    left_out: str = ""
    """Why it does not run; empty if it does."""
    given: str = ""
    """What must be true before it."""

    @property
    def place(self) -> str:
        """Document and line, as an editor opens them."""
        return f"{self.document.relative_to(ROOT)}:{self.line}"

    @property
    def runs(self) -> bool:
        return self.language in RUNS and not self.left_out

    @property
    def of_the_host(self) -> list[str]:
        """The lines that only a host with the service can run."""
        return [line for line in self.text.splitlines() if self.language == "sh" and line.split()[:1] in _host_words()]

    @property
    def runnable(self) -> str:
        """The text without those lines."""
        return "".join(f"{line}\n" for line in self.text.splitlines() if line not in self.of_the_host)


def _host_words() -> list[list[str]]:
    return [[word] for word in OF_THE_HOST]


def documents() -> list[Path]:
    """All documents whose blocks are looked at."""
    found = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
    return [path for path in found if path.name not in NOT_HERE]


def blocks(document: Path) -> Iterator[Block]:
    """The blocks of *document*, in order."""
    before = ""
    for token in MarkdownIt().parse(document.read_text(encoding="utf-8")):
        if token.type in ("fence", "code_block"):
            assert token.map is not None
            language = token.info.strip() if token.type == "fence" else "sh"
            kind, what = found.groups() if (found := _MARKER.fullmatch(before)) else ("", "")
            yield Block(
                document, token.map[0] + 1, language, token.content,
                left_out=" ".join(what.split()) if kind == "not run" else "", given=what if kind == "given" else "",
            )  # fmt: skip
        before = token.content if token.type == "html_block" else ""
