"""What the headers of a client's frame ask for. It must not know who asks, nor what is then done."""

from __future__ import annotations

from fastmon_daemon.testbed.stomp_broker.backlog import Terms
from fastmon_daemon.testbed.stomp_broker.frames import Frame, Refused

ACK_MODES = ("auto", "client", "client-individual")
DURABLE_NAME_HEADERS = ("durable-subscriber-name", "durable-subscription-name", "activemq.subscriptionName")


def required(frame: Frame, name: str) -> str:
    """The header *name* of *frame*.

    Raises:
        Refused: it is missing or empty.
    """
    value = frame.headers.get(name)
    if not value:
        raise Refused(f"Invalid {frame.command}: the header {name} is missing")
    return value


def subscription_id(frame: Frame, version: str | None) -> str:
    """Which subscription is meant; in 1.0 the destination may stand for it."""
    if version == "1.0":
        return frame.headers.get("id") or required(frame, "destination")
    return required(frame, "id")


def durable_name(frame: Frame) -> str | None:
    """The name of the durable subscription that is meant, in the words of Artemis or of ActiveMQ Classic."""
    return next((frame.headers[name] for name in DURABLE_NAME_HEADERS if frame.headers.get(name)), None)


def terms_of(frame: Frame, version: str | None) -> Terms:
    """What a SUBSCRIBE asks for.

    Raises:
        Refused: a header is missing or asks for what this broker has not.
    """
    ack = frame.headers.get("ack", "auto")
    if ack not in ACK_MODES:
        raise Refused(f"Unsupported ack mode: {ack}: use one of {', '.join(ACK_MODES)}")
    if frame.headers.get("selector"):
        raise Refused("This broker knows no selectors: leave the header selector out")
    prefetch = frame.headers.get("activemq.prefetchSize")
    if prefetch is not None and not (prefetch.isdecimal() and int(prefetch) > 0):
        raise Refused(f"Invalid activemq.prefetchSize: {prefetch}: use a number above 0")
    return Terms(
        id=subscription_id(frame, version),
        destination=required(frame, "destination"),
        ack=ack,
        prefetch=int(prefetch) if prefetch else None,
        durable_name=durable_name(frame),
    )
