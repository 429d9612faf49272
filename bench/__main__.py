"""`make bench`: run all benchmarks; the last line of the output is one JSON object."""

from __future__ import annotations

import json

from bench import client


def main() -> None:
    """Run all benchmarks, one after the other."""
    print(json.dumps({"client": client.measure()}))


if __name__ == "__main__":
    main()
