"""Each message that docs/troubleshooting.md quotes is one that the programs can print: its words are in the source."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from fastmon_client.dashboard.guide import GUIDE
from fastmon_daemon.settings import all_settings

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
NAMES = {name for _, setting in all_settings() for name in setting.names} | {*GUIDE}
OF_OTHERS = (
    "Connection refused", "connection refused", "closed the connection", "Name or service not known",
    "No such file or directory", "unable to get local issuer certificate",
    "Hostname mismatch, certificate is not valid for 'localhost'.", "User name [daq] or password is invalid.",
    '{"detail":"Invalid token."}', '{"detail":"Authentication credentials were not provided."}',
    '{"tf_filename":["This field may not be null."]}', "application/json",
)  # fmt: skip
"""What libraries, the broker and the monitor say."""
LABELS = (
    "error ok warning failed GET POST since ago down blocked broker monitor database link alarm stream subscription "
    "TLS namespace environment sampled stuck STFs STF none null number answered rejected retry or discard"
)
"""Words that stand alone in the source: results, links, states, columns."""
VALUES = re.compile(
    r"https?://\S+|/[\w./-]+|\b[\w-]+\.(?:example|pem|stf)\b(?::\d+)?|<!doctype.*?</html>|'[\w./-]+'|torre\d"
    r"|fastmon-agent-root-1|swf-fastmon-agent|[0-9][0-9.:Z]*"
)
"""Examples: addresses, names, numbers, times."""


def quoted() -> list[str]:
    blocks = re.findall(r"^ *```text\n(.*?)^ *```", TEXT, re.MULTILINE | re.DOTALL)
    return [line.strip() for block in blocks for line in block.splitlines()]


@cache
def templates() -> list[tuple[list[str], frozenset[str]]]:
    """The literal parts of each text of the source that has two words or more, with its words."""
    paths = [path for package in ("fastmon_daemon", "fastmon_client") for path in (ROOT / package).rglob("*.py")]
    found = [parts for path in paths for parts in texts(ast.parse(path.read_text(encoding="utf-8")))]
    return [(parts, words) for parts in found if len(words := frozenset(words_of(" ".join(parts)))) > 1]


def texts(tree: ast.AST) -> Iterator[list[str]]:
    """The literal parts of each text: of an f-string, and of one with `{}` for the logger."""
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = [each.value if isinstance(each, ast.Constant) else "\0" for each in node.values]
            yield "".join(map(str, parts)).split("\0")
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield re.split(r"\{[^{}]*\}", node.value)


def words_of(text: str) -> set[str]:
    return {word.lower() for word in re.findall(r"[A-Za-z][A-Za-z_]+", text)}


def unexplained(line: str) -> set[str]:
    """The words of *line* that no text of the source in it explains."""
    for said in OF_OTHERS:
        line = line.replace(said, " ")
    known = words_of(LABELS).union(*(words for parts, words in templates() if occurs(parts, line)))
    return words_of(VALUES.sub(" ", line)) - known - {name.lower() for name in NAMES}


def occurs(parts: list[str], line: str) -> bool:
    """Whether all *parts* are in *line*, one after the other."""
    position = 0
    for part in parts:
        position = line.find(part, position)
        if position < 0:
            return False
        position += len(part)
    return True


@pytest.mark.parametrize("line", quoted())
def test_a_quoted_message_is_in_the_source(line: str) -> None:
    assert unexplained(line) == set()


def test_an_invented_message_is_not_in_the_source() -> None:
    assert unexplained("broker down: the broker took a holiday (since 12:11:01Z, 4 s ago)") >= {"holiday", "took"}


def test_each_symptom_has_its_section() -> None:
    table = re.findall(r"^\| .+ \| \[(.+?)\]\(#(.+?)\) \|$", TEXT, re.MULTILINE)
    assert [title for title, _ in table] == re.findall(r"^## (.+)$", TEXT, re.MULTILINE)
    for section in TEXT.split("\n## ")[1:]:
        assert "```text" in section
        assert "**Remedy" in section or re.search(r"^1\. ", section, re.MULTILINE)
