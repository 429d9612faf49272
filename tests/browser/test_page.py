"""The page with hand-made snapshots, in every state."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest

from tests.browser.browsing import Browser
from tests.browser.gallery import states
from tests.client.dashboard_server import Served, served
from tests.client.snapshots import ESCAPES, HOSTILE, STATES, alarm, dead, run, snapshot, strip, tf_file, verdict
from tests.processes import wait_until

REASON = "the monitor does not answer"
HOSTILE_CHANGES = {
    "runs": [run(HOSTILE, namespace=ESCAPES), *[run(f"10{n:04d}", strip=[]) for n in range(20)]],
    "recent": [
        tf_file(1, 1, tf_filename=ESCAPES, stf_filename=HOSTILE),
        tf_file(1, 2, tf_filename="\u202egnp.tf" * 30),
    ],
    "alarms": [alarm(evidence=HOSTILE + ESCAPES, run=ESCAPES, subject=HOSTILE)],
    "verdict": verdict(reason=HOSTILE * 8, remedy=ESCAPES * 8),
    "filters": {"namespace": ESCAPES},
}


class SnapshotSource:
    """The snapshot that the server shows; a test may replace it."""

    def __init__(self) -> None:
        self.now = snapshot()
        self.older: list[dict[str, Any]] = []

    def snapshot(self) -> dict[str, Any]:
        return deepcopy(self.now)

    def rows(self, offset: int, limit: int | None) -> list[dict[str, Any]]:
        """As the session's: all runs, also those that are not in a snapshot."""
        rows = [{**run, "strip": []} for run in (*self.now["runs"], *self.older)]
        return rows[offset:] if limit is None else rows[offset : offset + limit]


@pytest.fixture(scope="module")
def shown() -> SnapshotSource:
    return SnapshotSource()


@pytest.fixture(scope="module")
def server(shown: SnapshotSource) -> Iterator[Served]:
    with served(shown.snapshot) as running:
        yield running


@pytest.fixture
def page(browser: Browser, server: Served, shown: SnapshotSource) -> Browser:
    shown.now = snapshot()
    browser.open(server.url)
    browser.wait_for_text("DEGRADED", "#word")
    return browser


def test_row_shows_all_numbers_of_a_run(page: Browser) -> None:
    row = page.text("#runs tbody tr")
    for text in ("100014", "running", "117 / 120", "3", "819 / 840", "VERIFIED", "41.3 GB", "1.42", "11.6 / s"):
        assert text in row
    titles = page.run_script("return [...document.querySelectorAll('#runs td')].map((cell) => cell.title)")
    assert {"STFs 12, 15-16", "compared with the monitor at 20:56:50", "median 0.18 s"} <= set(titles)


@pytest.mark.parametrize("name", ["FLOWING", "DEGRADED", "NOT FLOWING", "UNKNOWN"])
def test_verdict_is_told_by_word_colour_shape_title_and_icon(page: Browser, shown: SnapshotSource, name: Any) -> None:
    state = STATES[name]
    shown.now = snapshot(verdict=verdict(name), alarms=[])
    page.wait_for_text(name, "#word")
    page.wait_for_text("since 20:55:01 · for 1 min 5", "#since")
    page.wait_for_text("3 STFs of run 100014 are missing", "#reason")
    page.wait_for_text("note the missing STFs", "#remedy")
    wait_until(lambda: page.run_script("return document.title") == f"{name} · fastmon", "the title")
    assert page.run_script("return document.getElementById('favicon').getAttribute('href')").endswith(f"{state}.svg")
    assert page.run_script("return document.querySelector('#verdict .shape').className") == f"shape {state}"
    assert page.run_script("return parseFloat(getComputedStyle(document.getElementById('word')).fontSize)") >= 50


def test_no_run_is_not_in_alarm_colours(page: Browser, shown: SnapshotSource) -> None:
    shown.now = states()["empty"]
    page.wait_for_text("NOT FLOWING", "#word")
    assert page.run_script("return document.body.dataset.verdict") == "unknown"
    page.wait_for_text("No runs received yet", "#no-runs")


