"""`make bench`: all measurements, as ratios taken side by side; the last line is one JSON object."""

from __future__ import annotations

import json

from bench import client


def main() -> None:
    """Run them one after the other."""
    print(json.dumps({"client": client.measure()}))


if __name__ == "__main__":
    main()
