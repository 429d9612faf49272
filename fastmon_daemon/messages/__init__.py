"""The messages on the topic, inbound and outbound, as frozen types: parsed and validated once.

This package knows JSON and the shapes of the messages. It must not know STOMP, SQL or the clock.
"""

from fastmon_daemon.messages.fields import plain_json, run_identity, run_number, sequence_in
from fastmon_daemon.messages.inbound import STF_SEEN, IgnoredMessage, RunEvent, StfReady, parse
from fastmon_daemon.messages.outbound import Announce, Send, outbound_message

__all__ = [
    "STF_SEEN",
    "Announce",
    "IgnoredMessage",
    "RunEvent",
    "Send",
    "StfReady",
    "outbound_message",
    "parse",
    "plain_json",
    "run_identity",
    "run_number",
    "sequence_in",
]