def test_tiles_say_their_state_in_words(page: Browser, shown: SnapshotSource) -> None:
    for name, texts in (
        ("flow", ("11.6", "TF files / s", "last TF file 1 s ago", "OK")),
        ("missing", ("3", "STFs of run 100014", "warning")),
        ("daemon", ("4 s", "backlog 12", "OK")),
        ("monitor", ("LIVE", "heard 3 s ago", "1 reconnect", "OK")),
    ):
        for text in texts:
            page.wait_for_text(text, f"#tile-{name}")
    shown.now = states()["starting"]
    page.wait_for_text("no TF file yet", "#tile-flow")
    page.wait_for_text("?", "#tile-missing .value")
    page.wait_for_text("no heart-beat", "#tile-daemon")
    page.wait_for_text("CONNECTING", "#tile-monitor")


def test_dead_stream_has_one_alarm_with_its_remedy(page: Browser, shown: SnapshotSource) -> None:
    more = alarm("monitor_unreachable", None, evidence="no response"), alarm("run_stale")
    shown.now = dead(alarms=[*dead()["alarms"], *more])
    page.wait_for_text("UNKNOWN", "#word")
    page.wait_for_text("DEAD", "#tile-monitor")
    page.wait_for_text("Monitor's stream is dead", "#active-alarms")
    page.wait_for_text("fastmon-client status", "#active-alarms .todo")
    page.wait_for_text("Also: Run has no new TF files · run 100014", "#active-alarms .consequences")
    assert page.run_script("return document.querySelectorAll('#active-alarms > li').length") == 1
    assert page.run_script("return document.title") == "(1) UNKNOWN · fastmon"


def test_ended_alarms_are_folded(page: Browser, shown: SnapshotSource) -> None:
    shown.now = snapshot(alarms=[alarm(), alarm("rate_dropped", until="2026-11-21T20:56:01+00:00")])
    page.wait_for_text("1 ended alarm of the last 10 minutes", "#ended")
    assert "Rate has dropped" not in page.text("#alarms")
    page.click("#ended summary")
    page.wait_for_text("20:55:01 to 20:56:01 · Rate has dropped · run 100014", "#ended-alarms")


def test_stale_and_unknown_are_shown_in_words(page: Browser, shown: SnapshotSource) -> None:
    shown.now = snapshot(runs=[run(stale=True, verified="UNKNOWN", doubt=REASON, stfs_missing=None, missing=[])])
    page.wait_for_text("running, stale", "#runs")
    page.wait_for_text("UNKNOWN", "#runs")
    assert page.run_script("return document.querySelectorAll(`#runs td[title='${arguments[0]}']`).length", REASON) == 1


def test_columns_that_are_zero_everywhere_are_not_there(page: Browser, shown: SnapshotSource) -> None:
    calm = {"stfs_missing": 0, "stfs_incomplete": 0, "missing": [], "backfilled": 0}
    shown.now = snapshot(runs=[run(**calm), run("100013", **calm)])
    wait_until(lambda: "Missing" not in page.text("#runs"), "the column is gone")
    head = page.text("#runs thead")
    assert not {"Missing", "Incomplete", "Skipped", "Backfilled", "Namespace"} & set(head.split())
    shown.now = snapshot(runs=[run(**calm), run("100013", **calm, stfs_skipped=7, namespace="other")])
    page.wait_for_text("Skipped", "#runs thead")
    page.wait_for_text("Namespace", "#runs thead")


def test_eight_runs_are_shown_and_the_others_on_demand(page: Browser, server: Served, shown: SnapshotSource) -> None:
    shown.now = snapshot(runs=[run(str(100300 - n), strip=[]) for n in range(200)])
    page.wait_for_text("192 more", "#more-runs")
    assert page.run_script("return document.querySelectorAll('#runs tbody tr').length") == 8
    page.click("#more-runs")
    page.wait_for_text("100101", "#runs")
    assert page.run_script("return location.search") == "?all=1"
    assert page.run_script("return document.querySelectorAll('#runs tbody tr').length") == 200
    page.click("#more-runs")
    wait_until(lambda: "100101" not in page.text("#runs"), "the older runs are gone")
    page.open(f"{server.url}/?q=100101&state=open")
    page.wait_for_text("100101", "#runs")
    assert page.run_script("return document.getElementById('filter').value") == "100101"
    page.open(f"{server.url}/?q=nothing")
    page.wait_for_text("No run matches the filter", "#no-runs")


