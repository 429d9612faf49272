"""Manual pages of a click program, in roff: a section for each command, with the texts of its `--help`."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping

import click

_VERBATIM = "\b\n"
"""Begins a paragraph of a help text whose lines click keeps."""


def manual(
    program: str, group: click.Group, version: str, see_also: str, environment: Mapping[str, str] | None = None
) -> str:
    """Return the page of *program*; *environment* is variable -> meaning."""
    context = click.Context(group, info_name=program, **group.context_settings)
    title, text = program.upper(), _paragraphs(group)
    lines = [
        f'.TH "{_escape(title)}" 1 "" "{_escape(f"{program} {version}")}" "User Commands"',
        ".SH NAME", f"{_escape(program)} \\- {_escape(text[0].rstrip('.'))}",
        ".SH SYNOPSIS", f".B {_escape(program)}", f".I {_escape(' '.join(group.collect_usage_pieces(context)))}",
        ".SH DESCRIPTION", *_text(text),
        ".SH OPTIONS", *_options(group, context),
        ".SH COMMANDS",
    ]  # fmt: skip
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        inner = click.Context(command, parent=context, info_name=name)
        usage = " ".join([program, name, *command.collect_usage_pieces(inner)])
        lines += [f'.SS "{_escape(usage)}"', *_text(_paragraphs(command)), *_options(command, inner)]
        lines += _text([command.epilog or ""])
    if environment:
        lines += [".SH ENVIRONMENT", *_list(environment)]
    if group.epilog:
        lines += [".SH EXIT STATUS", *_text([group.epilog])]
    lines += [".SH SEE ALSO", f".BR {_escape(see_also)} (1)"]
    page = "\n".join(lines) + "\n"
    return re.sub(r"(?m)^(\.S[HS] .*\n)\.PP\n", r"\1", page)  # a heading begins a paragraph by itself


def _paragraphs(command: click.Command) -> list[str]:
    return inspect.cleandoc(command.help or "").split("\n\n")


def _text(paragraphs: list[str]) -> Iterator[str]:
    for paragraph in filter(None, paragraphs):
        yield ".PP"
        if paragraph.startswith(_VERBATIM):
            yield from (".nf", *map(_escape, paragraph.removeprefix(_VERBATIM).splitlines()), ".fi")
        else:
            yield _escape(" ".join(paragraph.split()))


def _options(command: click.Command, context: click.Context) -> Iterator[str]:
    records = (parameter.get_help_record(context) for parameter in command.get_params(context))
    yield from _list(dict(record for record in records if record))


def _list(meanings: Mapping[str, str]) -> Iterator[str]:
    for name, meaning in meanings.items():
        yield from (".TP", f"\\fB{_escape(name)}\\fR", _escape(" ".join(meaning.split())))


def _escape(text: str) -> str:
    """Return one line of text in which nothing is a request or an escape of roff."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace('"', "\\(dq")
    text = re.sub(r"[^\x00-\x7f]", lambda found: f"\\[u{ord(found[0]):04X}]", text)
    return f"\\&{text}" if text.startswith((".", "'")) else text
