"""Each weakness that the field found has a test: `@pytest.mark.field(ITEM, ...)`, run by `make test-field`."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parent
ITEMS = {
    "0a": "a stage update for each transition",
    "0b": "the topic client hears the daemon by default",
    "0c": "the client reads .env files",
    "0d": "the libraries do real work",
    "0e": "what the older documents name",
    "1": "a TF file belongs to an STF of one run",
    "2": "namespaces do not steal from each other",
    "3": "one run is one run",
    "4": "one STF, one sample",
    "5": "workflow rows",
    "6": "one verdict everywhere",
    "7": "stages after a lost answer",
    "8": "sequence numbers in names",
    "9": "a name made without the monitor",
    "10": "the testbed's supervisord section",
    "11": "the DAQ's execution",
    "12": "integers in other forms, unreadable rows",
    "13": "counters, series, outages",
    "14": "names with several addresses",
    "15": "host names that no resolver accepts",
    "16": ".env files are never half read",
    "17": "no home, no user, no working folder",
    "18": "output that takes nothing",
    "19": "hints by cause",
    "20": "what others sent is escaped",
    "21": "SIGHUP",
    "22": "continuous mode",
    "23": "proxies",
    "24": "fronts of the monitor",
    "25": "trusted certificates",
    "26": "newer Pythons",
    "27": "tests in any surrounding",
    "27a": "a login that may not send",
    "27b": "a lookup that hangs",
    "27c": "the database's log, read-only mounts",
    "28": "80 columns and pipes",
    "29": "inspect, suggestions, errors as JSON, the log",
    "30": "a cause is said once",
    "31": "back-pressure in the client",
    "32": "an unused sender, rejected bodies",
}


def marks() -> Iterator[tuple[str, object]]:
    """Each mark in the tests: the name of its test, the item."""
    for path in TESTS.rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            for decorator in node.decorator_list if isinstance(node, ast.FunctionDef) else ():
                if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "pytest.mark.field":
                    for item in decorator.args or [ast.Constant(None)]:
                        yield f"{path.name}::{node.name}", ast.literal_eval(item)


def test_each_item_has_a_test_and_each_mark_an_item() -> None:
    marked = list(marks())
    assert {(test, item) for test, item in marked if item not in ITEMS} == set()
    assert set(ITEMS) - {item for _, item in marked} == set()
