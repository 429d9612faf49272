"""What arrives on the topic and what leaves on it, as frozen types: parsed once, at the door.

This package knows JSON and the shapes of the messages. It must not know STOMP, SQL or the clock.
"""

from fastmon_daemon.messages.fields import plain_json, run_number, sequence_in
from fastmon_daemon.messages.inbound import STF_HEARD, IgnoredMessage, RunEvent, StfReady, parse
from fastmon_daemon.messages.outbound import FastmonStatus, TfFileRegistered, event_id_of_run

__all__ = [
    "STF_HEARD",
    "FastmonStatus",
    "IgnoredMessage",
    "RunEvent",
    "StfReady",
    "TfFileRegistered",
    "event_id_of_run",
    "parse",
    "plain_json",
    "run_number",
    "sequence_in",
]
