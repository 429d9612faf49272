"""The page with hand-made snapshots, in every state."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest

from tests.browser.browsing import Browser
from tests.client.dashboard_server import Served, served
from tests.client.snapshots import ESCAPES, HOSTILE, alarm, dead, run, snapshot, strip, tf_file

REASON = "the monitor does not answer"
HOSTILE_CHANGES = {
    "runs": [run(HOSTILE, namespace=ESCAPES), *[run(f"10{n:04d}", strip=[]) for n in range(20)]],
    "recent": [
        tf_file(1, 1, tf_filename=ESCAPES, stf_filename=HOSTILE),
        tf_file(1, 2, tf_filename="\u202egnp.tf" * 30),
    ],
    "alarms": [alarm(evidence=HOSTILE + ESCAPES, run=ESCAPES)],
    "filters": {"namespace": ESCAPES},
}


class SnapshotSource:
    """The snapshot that the server shows; a test may replace it."""

    def __init__(self) -> None:
        self.now = snapshot()

    def snapshot(self) -> dict[str, Any]:
        return deepcopy(self.now)


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
    browser.wait_for_text("LIVE", "#state")
    return browser


def test_row_shows_all_numbers_of_a_run(page: Browser) -> None:
    row = page.text("#runs tbody tr")
    for text in ("100014", "epic", "running", "117 / 120", "3: 12, 15-16", "819 / 840", "VERIFIED", "41.3 GB", "1.42"):
        assert text in row


def test_dead_stream_is_shown_with_its_age_and_greyed(page: Browser, shown: SnapshotSource) -> None:
    shown.now = dead()
    page.wait_for_text("DEAD", "#state")
    page.wait_for_text("heart-beat 1 min 2", "#connection")
    page.wait_for_text("current state is UNKNOWN", "#outdated")
    page.wait_for_text("ALARM · stream dead", "#alarms")
    assert page.run_script("return getComputedStyle(document.querySelector('#runs td')).fontStyle") == "italic"
    assert page.run_script("return document.title").startswith("DEAD")


def test_stale_and_unknown_are_shown_in_words(page: Browser, shown: SnapshotSource) -> None:
    shown.now = snapshot(runs=[run(stale=True, verified="UNKNOWN", doubt=REASON, stfs_missing=None, missing=[])])
    page.wait_for_text("running STALE", "#runs")
    page.wait_for_text(f"UNKNOWN: {REASON}", "#runs")


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
    browser.wait_for_text("\\u{1b}[2J\\u{1b}]0;owned\\u{7}[bold red]evil[/]", "#alarms" if found["recent"] else "#runs")
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
    browser.wait_for_text(found["connection"]["state"], "#state")
    assert browser.is_light() is not dark
    assert browser.axe_violations() == []


def test_theme_button_is_remembered(page: Browser, server: Served) -> None:
    assert page.is_light()
    page.click("#theme")
    assert not page.is_light()
    assert page.text("#theme") == "Light"
    page.open(server.url)
    page.wait_for_text("LIVE", "#state")
    assert not page.is_light()


def test_page_requests_only_its_own_server(browser: Browser, server: Served) -> None:
    browser.requested_hosts()
    browser.open(server.url)
    browser.wait_for_text("LIVE", "#state")
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
    assert roles.count("columnheader") >= 20
    assert {"banner", "main", "contentinfo"} <= set(roles)


def test_only_alarms_are_live_regions(page: Browser) -> None:
    assert page.run_script(
        "return [...document.querySelectorAll('[aria-live], [role=alert], [role=status]')].map((e) => e.id)"
    ) == ["alarms"]


def test_focus_is_visible(page: Browser) -> None:
    page.run_script("document.getElementById('theme').focus({focusVisible: true})")
    assert page.run_script("return getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_page_detects_a_silent_server(browser: Browser) -> None:
    with served(snapshot) as short_lived:
        browser.open(short_lived.url)
        browser.wait_for_text("LIVE", "#state")
    browser.wait_for_text("DEAD", "#state")
    browser.wait_for_text("No data from the dashboard server for", "#connection")
    browser.wait_for_text("current state is UNKNOWN", "#outdated")
    browser.wait_for_text("ALARM · page silent", "#alarms")
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
        browser.wait_for_text("LIVE", "#state")


def test_changed_token_requires_a_new_sign_in(browser: Browser) -> None:
    with served(snapshot, "a-token-that-nobody-guesses") as locked:
        browser.open(f"{locked.url}/login")
        browser.run_script("document.getElementById('token').value = 'a-token-that-nobody-guesses'")
        browser.click("form button")
        browser.wait_for_text("LIVE", "#state")
    with served(snapshot, "another-token-nobody-guesses", locked.port):
        browser.wait_for_text("Sign-in required", "#connection")
        browser.wait_for_text("DEAD", "#state")


def test_snapshot_that_cannot_be_drawn_makes_the_page_dead(page: Browser, shown: SnapshotSource) -> None:
    shown.now = snapshot(runs=[run(rate_hz="fast")])
    page.wait_for_text("DEAD", "#state")
    page.wait_for_text("Cannot draw the snapshot", "#connection")
    shown.now = snapshot()
    page.wait_for_text("LIVE", "#state")
