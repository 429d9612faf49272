"""The counters behind ``GET /_testbed/counts``."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from fastmon_daemon.testbed.monitor.fields import Resource
from fastmon_daemon.testbed.monitor.file_tables import FASTMON_FILES
from fastmon_daemon.testbed.monitor.store import Store
from fastmon_daemon.testbed.monitor.tables import RESOURCES

ANNOUNCEMENT = "tf_file_registered"


class Counts:
    """Counts requests, duplicate registrations, heart-beats and the announcements on the topic."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.requests: Counter[str] = Counter()
        self.in_flight = 0
        self.duplicate_posts = 0
        self.heartbeats = 0
        self.announcements = 0
        self._announced: set[str] = set()

    def request(self, method: str, path: str) -> None:
        """Count one request by its endpoint; a key in *path* counts as ``{id}``."""
        self.requests[f"{method} {_endpoint(path)}"] += 1

    def rejected(self, resource: Resource, errors: dict[str, Any]) -> None:
        """Count a rejected POST if it registered a TF file a second time."""
        texts = errors.get("tf_filename", [])
        if resource is FASTMON_FILES and any("already exists" in text for text in texts):
            self.duplicate_posts += 1

    def on_topic(self, body: str) -> None:
        """Count *body*, a message on the topic, if it announces a TF file."""
        if ANNOUNCEMENT not in body:
            return
        try:
            message = json.loads(body)
        except (ValueError, RecursionError):
            return
        if isinstance(message, dict) and message.get("msg_type") == ANNOUNCEMENT:
            self.announcements += 1
            self._announced.add(str(message.get("event_id") or message.get("tf_file_id")))

    def report(self) -> dict[str, Any]:
        """All counters, as ``GET /_testbed/counts`` returns them."""
        tables = self._store.tables
        return {
            "runs": len(tables["runs"].rows),
            "stf_files": len(tables["stf-files"].rows),
            "fastmon_files": len(tables["fastmon-files"].rows),
            "duplicate_posts": self.duplicate_posts,
            "announcements": self.announcements,
            "distinct_announcements": len(self._announced),
            "stages": len(tables["workflow-stages"].rows),
            "heartbeats": self.heartbeats,
            "logs": len(tables["logs"].rows),
            "in_flight": self.in_flight,
            "requests": dict(sorted(self.requests.items())),
        }


def _endpoint(path: str) -> str:
    parts = path.split("/")
    if len(parts) > 3 and parts[1] == "api" and parts[2] in RESOURCES and parts[3] not in ("", "heartbeat"):
        parts[3] = "{id}"
    return "/".join(parts)
