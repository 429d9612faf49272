"""The minimal client of the stream: sseclient-py and `json.loads`. Arguments: URL, number of events."""

from __future__ import annotations

import json
import sys

import requests
from sseclient import SSEClient


def main(url: str, count: int) -> None:
    """Read *count* announcements."""
    seen = 0
    with requests.get(f"{url}/api/messages/stream/", stream=True, timeout=60) as response:
        for event in SSEClient(response.iter_content(None)).events():
            seen += json.loads(event.data).get("msg_type") == "tf_file_registered"
            if seen == count:
                return


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