def test_old_runs_are_found_by_the_filter(page: Browser, shown: SnapshotSource) -> None:
    bad = run("100005", state="complete", strip=[])
    calm = [run(str(100300 - n), strip=[], stfs_missing=0, stfs_incomplete=0) for n in range(60)]
    shown.now = snapshot(runs=[*calm, bad])
    page.wait_for_text("53 more", "#more-runs")
    page.run_script(
        "const s = document.getElementById('state-filter'); s.value = 'missing'; s.dispatchEvent(new Event('change'))"
    )
    page.wait_for_text("100005", "#runs")
    assert page.run_script("return document.querySelectorAll('#runs tbody tr').length") == 1
    assert page.run_script("return location.search") == "?state=missing"


def test_strip_has_a_shape_and_words_for_each_kind(page: Browser, shown: SnapshotSource) -> None:
    cells = strip(60, _3="recovered", _7="missing", _8="missing", _20="skipped", _30="incomplete", _31="unknown")
    shown.now = snapshot(runs=[run(strip=cells)])
    page.wait_for_text(
        "STFs 1-60: 54 present; 1 recovered (3); 1 incomplete (30); 1 skipped; 1 unknown (31); 2 missing (7-8)",
        "#strips",
    )
    drawn = page.run_script(
        "return [...document.querySelectorAll('#strips path')].map((p) => [p.className.baseVal, p.getAttribute('d')])"
    )
    assert {kind for kind, _ in drawn} == {"present", "recovered", "incomplete", "skipped", "unknown", "missing"}
    legend = page.run_script("return [...document.querySelectorAll('#legend path')].map((p) => p.getAttribute('d'))")
    assert len(set(legend)) == 6, "two kinds have the same shape"
    assert "2 missing (7-8)" in page.run_script(
        "return document.querySelector('#strips svg').getAttribute('aria-label')"
    )


@pytest.mark.parametrize(
    "found", [snapshot(**HOSTILE_CHANGES), dead(**{**HOSTILE_CHANGES, "recent": []})], ids=["live", "dead"]
)
@pytest.mark.parametrize("width", [375, 1280])
def test_hostile_names_are_text(
    browser: Browser, server: Served, shown: SnapshotSource, found: dict[str, Any], width: int
) -> None:
    shown.now = found
    browser.open(server.url, width)
    browser.wait_for_text(HOSTILE, "#runs")
    browser.wait_for_text("\\u{1b}[2J\\u{1b}]0;owned\\u{7}[bold red]evil[/]", "#alarms")
    assert "\x1b" not in browser.text("body")
    assert "\u202e" not in browser.text("body")
    assert browser.run_script("return document.querySelectorAll('table script, #alarms script').length") == 0
    assert browser.run_script("return document.documentElement.scrollWidth <= innerWidth")
    assert browser.console_errors() == []


@pytest.mark.parametrize("width", [320, 375, 768, 1000, 1280, 1920])
def test_no_page_scrolls_sideways(page: Browser, server: Served, width: int) -> None:
    page.open(server.url, width)
    page.wait_for_text("swf.100014.000120_tf_007.tf", "#recent")
    assert page.run_script("return document.documentElement.scrollWidth") <= width


def test_axe_detects_low_contrast(page: Browser) -> None:
    page.run_script("document.getElementById('foot').style.color = '#eeeeee'")
    assert any("color-contrast" in finding for finding in page.axe_violations())


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [375, 1280])
@pytest.mark.parametrize(
    "found", [snapshot(), dead(), snapshot(runs=[], recent=[], alarms=[])], ids=["live", "dead", "empty"]
)
def test_axe_finds_no_serious_violation(
    browser: Browser, server: Served, shown: SnapshotSource, found: dict[str, Any], width: int, dark: bool
) -> None:
    shown.now = found
    browser.open(server.url, width, dark=dark)
    browser.wait_for_text(found["verdict"]["word"], "#word")
    assert browser.is_light() is not dark
    assert browser.axe_violations() == []


