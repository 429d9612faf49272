"""Alerts, runbook, dashboard and metrics belong together: none names what another one does not have."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.inspection.test_metrics import page  # noqa: F401 (a fixture)
from tests.processes import run_in_process
from tests.tools import needs

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy" / "prometheus" / "fastmon.rules.yml"
UNIT_TESTS = RULES.with_name("fastmon.test.yml")
DASHBOARD = ROOT / "deploy" / "grafana" / "fastmon.json"
RUNBOOK = ROOT / "docs" / "runbook.md"
RUNBOOK_URL = "https://docs.example/fastmon/runbook.html"
SECTIONS = ("Meaning", "Impact", "Diagnosis", "Mitigation")
FROM_PROMETHEUS = {"up": {"job", "instance"}}
"""Series that Prometheus itself makes."""
TARGET = {"job", "instance"}
"""Labels that Prometheus adds."""
SELECTOR = re.compile(r"\b(fastmon_\w+|process_\w+|up)\b(?:{(.*?)})?")
MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')

rules: list[dict[str, Any]] = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"][0]["rules"]
unit_tests: dict[str, Any] = yaml.safe_load(UNIT_TESTS.read_text(encoding="utf-8"))
dashboard: dict[str, Any] = json.loads(DASHBOARD.read_text(encoding="utf-8"))
panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
ALERTS = sorted({rule["alert"] for rule in rules})


def broken(rule: dict[str, Any], change: str) -> dict[str, Any]:
    match change:
        case "always":
            series = (
                'label_replace(label_replace(vector(1), "job", "fastmon", "", ""), "instance", "host:9100", "", "")'
            )
            return {**rule, "expr": series}
        case "never":
            return {**rule, "expr": f"({rule['expr']}) and vector(1) == 2"}
        case "at once":
            return {key: value for key, value in rule.items() if key != "for"}
        case _:
            return {**rule, "expr": re.sub(r"(?:min|max)_over_time\(([^()]*?)\[\w+\]\)", r"\1", rule["expr"])}


needs_promtool = needs("promtool")


def promtool(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["promtool", *words], capture_output=True, text=True, timeout=300, check=False)


def dashboard_queries() -> Iterator[tuple[str, str]]:
    """Title of a panel, and a query of it with its variables replaced."""
    texts = [(panel["title"], target["expr"]) for panel in panels for target in panel["targets"]]
    texts += [(each["name"], each["expr"]) for each in dashboard["annotations"]["list"]]
    for title, text in texts:
        yield title, text.replace("$__rate_interval", "5m").replace("$instance", ".+")


@pytest.fixture
def series(page: str) -> dict[str, dict[str, set[str]]]:  # noqa: F811
    """Name of each series of the daemon -> label -> its values."""
    found: dict[str, dict[str, set[str]]] = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            labels = found.setdefault(sample.name, {})
            for label, value in sample.labels.items():
                labels.setdefault(label, set()).add(value)
    return found


def check_query(query: str, series: dict[str, dict[str, set[str]]]) -> None:
    """Every series of the query exists, with these labels, and each value of a label that it names."""
    named = SELECTOR.findall(query)
    assert named, query
    for name, matchers in named:
        labels = {label: set() for label in FROM_PROMETHEUS[name]} if name in FROM_PROMETHEUS else series[name]
        for label, _, wanted in MATCHER.findall(matchers):
            assert label in {*labels, *TARGET}, f"{query}: {name} has no label {label}"
            if label not in TARGET:
                unknown = set(wanted.split("|")) - labels[label] - {"messages"}  # the link of FASTMON_NOTIFY=rest
                assert not unknown, f"{query}: {label} is never {unknown}"


def test_the_rules_use_series_that_exist(series: dict[str, dict[str, set[str]]]) -> None:
    for rule in rules:
        check_query(rule["expr"], series)


def test_the_dashboard_uses_series_that_exist(series: dict[str, dict[str, set[str]]]) -> None:
    for _, query in dashboard_queries():
        check_query(query, series)


def test_a_wrong_query_is_found(series: dict[str, dict[str, set[str]]]) -> None:
    for query in ('fastmon_stfs{state="lost"}', 'fastmon_stfs{run="1"}'):
        with pytest.raises(AssertionError):
            check_query(query, series)
    with pytest.raises(KeyError):
        check_query("rate(fastmon_none_total[5m])", series)


@pytest.mark.parametrize("rule", rules, ids=lambda rule: f"{rule['alert']} {rule['labels']['severity']}")
def test_each_alert_has_its_texts_and_its_place_in_the_runbook(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in {"warning", "critical"}
    assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
    assert rule["annotations"]["summary"].endswith(".")
    assert rule["annotations"]["runbook_url"] == f"{RUNBOOK_URL}#{rule['alert'].lower()}"


def test_each_threshold_has_a_reason_beside_it() -> None:
    lines = RULES.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines):
        if line.strip().startswith("- alert:"):
            is_second_of_two = line in lines[:number]
            assert lines[number - 1].strip().startswith("#") or is_second_of_two, line


def test_the_runbook_has_the_four_parts_for_each_alert_and_no_other() -> None:
    chapters = re.split(r"(?m)^## ", RUNBOOK.read_text(encoding="utf-8"))[1:]
    assert sorted(chapter.partition("\n")[0] for chapter in chapters) == ALERTS
    for chapter in chapters:
        assert tuple(re.findall(r"(?m)^\*\*(\w+)\.\*\*", chapter)) == SECTIONS, chapter
        assert "fastmon-daemon " in chapter.partition("**Diagnosis.**")[2], "our own commands"


def test_the_guide_wakes_somebody_for_each_critical_alert_and_no_other() -> None:
    guide = (ROOT / "docs" / "how-to" / "monitoring.md").read_text(encoding="utf-8")
    named = re.findall(r"^\| \[(\w+)\]", guide, re.MULTILINE)
    assert named == [rule["alert"] for rule in rules if rule["labels"]["severity"] == "critical"]


def test_the_panels_that_the_runbook_names_exist() -> None:
    titles = {panel["title"] for panel in panels}
    named = re.findall(r"\*([A-Z][^*.]+)\*", RUNBOOK.read_text(encoding="utf-8"))
    assert len(named) > 5
    assert set(named) - {"Status, Targets"} <= titles


def test_the_dashboard_has_a_fixed_id_its_variables_and_a_description_of_what_is_normal() -> None:
    assert dashboard["uid"] == "fastmon"
    assert [each["name"] for each in dashboard["templating"]["list"]] == ["datasource", "instance"]
    for panel in panels:
        assert panel["datasource"]["uid"] == "${datasource}", panel["title"]
        assert "Normal" in panel["description"], panel["title"]
        assert all("$instance" in target["expr"] for target in panel["targets"]), panel["title"]
    tiles = [panel for panel in panels if panel["gridPos"]["y"] == 0]
    assert {panel["type"] for panel in tiles} == {"stat"}
    assert sum(panel["gridPos"]["w"] for panel in tiles) == 24
    colours = [[step["color"] for step in panel["fieldConfig"]["defaults"]["thresholds"]["steps"]] for panel in tiles]
    assert all(each in (["blue"], ["green", "red"], ["green", "orange", "red"]) for each in colours)
    rows = [panel["title"] for panel in dashboard["panels"] if panel["type"] == "row"]
    assert rows == ["Backlog", "In", "Out", "Latency", "Links", "Disk and process"]


def test_no_panel_covers_another() -> None:
    taken: dict[tuple[int, int], str] = {}
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert x < 24
                assert (x, y) not in taken, (panel["title"], taken[x, y])
                taken[x, y] = panel["title"]
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


@needs_promtool
def test_promtool_reads_rules_and_the_queries_of_the_dashboard(tmp_path: Path) -> None:
    checked = promtool("check", "rules", RULES)
    assert checked.returncode == 0, checked.stderr
    queries = [{"record": f"query_{number}", "expr": query} for number, (_, query) in enumerate(dashboard_queries())]
    file = tmp_path / "queries.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": queries}]}), encoding="utf-8")
    checked = promtool("check", "rules", file)
    assert checked.returncode == 0, checked.stderr


@needs_promtool
def test_promtool_has_nothing_to_say_of_our_metrics(page: str) -> None:  # noqa: F811
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=page, capture_output=True, text=True, timeout=60, check=False
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


@needs_promtool
@pytest.mark.timeout(310)  # 18 s of a processor
def test_each_alert_fires_where_it_must_and_is_silent_where_it_must_not() -> None:
    tested = promtool("test", "rules", UNIT_TESTS)
    assert tested.returncode == 0, tested.stdout + tested.stderr


@needs_promtool
@pytest.mark.timeout(310)
def test_the_alerts_that_an_operator_writes_out_pass_their_tests_too(tmp_path: Path) -> None:
    done = run_in_process(("files", str(tmp_path / "files"), "--runbook-url", "https://ops.example.org/runbook"), {})
    assert done.returncode == 0, done.stderr
    tested = promtool("test", "rules", tmp_path / "files" / UNIT_TESTS.relative_to(ROOT))
    assert tested.returncode == 0, tested.stdout + tested.stderr


@needs_promtool
@pytest.mark.parametrize(
    ("alert", "change"),
    [
        (alert, change)
        for alert in ALERTS
        for change in ("always", "never", "at once", "no history")
        if any(broken(rule, change) != rule for rule in rules if rule["alert"] == alert)
    ],
)
def test_the_unit_tests_of_an_alert_find_a_wrong_rule(tmp_path: Path, alert: str, change: str) -> None:
    changed = [broken(rule, change) for rule in rules if rule["alert"] == alert]  # the others take time only
    (tmp_path / RULES.name).write_text(yaml.safe_dump({"groups": [{"name": "fastmon", "rules": changed}]}))
    mine = []
    for each in unit_tests["tests"]:
        checks = [check for check in each["alert_rule_test"] if check["alertname"] == alert]
        if checks:
            mine.append({**each, "alert_rule_test": checks})
    tests = tmp_path / UNIT_TESTS.name
    tests.write_text(yaml.safe_dump({**unit_tests, "tests": mine}), encoding="utf-8")
    assert promtool("test", "rules", tests).returncode == 1
