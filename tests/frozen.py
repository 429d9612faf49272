"""The program at another time: it starts at FREEZE_AT (ISO 8601, UTC), and from there its clocks go on."""

from __future__ import annotations

import os

from freezegun import configure, freeze_time

if __name__ == "__main__":
    configure(default_ignore_list=[])  # else a thread has one time near its start and another in deeper calls
    with freeze_time(os.environ["FREEZE_AT"], tick=True):
        from fastmon_daemon.cli import main

        main()
