"""The sequential reference: one thread that makes, for each STF, the calls of the testbed's own fast-monitoring agent.

7 registrations, 7 announcements, 9 heart-beats and 32 log lines an STF, one call after the other, in the thread that
receives `stf_ready`; nothing is stored and nothing is retried. As there, each announcement is sent without a receipt.
Argument: number of STFs. It prints "ready" when it is subscribed.
"""

from __future__ import annotations

import json
import sys
import threading
from typing import Any

import stomp

from bench.bare_loop import announcement, registration, sample
from bench.links import Rest, Topic
from fastmon_daemon.testbed.testbed import NAMESPACE, TOPIC

AGENT = "old-agent"
LOG_LINES_PER_TF = 4
LOG_LINES_PER_STF = 4


class OldAgent(stomp.ConnectionListener):
    """Processes each `stf_ready` in the thread that receives it."""

    def __init__(self, count: int) -> None:
        self.done = threading.Event()
        self._left = count
        self._rest = Rest()
        self._topic = Topic(self)
        self._topic.connection.subscribe(TOPIC, id="1", ack="auto")

    def on_message(self, frame: stomp.utils.Frame) -> None:
        stf = json.loads(frame.body)
        if stf["msg_type"] != "stf_ready":
            return
        self._heartbeat("PROCESSING")
        for tf in sample(stf):
            tf["tf_file_id"] = self._rest.post("fastmon-files/", registration(stf, tf))["tf_file_id"]
            self._topic.connection.send(TOPIC, announcement(stf, tf))
            self._log(LOG_LINES_PER_TF, tf["tf_filename"])
            self._heartbeat("PROCESSING")
        self._log(LOG_LINES_PER_STF, stf["filename"])
        self._heartbeat("READY")
        self._left -= 1
        if not self._left:
            self.done.set()

    def _heartbeat(self, state: str) -> None:
        agent = {
            "instance_name": AGENT, "agent_type": "fastmon", "description": "Fast monitoring agent", "status": "OK",
            "agent_url": None, "namespace": NAMESPACE, "pid": 1, "hostname": "localhost",
            "operational_state": state, "workflow_enabled": True, "mq_connected": True,
        }  # fmt: skip
        self._rest.post("systemagents/heartbeat/", agent)

    def _log(self, lines: int, about: str) -> None:
        for line in range(lines):
            row: dict[str, Any] = {
                "app_name": "fastmon_agent", "instance_name": AGENT, "timestamp": "2026-11-21T20:00:00+00:00",
                "level": 20, "levelname": "INFO", "message": f"{about}: line {line}", "module": "fastmon",
                "funcname": "process", "lineno": 1, "process": 1, "thread": 1,
            }  # fmt: skip
            self._rest.post("logs/", row)


def main(count: int) -> None:
    """Process *count* STFs."""
    agent = OldAgent(count)
    print("ready", flush=True)
    agent.done.wait()


if __name__ == "__main__":
    main(int(sys.argv[1]))
