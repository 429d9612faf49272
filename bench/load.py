"""A bare load generator: POSTs of TF files over several connections, for some seconds.

Arguments: run, number of its registered STFs, connections, seconds. The last line is a JSON object.
"""

from __future__ import annotations

import json
import sys
import threading
import time

from bench.bare_loop import metadata
from bench.links import Rest
from bench.testbed import STF_BYTES
from fastmon_daemon.base.clock import utcnow
from fastmon_daemon.testbed.daq_messages import RunMessages, stf_name
from fastmon_daemon.testbed.testbed import NAMESPACE


def main(run: int, stfs: int, connections: int, seconds: float) -> None:
    """POST rows until *seconds* are over; each connection has a thread."""
    counts = [0] * connections
    end = time.monotonic() + seconds
    messages = RunMessages(namespace=NAMESPACE, run=run, size=STF_BYTES, began=utcnow(), now=utcnow)
    fields = metadata(messages.stf_ready(1))

    def post(connection: int) -> None:
        rest = Rest()
        while time.monotonic() < end:
            number = counts[connection]
            rest.post("fastmon-files/", {
                "stf_file": stf_name(run, number % stfs + 1), "tf_filename": f"load.{connection}.{number}.tf",
                "tf_first": 0, "tf_last": 20, "tf_count": 21, "file_size_bytes": 42_000_000,
                "status": "registered", "metadata": fields,
            })  # fmt: skip
            counts[connection] += 1

    threads = [threading.Thread(target=post, args=(connection,)) for connection in range(connections)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(json.dumps({"rows": sum(counts), "wall_s": time.monotonic() - began}))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))
