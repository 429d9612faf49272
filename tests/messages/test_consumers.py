"""The consumers of docs/messages.md, run as they stand there: each prints every TF file once, whatever is repeated."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.processes import TOPIC, LiveTestbed, live_testbed, wait_until

DOCUMENT = Path(__file__).parents[2] / "docs" / "messages.md"
LONGEST = {"stomp": 15, "sse": 10}
"""Lines, without empty ones."""
STFS, TF_FILES = 3, 7


def consumer(name: str) -> str:
    blocks = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    (found,) = (block for block in blocks if re.search(rf"^import .*\b{name}", block))
    return str(found)


@pytest.mark.parametrize("name", LONGEST)
def test_a_consumer_is_short(name: str) -> None:
    assert len([line for line in consumer(name).splitlines() if line.strip()]) <= LONGEST[name]


def test_each_consumer_prints_every_tf_file_once(tmp_path: Path) -> None:
    with live_testbed(tmp_path) as testbed:
        children = {name: started(testbed, name) for name in LONGEST}
        announce_twice(testbed)
        last = json.dumps({"msg_type": "tf_file_registered", "event_id": "z", "run_id": "0", "tf_filename": "end"})
        testbed.broker_access.publish(last)
        for name, child in children.items():
            assert child.stdout is not None
            printed = [*iter(lambda out=child.stdout: out.readline().decode().strip(), "0 end")]  # type: ignore[misc]
            assert len(printed) == len(set(printed)) == STFS * TF_FILES, name
            assert {line.split()[1] for line in printed} == {
                row["tf_filename"] for row in testbed.rows("fastmon-files")
            }


def started(testbed: LiveTestbed, name: str) -> subprocess.Popen[bytes]:
    child = subprocess.Popen(
        [sys.executable, "-c", consumer(name)], env=testbed.environment(), cwd=testbed.folder, stdout=subprocess.PIPE
    )
    testbed.children.append(child)
    wait_until(
        lambda: (
            testbed.broker.broker.subscriptions(TOPIC)
            if name == "stomp"
            else testbed.monitor.server.broadcaster.clients
        ),
        f"{name} is connected",
    )
    return child


def announce_twice(testbed: LiveTestbed) -> None:
    """The daemon is killed before it hears that its announcements arrived, and so repeats them."""
    testbed.register(*range(1, STFS + 1))
    daemon = testbed.daemon()
    testbed.broker.call(lambda: setattr(testbed.broker.broker, "no_receipts", True))
    testbed.announce(*range(1, STFS + 1))
    wait_until(lambda: len(event_ids(testbed)) >= TF_FILES, "announcements are sent")
    daemon.kill()
    daemon.wait()
    testbed.broker.call(lambda: setattr(testbed.broker.broker, "no_receipts", False))
    testbed.daemon()
    testbed.wait_for(completed=STFS)
    assert max(event_ids(testbed).values()) >= 2


def event_ids(testbed: LiveTestbed) -> Counter[str]:
    messages = map(json.loads, [*testbed.heard])
    return Counter(each["event_id"] for each in messages if each["msg_type"] == "tf_file_registered")
