"""The documents match the program: generated parts, links, and every path, module, class and option that they name."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from types import ModuleType

import click
import pytest

import fastmon_daemon
from fastmon_client.cli import cli as client
from fastmon_client.message_filter import MessageFilter
from fastmon_client.tffile import ANNOUNCED
from fastmon_daemon.cli import cli as daemon
from fastmon_daemon.testbed.monitor.faults import NAMES as FAULTS
from tests.blocks.parsing import blocks

ROOT = Path(__file__).parent.parent
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
CURRENT = [document for document in DOCUMENTS if document.name != "CHANGELOG.md"]
"""The documents that name only what exists; the changelog names what was renamed."""
FOLDERS = {path.name for path in ROOT.iterdir() if path.is_dir()}
PROGRAMS: dict[str, click.Group] = {"fastmon-daemon": daemon, "fastmon-client": client}
OF_THE_TESTBED = {"SWF_HOME"}
OF_THE_READER = {"workflows/testbed.toml", "workflows/NAME.toml"}


def quoted(document: Path) -> list[str]:
    """The back-ticked spans of a document, without its blocks of code."""
    text = re.sub(r"^```.*?^```", "", document.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"`([^`\n]+)`", text)


def command_lines(document: Path) -> Iterator[tuple[list[click.Group], list[str]]]:
    """The command lines in a document, with or without the program's name: the programs that it may be, the words."""
    shell = [line for block in blocks(document) if block.language == "sh" for line in block.text.splitlines()]
    for span in [*quoted(document), *shell]:
        for program, rest in re.findall(r"\b(fastmon-(?:daemon|client)) ([^#|&;>]+)", span):
            yield [PROGRAMS[program]], rest.split()
    for span in quoted(document):
        words = span.split()
        if any(word.startswith("--") for word in words[1:]) and any(
            command(each, words[0]) for each in PROGRAMS.values()
        ):
            yield list(PROGRAMS.values()), words


def command(program: click.Group, name: str) -> click.Command | None:
    return program.get_command(click.Context(program), name)


def test_generated_parts_are_up_to_date() -> None:
    """In a process of its own: the metrics of this one have the series of the tests before."""
    program = (
        "import json, runpy; made = runpy.run_path('docs/generate.py')['documents']();"
        "print(json.dumps({str(path): text for path, text in made.items()}))"
    )
    words = [sys.executable, "-c", program]
    made = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=100, check=True).stdout
    for document, text in json.loads(made).items():
        assert Path(document).read_text(encoding="utf-8").splitlines() == text.splitlines(), document


def test_the_readme_is_read_in_ten_minutes() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


def test_every_document_is_in_the_index() -> None:
    index = ROOT / "docs" / "index.md"
    linked = re.findall(r"\]\(([^)]+\.md)\)", index.read_text(encoding="utf-8"))
    assert {(index.parent / link).resolve() for link in linked} | {index} == set(DOCUMENTS)


def test_a_figure_that_is_not_in_its_document_is_an_error(generate: ModuleType) -> None:
    assert generate.figure("reliability.md: sum of sent") > generate.figure("reliability.md: sum of lost")
    with pytest.raises(LookupError, match="no figure of mine: value"):
        generate.figure("performance.md: no figure of mine: value")
    with pytest.raises(LookupError, match="sum of lots"):
        generate.figure("reliability.md: sum of lots")


def test_what_a_rate_needs_follows_from_the_measured_figures(generate: ModuleType) -> None:
    measured = {
        "throughput over the sequential reference, 2 ms a call: fastmon, median": "80 STF/s",
        "CPU an STF over the bare loop, all on: fastmon, median": "20 ms",
        "durable commits an STF under load: value": "1 commits",
        "CPU an event of the client over the bare loop: fastmon, median": "20 us",
        **{
            f"CPU of the daemon, cores: {rate}": cores for rate, cores in (("1.7", "0.05"), ("17", "0.3"), ("170", "1"))
        },
    }
    figure = {f"performance.md: {name}": text for name, text in measured.items()}.__getitem__
    assert generate.daemon_rate(figure) == "50 STF/s"  # one core, not what two of them do
    rows = dict(line.strip("| ").split(" | ", 1) for line in generate.needs_table(figure).splitlines()[2:])
    assert rows["**daemons**"] == (
        "1, 5 % of a core | 1, 30 % of a core | 4 that share a queue, each 85 % of a core of its own"
    )
    assert rows["calls/s"] == "17 to 27 | 170 to 270 | 2200 to 3200"  # 3 lookups an STF more
    assert rows["syncs/s of the daemons' disks"].endswith("| 170")


def test_the_picture_of_the_architecture_is_that_of_its_source(generate: ModuleType) -> None:
    assert generate.is_architecture_drawn(), "draw it again: make docs"


