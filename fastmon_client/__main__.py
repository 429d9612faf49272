"""`python -m fastmon_client` is `fastmon-client`."""

from fastmon_client.cli import main

if __name__ == "__main__":
    main()
