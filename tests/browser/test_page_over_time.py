"""The page of a dashboard process with an embedded monitor."""

from __future__ import annotations

import signal

from fastmon_daemon.testbed.monitor import MonitorOptions, MonitorThread
from tests.browser.browsing import Browser
from tests.client.client_process import QUICK, TOKEN, Dashboard, Experiment
from tests.client.snapshots import ESCAPES, HOSTILE
from tests.processes import wait_until


def test_announcements_appear_and_the_ended_run_is_verified(browser: Browser, experiment: Experiment) -> None:
    with Dashboard(experiment.monitor.url) as dashboard:
        browser.open(dashboard.url)
        browser.wait_for_text("LIVE", "#tile-monitor")
        experiment.send("start_run")
        experiment.publish(1)
        browser.wait_for_text("swf.100014.000001_tf_003.tf", "#recent")
        browser.wait_for_text("running", "#runs")
        browser.wait_for_text("0 s ago", "#tile-flow")
        experiment.publish(2)
        experiment.send("end_run", total_stf_files=2)
        browser.wait_for_text("VERIFIED", "#runs")
        browser.wait_for_text("STFs 1-2: 2 present", "#strips")
        assert "6 / 6" in browser.text("#runs tbody tr")


def test_missed_tf_files_are_backfilled_after_an_outage(browser: Browser, experiment: Experiment) -> None:
    with Dashboard(experiment.monitor.url) as dashboard:
        browser.open(dashboard.url)
        experiment.send("start_run")
        experiment.publish(1)
        browser.wait_for_text("swf.100014.000001_tf_003.tf", "#recent")
        experiment.monitor.stop()
        browser.wait_for_text("DEAD", "#tile-monitor")
        browser.wait_for_text("UNKNOWN", "#word")
        browser.wait_for_text("monitor does not answer", "#reason")
        browser.wait_for_text("Monitor's stream is dead", "#active-alarms")
        experiment.monitor.start()
        experiment.publish(2, announced=0)
        browser.wait_for_text("LIVE", "#tile-monitor")
        browser.wait_for_text("1 reconnect", "#tile-monitor")
        browser.wait_for_text("swf.100014.000002_tf_003.tf", "#recent")
        browser.wait_for_text("backfilled", "#recent tbody")
        browser.wait_for_text("1 recovered (2)", "#strips")
        browser.wait_for_text("ended alarm", "#ended")
        wait_until(lambda: "Monitor's stream" not in browser.text("#active-alarms"), "the alarm ended")


def test_silent_stream_is_dead_until_data_arrives(browser: Browser) -> None:
    silent = MonitorOptions(heartbeat_s=3600.0)  # only the first event
    with MonitorThread(TOKEN, silent) as monitor, Dashboard(monitor.url, heart_beat_s=1.0) as dashboard:
        browser.open(dashboard.url)
        browser.wait_for_text("LIVE", "#tile-monitor")
        browser.wait_for_text("DEAD", "#tile-monitor")
        browser.wait_for_text("Monitor's stream is dead", "#active-alarms")
        browser.wait_for_text("LIVE", "#tile-monitor")
        dashboard.signal(signal.SIGTERM)
        assert dashboard.ended()[0] == 0


def test_run_without_tf_files_becomes_stale(browser: Browser, experiment: Experiment) -> None:
    with Dashboard(experiment.monitor.url, "--stale-after", "2s") as dashboard:
        browser.open(dashboard.url)
        experiment.send("start_run")
        experiment.publish(1)
        browser.wait_for_text("running, stale", "#runs")
        browser.wait_for_text("Run has no new TF files", "#active-alarms")
        browser.wait_for_text("NOT FLOWING", "#word")
        experiment.publish(2)
        wait_until(lambda: "stale" not in browser.text("#runs"), "the run is no longer stale")


def test_skipped_differs_from_missing(browser: Browser, experiment: Experiment) -> None:
    with Dashboard(experiment.monitor.url) as dashboard:
        browser.open(dashboard.url)
        experiment.send("start_run")
        experiment.fraction = 0.1
        experiment.publish(1, 11, 31)
        experiment.register_stfs(*(n for n in range(2, 32) if n % 10 != 1 or n == 21))
        experiment.send("end_run", total_stf_files=31)
        browser.wait_for_text("3 present; 27 skipped; 1 missing (21)", "#strips")
        browser.wait_for_text("Missing", "#runs")
        browser.wait_for_text("1", "#tile-missing .value")


def test_hostile_names_of_the_monitor_are_text(browser: Browser, experiment: Experiment) -> None:
    with Dashboard(experiment.monitor.url) as dashboard:
        browser.open(dashboard.url)
        experiment.publish(1, stf=HOSTILE, tf=ESCAPES.replace("\x1b", "\x9b"))
        browser.wait_for_text(HOSTILE, "#recent")
        browser.wait_for_text("\\u{9b}[2J", "#recent")
        browser.wait_for_text("[bold red]evil[/]", "#recent")
        assert browser.console_errors() == []


def test_two_pages_share_one_stream(browser: Browser, experiment: Experiment) -> None:
    with Dashboard(experiment.monitor.url) as dashboard:
        browser.open(dashboard.url)
        browser.open(dashboard.url, new=True)
        first, second = browser.driver.window_handles
        experiment.send("start_run")
        experiment.publish(1)
        for page in (first, second):
            browser.driver.switch_to.window(page)
            browser.wait_for_text("swf.100014.000001_tf_003.tf", "#recent")
        assert experiment.monitor.call(lambda: experiment.monitor.server.broadcaster.clients) == 1


def test_pages_reconnect_to_a_restarted_dashboard(browser: Browser, experiment: Experiment) -> None:
    with Dashboard(experiment.monitor.url) as dashboard:
        browser.open(dashboard.url)
        browser.wait_for_text("LIVE", "#tile-monitor")
    browser.wait_for_text("No data from the dashboard's server", "#reason")
    with Dashboard(experiment.monitor.url, listen=dashboard.url.removeprefix("http://").rstrip("/")):
        browser.wait_for_text("LIVE", "#tile-monitor")


def test_a_run_of_ten_thousand_tf_files_is_shown_and_the_page_stays_small(browser: Browser) -> None:
    stfs, lost = 1430, 700
    with Experiment(per_stf=7) as experiment:
        for sequence in range(1, stfs + 1):
            experiment.register_stfs(sequence)
            if sequence != lost:
                experiment.register_tfs(sequence)
        experiment.send("start_run")
        with Dashboard(experiment.monitor.url, token=TOKEN, **QUICK) as dashboard:
            browser.open(dashboard.url)
            browser.wait_for_text(f"{7 * (stfs - 1)} / {7 * stfs}", "#runs")
            browser.wait_for_text("1 STF", "#tile-missing")
            browser.click("#runs tbody tr:first-child th a")
            browser.wait_for_text(f"{stfs - 1} / {stfs}", "#run-view")
            browser.wait_for_text(experiment.stf(lost), "#run-view")
            assert browser.run_script("return document.getElementsByTagName('*').length") < 3000
            assert browser.run_script("return document.documentElement.scrollWidth <= innerWidth")
            assert browser.axe_violations() == []
            browser.open(f"{dashboard.url}?run={experiment.run}&stf={stfs}")
            browser.wait_for_text(f"swf.{experiment.run}.{stfs:06d}_tf_007.tf", "#stf-view")
            assert browser.console_errors() == []
