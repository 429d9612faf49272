"""Install Debian's Chromium and its driver for the browser tests: `python -m tests.browser.install`. Root once."""

from __future__ import annotations

import shutil
import sys

from tests.real_brokers.install import NotInstalledError, apt_install

NEEDED = {"chromium": "chromium", "chromedriver": "chromium-driver"}


def main() -> int:
    """Exit code; 0 if both are installed."""
    missing = [package for program, package in NEEDED.items() if not shutil.which(program)]
    try:
        if missing:
            apt_install(*missing)
    except NotInstalledError as exc:
        print(f"NOT installed: {exc}", file=sys.stderr)
        return 1
    print(f"chromium: {shutil.which('chromium')}, driver: {shutil.which('chromedriver')}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