def test_every_fault_of_the_testbed_is_described() -> None:
    text = (ROOT / "docs" / "local-testbed.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)) == set(FAULTS)


def test_every_promise_names_tests_that_exist() -> None:
    source = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    text = (ROOT / "docs" / "explanation" / "promises.md").read_text(encoding="utf-8")
    promises = re.findall(r"^\| (\w.+?) \| .+ \| (.+) \|$", text, re.MULTILINE)[1:]
    assert len(promises) > 10
    for promise, tests in promises:
        named = re.findall(r"`(\w+)`", tests)
        assert named, promise
        assert [name for name in named if not re.search(rf"^(def|class) {name}\(", source, re.MULTILINE)] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_links_lead_somewhere(document: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#:]*)(?:#([^)]+))?\)", document.read_text(encoding="utf-8")):
        path = document.parent / target if target else document
        assert path.exists(), target
        assert not anchor or anchor in anchors(path), f"{target}#{anchor}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_make_targets_exist(document: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(re.findall(r"`make ([a-z-]+)`", document.read_text(encoding="utf-8"))) <= targets


@pytest.mark.parametrize("document", CURRENT, ids=lambda document: document.name)
def test_paths_exist(document: Path) -> None:
    for span in quoted(document):
        path = span.removeprefix("../")
        first = path.partition("/")[0]
        if re.fullmatch(r"[\w.-]+(/[\w.-]*)+", path) and (first in FOLDERS or "." in path.rpartition("/")[2]):
            places = (ROOT, ROOT / "fastmon_daemon", ROOT / "fastmon_client")
            assert path in OF_THE_READER or any((place / path).exists() for place in places), span


@pytest.mark.parametrize("document", CURRENT, ids=lambda document: document.name)
def test_modules_and_their_members_exist(document: Path) -> None:
    for span in quoted(document):
        if match := re.match(r"(?:python -m )?((?:fastmon_daemon|fastmon_client|tests)(?:\.\w+)+)", span):
            assert imported(match[1]), span


@pytest.mark.parametrize("document", CURRENT, ids=lambda document: document.name)
def test_classes_and_their_members_exist(document: Path) -> None:
    for span in quoted(document):
        if match := re.fullmatch(r"([A-Z][a-z]+(?:[A-Z][a-z]+)+|[A-Z][a-z]+(?=\.))(?:\.([a-z]\w*))?", span):
            owners = classes().get(match[1], [])
            assert any(match[2] is None or has_member(owner, match[2]) for owner in owners), span


@pytest.mark.parametrize("document", CURRENT, ids=lambda document: document.name)
def test_commands_and_options_exist(document: Path) -> None:
    for programs, words in command_lines(document):
        if words and re.fullmatch(r"[a-z]+", words[0]):  # not the unit of the same name
            options = {word.partition("=")[0] for word in words if word.startswith("--")} - {"--help"}
            commands = [found for program in programs if (found := command(program, words[0]))]
            assert any(options <= options_of(found) for found in commands), words


@pytest.mark.parametrize("document", CURRENT, ids=lambda document: document.name)
def test_settings_exist(document: Path) -> None:
    named = set(re.findall(r"\b(?:FASTMON|SWF|ACTIVEMQ|MQ)_[A-Z_]*[A-Z]\b", document.read_text(encoding="utf-8")))
    assert named - OF_THE_TESTBED <= settings_in_the_code()


@pytest.mark.field("0e")
def test_the_names_in_older_documents_lead_to_those_of_today() -> None:
    rows = re.findall(
        r"^\| (.+?) \| (.+?) \|", (ROOT / "docs" / "testbed.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    new_of = dict(rows)
    for old in (
        "message `data_ready`",
        "`python -m fastmon_daemon`",
        "`--agents swf-fastmon-agent`",
        "`black`, `flake8`",
    ):
        assert any(old in name for name in new_of), old
    (agents,) = (new for old, new in rows if "swf-fastmon-agent" in old)
    pattern = agents.strip("`").removeprefix("--agents '").removesuffix("'")
    assert MessageFilter(types=(ANNOUNCED,), agents=(pattern,)).matches(
        {"msg_type": ANNOUNCED, "processed_by": "fastmon-agent-alice-7"}
    )


@pytest.mark.field("0e")
@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_runs_as_a_module(program: str) -> None:
    words = [sys.executable, "-m", program.replace("-", "_"), "--help"]
    shown = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True).stdout
    assert "COMMAND" in shown


def anchors(document: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a document."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


def options_of(found: click.Command) -> set[str]:
    return {option for parameter in found.params for option in parameter.opts}


@cache
def settings_in_the_code() -> set[str]:
    files = [*ROOT.glob("fastmon_daemon/**/*.py"), *ROOT.glob("fastmon_client/**/*.py")]
    return {name for file in files for name in re.findall(r"\b[A-Z]+_[A-Z_]+\b", file.read_text(encoding="utf-8"))}


def imported(name: str) -> bool:
    """Whether *name* is a module, or a member of one."""
    try:
        import_module(name)
    except ModuleNotFoundError:
        module, _, member = name.rpartition(".")
        return "." in module and hasattr(import_module(module), member)
    return True


@cache
def classes() -> dict[str, list[type]]:
    """The classes of the daemon by name."""
    found: dict[str, list[type]] = {}
    for info in walk_packages(fastmon_daemon.__path__, "fastmon_daemon."):
        if info.name.endswith("__main__") or ".testbed" in info.name:
            continue
        for name, value in vars(import_module(info.name)).items():
            if isinstance(value, type) and value.__module__ == info.name:
                found.setdefault(name, []).append(value)
    return found


def has_member(owner: type, name: str) -> bool:
    """Whether the class *owner* has a method, a property or a declared field *name*, or sets it when it is made."""
    return hasattr(owner, name) or name in owner.__annotations__ or name in owner.__init__.__code__.co_names
