"""The program at another time: it starts at FREEZE_AT (ISO 8601, UTC), and from there its clocks go on."""

from __future__ import annotations

import os

from freezegun import freeze_time

if __name__ == "__main__":
    with freeze_time(os.environ["FREEZE_AT"], tick=True):
        from fastmon_daemon.cli import main

        main()
