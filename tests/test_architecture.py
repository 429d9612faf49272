"""The rooms of the house: level n imports only from levels below it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LEVELS = (
    {"errors", "clock", "seams", "systemd"},
    {"messages", "sampling", "retrying"},
    {"lifecycle", "settings", "gates", "logs", "control"},
    {"outbox", "monitor", "broker", "watching", "diagram", "reference"},
    {"steps", "errands", "verdict", "retention"},
    {"engine", "ledger", "presence"},
    {"intake", "findings"},
    {"acts", "front"},
    {"service"},
    {"checks"},
    {"commands"},
    {"cli"},
    {"__main__"},
)
ONLY_IMPORTER = {
    "stomp": "broker",
    "requests": "monitor",
    "transitions": "lifecycle",
    "tenacity": "retrying",
    "watchdog": "watching",
}


def level_of(room: str) -> int:
    return next(level for level, rooms in enumerate(LEVELS) if room in rooms)


def room_of(module: Path) -> str:
    return module.relative_to(ROOT / "fastmon_daemon").parts[0].removesuffix(".py")


def imports(module: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


MODULES = [
    module
    for module in sorted((ROOT / "fastmon_daemon").rglob("*.py"))
    if room_of(module) not in {"__init__", "testbed"}
]


@pytest.mark.parametrize("module", MODULES, ids=lambda module: str(module.relative_to(ROOT)))
def test_a_room_imports_only_from_levels_below_it(module: Path) -> None:
    own = room_of(module)
    for name in imports(module):
        package, _, rest = name.partition(".")
        room = rest.split(".")[0]
        if package != "fastmon_daemon" or room in {own, "__version__"}:
            continue
        if room == "testbed":
            assert module.stem in {"testbed", "daq", "demo"}, f"the running daemon imports {name}"
        else:
            assert level_of(room) < level_of(own), f"{own} imports {room}"


@pytest.mark.parametrize(("library", "owner"), ONLY_IMPORTER.items())
def test_each_edge_has_one_importer(library: str, owner: str) -> None:
    importers = {room_of(m) for m in MODULES if any(name.split(".")[0] == library for name in imports(m))}
    assert importers - {"engine"} == {owner}  # the engine names the type of the policy that it is given


def test_daemon_and_client_are_strangers() -> None:
    for module in (ROOT / "fastmon_client").rglob("*.py"):
        assert not any(name.startswith("fastmon_daemon") for name in imports(module)), module
    for module in MODULES:
        assert not any(name.startswith("fastmon_client") for name in imports(module)), module


def test_sql_stands_in_the_outbox_only() -> None:
    for module in MODULES:
        if room_of(module) != "outbox":
            assert "sqlite3" not in {name.split(".")[0] for name in imports(module)}, module
