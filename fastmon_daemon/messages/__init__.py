"""The messages on the topic, inbound and outbound, as frozen types: parsed and validated once.

This package knows JSON and the shapes of the messages. It must not know STOMP, SQL or the clock.
"""

from fastmon_daemon.messages.fields import (
    MAX_FILENAME,
    MAX_INT32,
    MAX_INT64,
    MAX_NAME,
    body_in,
    filename_in,
    plain_json,
    read_json,
    run_identity,
    run_number,
    sequence_in,
)
from fastmon_daemon.messages.inbound import STF_SEEN, IgnoredMessage, RunEvent, StfReady, parse
from fastmon_daemon.messages.outbound import (
    Announce,
    CommonFields,
    FastmonStatus,
    RunSummary,
    Send,
    StatusWord,
    TfFileRegistered,
    outbound_message,
)

__all__ = [
    "MAX_FILENAME",
    "MAX_INT32",
    "MAX_INT64",
    "MAX_NAME",
    "STF_SEEN",
    "Announce",
    "CommonFields",
    "FastmonStatus",
    "IgnoredMessage",
    "RunEvent",
    "RunSummary",
    "Send",
    "StatusWord",
    "StfReady",
    "TfFileRegistered",
    "body_in",
    "filename_in",
    "outbound_message",
    "parse",
    "plain_json",
    "read_json",
    "run_identity",
    "run_number",
    "sequence_in",
]
