"""Configuration of the site: `make docs` builds it from README.md and docs/, strictly, into build/site.

The sources are plain Markdown, which GitHub shows as well. What only the site can do is put in while it reads them:
the lists of docs/index.md become its tables of contents, the help texts of the commands become sphinx-click's.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from inspect import unwrap
from typing import TYPE_CHECKING

import click

from fastmon_client.cli import cli as client
from fastmon_daemon import __version__
from fastmon_daemon.cli import cli as daemon

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "swf-fastmon"
version = release = __version__
copyright = "the authors of swf-fastmon"  # noqa: A001 (Sphinx's name)

extensions = ["myst_parser", "sphinx_click", "sphinx_copybutton"]
root_doc = "docs/index"
include_patterns = ["*.md", "docs/**.md"]
exclude_patterns = [".*", "build", "dist", "tests"]
nitpicky = True
html_theme = "furo"
html_title = f"{project} {version}"
html_copy_source = False
highlight_language = "sh"  # of the indented blocks
copybutton_exclude = ".linenos, .gp, .go"
myst_heading_anchors = 4  # as GitHub names them
myst_enable_extensions = ["html_image"]

_PROGRAMS: dict[str, click.Group] = {"fastmon-daemon": daemon, "fastmon-client": client}
_SECTION = re.compile(r"^## (.+)\n\n((?:.+\n)+)", re.MULTILINE)
_PAGE = re.compile(r"\]\(([^)#]+)\.md\)")
_HELP = re.compile(r"^## .+\n\n```text\n\$ (fastmon-\w+) (\w+) --help\n.*?^```$", re.MULTILINE | re.DOTALL)


def _contents(text: str) -> Iterator[str]:
    """A hidden table of contents for each section, of the pages that it links."""
    for heading, links in _SECTION.findall(text):
        pages = "\n".join(dict.fromkeys(_PAGE.findall(links)))
        yield f"\n```{{toctree}}\n:hidden:\n:caption: {heading}\n\n{pages}\n```\n"


def _command(found: re.Match[str]) -> str:
    """The directive of sphinx-click in the place of a heading and the help text below it."""
    program, name = found[1], found[2]
    command = _PROGRAMS[program].get_command(click.Context(_PROGRAMS[program]), name)
    assert command is not None
    module = sys.modules[unwrap(command.callback).__module__]
    place = next(f"{module.__name__}:{each}" for each, value in vars(module).items() if value is command)
    return f"```{{eval-rst}}\n.. click:: {place}\n   :prog: {program} {name}\n```"


def _for_the_site(_app: Sphinx, page: str, source: list[str]) -> None:
    match page:
        case "docs/index":
            source[0] += "".join(_contents(source[0]))
        case "docs/reference/commands":
            source[0] = _HELP.sub(_command, source[0])


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("source-read", _for_the_site)
