"""What arrives on the topic and what leaves on it, as frozen types: parsed once, at the door.

This package knows JSON and the shapes of the messages. It must not know STOMP, SQL or the clock.
"""

from fastmon_daemon.messages.arriving import HEAR_STF, Foreign, RunNews, StfReady, parse
from fastmon_daemon.messages.fields import plain_json, run_number, sequence_in
from fastmon_daemon.messages.leaving import FastmonStatus, TfFileRegistered, event_id_of_run

__all__ = [
    "HEAR_STF",
    "FastmonStatus",
    "Foreign",
    "RunNews",
    "StfReady",
    "TfFileRegistered",
    "event_id_of_run",
    "parse",
    "plain_json",
    "run_number",
    "sequence_in",
]