def test_theme_button_is_remembered(page: Browser, server: Served) -> None:
    assert page.is_light()
    page.click("#theme")
    assert not page.is_light()
    assert page.text("#theme") == "Light"
    page.open(server.url)
    page.wait_for_text("DEGRADED", "#word")
    assert not page.is_light()


def test_page_requests_only_its_own_server(browser: Browser, server: Served) -> None:
    browser.requested_hosts()
    browser.open(server.url)
    browser.wait_for_text("DEGRADED", "#word")
    assert browser.requested_hosts() == {f"127.0.0.1:{server.port}"}
    assert browser.console_errors() == []


def test_foreign_script_does_not_run(page: Browser) -> None:
    inline = "const s = document.createElement('script'); s.append('window.owned = 1'); document.body.append(s)"
    page.run_script(f"try {{ {inline} }} catch {{}}")
    page.run_script("try { document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"owned=1\">') } catch {}")
    assert page.run_script("return window.owned") is None
    assert page.console_errors() != []


def test_table_keeps_its_roles_on_a_phone(page: Browser, server: Served) -> None:
    page.open(server.url, 375)
    page.wait_for_text("100014", "#runs")
    tree = page.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    roles = [node.get("role", {}).get("value") for node in tree]
    assert roles.count("table") == 2
    assert roles.count("columnheader") >= 12
    assert {"banner", "main", "contentinfo"} <= set(roles)


def test_a_screen_reader_hears_the_verdict_when_it_changes(page: Browser, shown: SnapshotSource) -> None:
    said = "return document.getElementById('announcer').textContent"
    assert page.run_script(said).startswith("DEGRADED. 3 STFs of run 100014")
    shown.now = dead()
    page.wait_for_text("UNKNOWN", "#word")
    assert page.run_script(said).startswith("UNKNOWN. the monitor's stream is dead")
    live = "return [...document.querySelectorAll('[aria-live]')].map((e) => e.id)"
    assert page.run_script(live) == ["announcer"]


def test_focus_is_visible(page: Browser) -> None:
    page.run_script("document.getElementById('theme').focus({focusVisible: true})")
    assert page.run_script("return getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_page_detects_a_silent_server(browser: Browser) -> None:
    with served(snapshot) as short_lived:
        browser.open(short_lived.url)
        browser.wait_for_text("DEGRADED", "#word")
    browser.wait_for_text("UNKNOWN", "#word")
    browser.wait_for_text("No data from the dashboard's server for", "#reason")
    browser.wait_for_text("The numbers below are of 20:56:56", "#reason")
    browser.wait_for_text("Next try in", "#remedy")
    assert browser.run_script("return getComputedStyle(document.querySelector('#runs td')).fontStyle") == "italic"
    assert browser.axe_violations() == []


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_form_accepts_the_token(browser: Browser, dark: bool) -> None:
    with served(snapshot, "a-token-that-nobody-guesses") as locked:
        browser.open(locked.url, 375, dark=dark)
        assert browser.axe_violations() == []
        browser.run_script("document.getElementById('token').value = 'wrong'")
        browser.click("form button")
        browser.wait_for_text("Invalid token", "[role=alert]")
        assert browser.axe_violations() == []
        browser.run_script("document.getElementById('token').value = 'a-token-that-nobody-guesses'")
        browser.click("form button")
        browser.wait_for_text("DEGRADED", "#word")


def test_changed_token_requires_a_new_sign_in(browser: Browser) -> None:
    with served(snapshot, "a-token-that-nobody-guesses") as locked:
        browser.open(f"{locked.url}/login")
        browser.run_script("document.getElementById('token').value = 'a-token-that-nobody-guesses'")
        browser.click("form button")
        browser.wait_for_text("DEGRADED", "#word")
    with served(snapshot, "another-token-nobody-guesses", locked.port):
        browser.wait_for_text("Sign-in required", "#reason")
        browser.wait_for_text("UNKNOWN", "#word")


def test_snapshot_that_cannot_be_drawn_makes_the_page_dead(page: Browser, shown: SnapshotSource) -> None:
    shown.now = snapshot(runs=[run(rate_hz="fast")])
    page.wait_for_text("UNKNOWN", "#word")
    page.wait_for_text("The numbers cannot be drawn", "#reason")
    shown.now = snapshot()
    page.wait_for_text("DEGRADED", "#word")
