"""Continuous mode: finds STF files in folders and hands each over, as the same message that an agent would send.

It must not know how STFs are stored or processed.
"""

from fastmon_daemon.watching.files import Fingerprint, FoundFile
from fastmon_daemon.watching.memory import SeenFileCache
from fastmon_daemon.watching.watcher import IngestResult, WatchConfig, Watcher

__all__ = ["Fingerprint", "FoundFile", "IngestResult", "SeenFileCache", "WatchConfig", "Watcher"]
