"""The page of a real dashboard process that looks at a real (embedded) monitor."""

from __future__ import annotations

import signal

from fastmon_daemon.testbed.monitor import MonitorOptions, MonitorThread
from tests.browser.browsing import Browser
from tests.client.living import TOKEN, Dashboard, Experiment
from tests.client.snapshots import ESCAPES, HOSTILE
from tests.processes import wait_until


def test_what_is_announced_is_shown_at_once_and_the_end_of_the_run_is_verified(
    browser: Browser, experiment: Experiment
) -> None:
    with Dashboard(experiment.monitor.url) as dashboard:
        browser.open(dashboard.url)
        browser.says("LIVE", "#state")
        experiment.says("start_run")
        experiment.take(1)
        browser.says("swf.100014.000001_tf_003.tf", "#recent")
        browser.says("running", "#runs")
        experiment.take(2)
        experiment.says("end_run", total_stf_files=2)
        browser.says("VERIFIED", "#runs")
        browser.says("STFs 1-2: 2 present", "#strips")
        assert "6 / 6" in browser.text("#runs tbody tr")


def test_after_an_outage_what_was_missed_is_filled_in(browser: Browser, experiment: Experiment) -> None:
    with Dashboard(experiment.monitor.url) as dashboard:
        browser.open(dashboard.url)
        experiment.says("start_run")
        experiment.take(1)
        browser.says("swf.100014.000001_tf_003.tf", "#recent")
        experiment.monitor.stop()
        browser.says("DEAD", "#state")
        browser.says("what is now is UNKNOWN", "#no-longer")
        browser.says("ALARM · stream dead", "#alarms")
        experiment.monitor.start()
        experiment.take(2, announced=0)
        browser.says("LIVE", "#state")
        browser.says("1 reconnect", "#connection")
        browser.says("swf.100014.000002_tf_003.tf", "#recent")
        browser.says("backfilled", "#recent tbody")
        browser.says("1 recovered (2)", "#strips")
        wait_until(lambda: "ended · stream dead" in browser.text("#alarms"), "the alarm is over")


def test_a_stream_that_falls_silent_is_dead_until_it_speaks_again(browser: Browser) -> None:
    silent = MonitorOptions(heartbeat_s=3600.0)  # it greets, and that is all
    with MonitorThread(TOKEN, silent) as monitor, Dashboard(monitor.url, heart_beat_s=1.0) as dashboard:
        browser.open(dashboard.url)
        browser.says("LIVE", "#state")
        browser.says("DEAD", "#state")
        browser.says("ALARM · stream dead", "#alarms")
        browser.says("LIVE", "#state")
        dashboard.signal(signal.SIGTERM)
        assert dashboard.ended()[0] == 0


def test_a_run_without_tf_files_becomes_stale(browser: Browser, experiment: Experiment) -> None:
    with Dashboard(experiment.monitor.url, "--stale-after", "2s") as dashboard:
        browser.open(dashboard.url)
        experiment.says("start_run")
        experiment.take(1)
        browser.says("running STALE", "#runs")
        browser.says("ALARM · run stale · run 100014", "#alarms")
        experiment.take(2)
        wait_until(lambda: "STALE" not in browser.text("#runs"), "it is fresh again")


def test_skipped_is_told_from_missing(browser: Browser, experiment: Experiment) -> None:
    with Dashboard(experiment.monitor.url) as dashboard:
        browser.open(dashboard.url)
        experiment.says("start_run")
        experiment.fraction = 0.1
        experiment.take(1, 11, 31)
        experiment.register_stfs(*(n for n in range(2, 32) if n % 10 != 1 or n == 21))
        experiment.says("end_run", total_stf_files=31)
        browser.says("3 present; 27 skipped; 1 missing (21)", "#strips")
        browser.says("1: 21", "#runs")


def test_hostile_names_of_the_monitor_are_text(browser: Browser, experiment: Experiment) -> None:
    with Dashboard(experiment.monitor.url) as dashboard:
        browser.open(dashboard.url)
        experiment.take(1, stf=HOSTILE, tf=ESCAPES.replace("\x1b", "\x9b"))
        browser.says(HOSTILE, "#recent")
        browser.says("\\u{9b}[2J", "#recent")
        browser.says("[bold red]evil[/]", "#recent")
        assert browser.complaints() == []


def test_two_pages_show_the_same_over_one_stream(browser: Browser, experiment: Experiment) -> None:
    with Dashboard(experiment.monitor.url) as dashboard:
        browser.open(dashboard.url)
        browser.open(dashboard.url, new=True)
        first, second = browser.driver.window_handles
        experiment.says("start_run")
        experiment.take(1)
        for page in (first, second):
            browser.driver.switch_to.window(page)
            browser.says("swf.100014.000001_tf_003.tf", "#recent")
        assert experiment.monitor.call(lambda: experiment.monitor.server.broadcaster.clients) == 1


def test_a_restarted_dashboard_is_found_again_by_its_pages(browser: Browser, experiment: Experiment) -> None:
    with Dashboard(experiment.monitor.url) as dashboard:
        browser.open(dashboard.url)
        browser.says("LIVE", "#state")
    browser.says("DEAD", "#state")
    with Dashboard(experiment.monitor.url, listen=dashboard.url.removeprefix("http://").rstrip("/")):
        browser.says("LIVE", "#state")
