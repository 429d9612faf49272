"""A report as Markdown, as one HTML file that loads nothing, or as JSON. Pure; all texts are escaped here."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable, Iterator

from fastmon_client.formatting import escape
from fastmon_client.report.layout import Document, Layout, Section, Table
from fastmon_client.report.model import Report
from fastmon_client.shifts import Shifts

CONTENT_SECURITY_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
_STYLE = """\
:root { color-scheme: light dark; --line: #c9ced6; --muted: #5a6472; --soft: #f2f4f7 }
@media (prefers-color-scheme: dark) { :root { --line: #3a424e; --muted: #a3adba; --soft: #1c222b } }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; overflow-wrap: anywhere }
h1 { font-size: 1.5rem } h2 { font-size: 1.1rem; margin: 1.8rem 0 .4rem }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; margin: 0 } dt { color: var(--muted) } dd { margin: 0 }
.wide { overflow-x: auto } table { border-collapse: collapse; font-variant-numeric: tabular-nums; width: 100% }
th, td { border-bottom: 1px solid var(--line); padding: .25rem .6rem .25rem 0; text-align: left; vertical-align: top; overflow-wrap: normal }
.number { text-align: right } thead th { color: var(--muted); font-weight: 600 }
.open { background: var(--soft); padding: .1rem 1rem; border-radius: .5rem }
.note { white-space: pre-wrap }
@media print { body { margin: 0; max-width: none; font-size: 11px } }"""  # noqa: E501
_SPECIAL = re.compile(r"[\\`*_{}\[\]<>#|&~!^$]")
_AT_BEGIN = re.compile(r"^([-+=]|\d+(?=[.)](?:\s|$)))")


def as_json(report: Report, _shifts: Shifts) -> str:
    """*report* as JSON."""
    return json.dumps(report, indent=2) + "\n"


def as_markdown(report: Report, shifts: Shifts) -> str:
    """*report* as Markdown."""
    return "\n".join(_markdown(Layout(shifts).document(report))) + "\n"


def as_html(report: Report, shifts: Shifts) -> str:
    """*report* as one HTML file."""
    return "\n".join(_html(Layout(shifts).document(report))) + "\n"


FORMATS: dict[str, Callable[[Report, Shifts], str]] = {"md": as_markdown, "html": as_html, "json": as_json}


def _markdown(document: Document) -> Iterator[str]:
    yield f"# {_md(document.title)}"
    yield ""
    for name, text in document.facts:
        yield f"- {name}: {_md(text)}"
    for section in document.sections:
        yield from _markdown_section(section)


def _markdown_section(section: Section) -> Iterator[str]:
    if section.title:
        yield ""
        yield f"## {_md(section.title)}"
    for paragraph in section.paragraphs:
        yield ""
        lines = [_md(line) for line in paragraph.splitlines()]
        yield "  \n".join(line for line in lines if line.strip())
    if section.table:
        yield ""
        yield from _markdown_table(section.table)
    if section.items:
        yield ""
        for item in section.items:
            yield f"- {_md(item)}"


def _markdown_table(table: Table) -> Iterator[str]:
    yield f"| {' | '.join(map(_cell, table.columns))} |"
    yield f"|{'|'.join('---:' if place in table.numbers else '---' for place in range(len(table.columns)))}|"
    for row in table.rows:
        yield f"| {' | '.join(map(_cell, row))} |"


def _md(text: str) -> str:
    """*text* in one line, of which nothing is markup."""
    return _AT_BEGIN.sub(lambda begin: f"{begin[1]}\\" if begin[1].isdigit() else f"\\{begin[1]}", _cell(text))


def _cell(text: str) -> str:
    """*text* in a line that has begun."""
    return _SPECIAL.sub(lambda char: f"\\{char[0]}", escape(" ".join(text.split())))


def _html(document: Document) -> Iterator[str]:
    yield '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">'
    yield f'<meta http-equiv="Content-Security-Policy" content="{CONTENT_SECURITY_POLICY}">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>{_text(document.title)}</title>\n<style>\n{_STYLE}\n</style>\n</head>\n<body>\n<main>"
    yield f"<h1>{_text(document.title)}</h1>\n<dl>"
    for name, text in document.facts:
        yield f"<dt>{_text(name)}</dt><dd>{_text(text)}</dd>"
    yield "</dl>"
    for section in document.sections:
        yield from _html_section(section)
    yield "</main>\n</body>\n</html>"


def _html_section(section: Section) -> Iterator[str]:
    yield f"<section{' class=open' if section.title == 'Still open' else ''}>"
    if section.title:
        yield f"<h2>{_text(section.title)}</h2>"
    for paragraph in section.paragraphs:
        yield f'<p class="note">{"&#10;".join(map(_text, paragraph.splitlines()))}</p>'
    if section.table:
        yield from _html_table(section.table)
    if section.items:
        yield "<ul>"
        yield from (f"<li>{_text(item)}</li>" for item in section.items)
        yield "</ul>"
    yield "</section>"


def _html_table(table: Table) -> Iterator[str]:
    def cell(tag: str, place: int, text: str) -> str:
        return f"<{tag}{' class=number' if place in table.numbers else ''}>{_text(text)}</{tag[:2]}>"

    yield f'<div class="wide" role="region" aria-label="{_text(table.title)}" tabindex="0"><table>'
    yield f"<thead><tr>{''.join(cell('th scope=col', *each) for each in enumerate(table.columns))}</tr></thead><tbody>"
    for row in table.rows:
        head, *rest = row
        cells = (cell("td", place, text) for place, text in enumerate(rest, 1))
        yield f"<tr>{cell('th scope=row', 0, head)}{''.join(cells)}</tr>"
    yield "</tbody></table></div>"


def _text(text: str) -> str:
    return html.escape(escape(text))
