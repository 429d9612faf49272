"""Headless Chromium, and helpers for tests of a page; records all requests."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By

from tests.processes import wait_until

AXE = Path(__file__).parent / "axe" / "axe.min.js"
WORDS = ("--headless=new", "--disable-gpu", "--hide-scrollbars", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-dev-shm-usage", "--no-proxy-server")  # fmt: skip


class Browser:
    """One Chromium; each page is a tab."""

    def __init__(self, driver: Chrome) -> None:
        self.driver = driver

    def open(self, url: str, width: int = 1280, height: int = 900, *, dark: bool = False, new: bool = False) -> None:
        if new:
            self.driver.switch_to.new_window("tab")
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        self.driver.get(url)

    def wait_for_text(self, text: str, where: str = "body") -> None:
        """Wait until *text* is visible in the element *where*."""
        try:
            wait_until(lambda: text in self.text(where))
        except AssertionError:
            raise AssertionError(f"{text!r} is not in {where}: {self.text(where)[:2000]}") from None

    def text(self, where: str) -> str:
        """The visible text of the element; empty without one."""
        found = self.run_script("return document.querySelector(arguments[0])?.innerText ?? ''", where)
        return str(found)

    def run_script(self, script: str, *values: Any) -> Any:
        return self.driver.execute_script(script, *values)

    def click(self, where: str) -> None:
        self.driver.find_element(By.CSS_SELECTOR, where).click()

    def is_light(self) -> bool:
        """Whether the background is light."""
        background = self.run_script(
            "return getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"
        )
        return sum(background[:3]) > 384

    def axe_violations(self) -> list[str]:
        """The violations of any level that axe finds."""
        self.run_script(AXE.read_text(encoding="utf-8"))
        found = self.driver.execute_async_script(
            "axe.run().then(arguments[0], (e) => arguments[0]({error: String(e)}))"
        )
        assert "violations" in found, found
        assert found["passes"], "axe checked nothing"
        return [
            f"{each['impact']} {each['id']}: {node['html'][:200]} {node['failureSummary']}"
            for each in found["violations"] for node in each["nodes"]
        ]  # fmt: skip

    def requested_hosts(self) -> set[str]:
        """The hosts (with ports) that were requested since the last call."""
        hosts = set()
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                hosts.add(str(message["params"]["request"]["url"]))
        return {url.split("/")[2] for url in hosts if "://" in url}

    def console_errors(self) -> list[str]:
        """Console errors since the last call: CSP violations, script errors."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] != "INFO"]


@contextmanager
def browsing() -> Iterator[Browser]:
    """A Chromium for the block."""
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    assert program, "no chromium: run make test-browser, which installs it"
    assert driver, "no chromedriver: run make test-browser, which installs it"
    options = ChromeOptions()
    options.binary_location = program
    for word in WORDS:
        options.add_argument(word)
    if os.geteuid() == 0:  # the sandbox does not work for root
        options.add_argument("--no-sandbox")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    running = Chrome(options=options, service=Service(driver))
    running.set_script_timeout(60)
    try:
        yield Browser(running)
    finally:
        running.quit()
