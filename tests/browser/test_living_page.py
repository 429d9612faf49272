"""The page of a real dashboard process that looks at a real (embedded) monitor."""

from __future__ import annotations

import signal

from fastmon_daemon.testbed.monitor import MonitorOptions, MonitorThread
from tests.browser.browsing import Browser
from tests.client.living import TOKEN, Client
from tests.client.shift import Shift, dashboard
from tests.client.snapshots import ESCAPES, HOSTILE
from tests.living import wait_until


def test_what_is_announced_is_shown_at_once_and_the_end_of_the_run_is_verified(browser: Browser, shift: Shift) -> None:
    with dashboard(shift.monitor) as url:
        browser.open(url)
        browser.says("LIVE", "#state")
        shift.message("start_run")
        shift.stf(1)
        browser.says("swf.100014.000001_tf_003.tf", "#recent")
        browser.says("running", "#runs")
        shift.stf(2)
        shift.message("end_run", total_stf_files=2)
        browser.says("VERIFIED", "#runs")
        browser.says("STFs 1-2: 2 present", "#strips")
        assert "6 / 6" in browser.text("#runs tbody tr")


def test_after_an_outage_what_was_missed_is_filled_in(browser: Browser, shift: Shift) -> None:
    with dashboard(shift.monitor) as url:
        browser.open(url)
        shift.message("start_run")
        shift.stf(1)
        browser.says("swf.100014.000001_tf_003.tf", "#recent")
        shift.monitor.stop()
        browser.says("DEAD", "#state")
        browser.says("what is now is UNKNOWN", "#no-longer")
        browser.says("ALARM · stream dead", "#alarms")
        shift.monitor.start()
        shift.stf(2, announced=0)
        browser.says("LIVE", "#state")
        browser.says("1 reconnect", "#connection")
        browser.says("swf.100014.000002_tf_003.tf", "#recent")
        browser.says("backfilled", "#recent tbody")
        browser.says("1 recovered (2)", "#strips")
        wait_until(lambda: "ended · stream dead" in browser.text("#alarms"), "the alarm is over")


def test_a_stream_that_falls_silent_is_dead_until_it_speaks_again(browser: Browser) -> None:
    silent = MonitorOptions(heartbeat_s=3600.0)  # it greets, and that is all
    listen = ("--listen", "127.0.0.1:0")
    with MonitorThread(TOKEN, silent) as monitor, Client(
        monitor.url, *listen, command="dashboard", heart_beat_s=1.0
    ) as client:  # fmt: skip
        browser.open(client.line().split()[1])
        browser.says("LIVE", "#state")
        browser.says("DEAD", "#state")
        browser.says("ALARM · stream dead", "#alarms")
        browser.says("LIVE", "#state")
        client.signal(signal.SIGTERM)
        assert client.ended()[0] == 0


def test_a_run_without_tf_files_becomes_stale(browser: Browser, shift: Shift) -> None:
    with dashboard(shift.monitor, "--stale-after", "2s") as url:
        browser.open(url)
        shift.message("start_run")
        shift.stf(1)
        browser.says("running STALE", "#runs")
        browser.says("ALARM · run stale · run 100014", "#alarms")
        shift.stf(2)
        wait_until(lambda: "STALE" not in browser.text("#runs"), "it is fresh again")


def test_skipped_is_told_from_missing(browser: Browser, shift: Shift) -> None:
    with dashboard(shift.monitor) as url:
        browser.open(url)
        shift.message("start_run")
        for sequence in (1, 11, 31):
            shift.stf(sequence, fraction=0.1, previous=sequence - 10)
        for sequence in range(2, 32):
            if sequence % 10 != 1 or sequence == 21:
                shift.register_stf(sequence)
        shift.message("end_run", total_stf_files=31)
        browser.says("3 present; 27 skipped; 1 missing (21)", "#strips")
        browser.says("1: 21", "#runs")


def test_hostile_names_of_the_monitor_are_text(browser: Browser, shift: Shift) -> None:
    with dashboard(shift.monitor) as url:
        browser.open(url)
        shift.stf(1, name=HOSTILE, tf_name=ESCAPES.replace("\x1b", "\x9b"))
        browser.says(HOSTILE, "#recent")
        browser.says("\\u{9b}[2J", "#recent")
        browser.says("[bold red]evil[/]", "#recent")
        assert browser.complaints() == []


def test_two_pages_show_the_same_over_one_stream(browser: Browser, shift: Shift) -> None:
    with dashboard(shift.monitor) as url:
        browser.open(url)
        browser.open(url, new=True)
        first, second = browser.driver.window_handles
        shift.message("start_run")
        shift.stf(1)
        for page in (first, second):
            browser.driver.switch_to.window(page)
            browser.says("swf.100014.000001_tf_003.tf", "#recent")
        assert shift.monitor.call(lambda: shift.monitor.server.hub.clients) == 1


def test_a_restarted_dashboard_is_found_again_by_its_pages(browser: Browser, shift: Shift) -> None:
    with dashboard(shift.monitor) as url:
        browser.open(url)
        browser.says("LIVE", "#state")
    browser.says("DEAD", "#state")
    with dashboard(shift.monitor, "--listen", url.removeprefix("http://").rstrip("/")):
        browser.says("LIVE", "#state")
