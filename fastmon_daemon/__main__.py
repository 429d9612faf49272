"""`python -m fastmon_daemon` is `fastmon-daemon`."""

from fastmon_daemon.cli import main

if __name__ == "__main__":
    main()
