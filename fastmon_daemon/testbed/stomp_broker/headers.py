"""Parses and checks the headers of a client's frames. All functions raise `ProtocolError` for an invalid header."""

from __future__ import annotations

import re

from fastmon_daemon.testbed.stomp_broker.frames import Frame, ProtocolError
from fastmon_daemon.testbed.stomp_broker.message_queue import SubscriptionOptions
from fastmon_daemon.testbed.stomp_broker.selector import selector_of

ACK_MODES = ("auto", "client", "client-individual")
DURABLE_NAME_HEADERS = ("durable-subscriber-name", "durable-subscription-name", "activemq.subscriptionName")
_HEART_BEAT = re.compile(r"([0-9]{1,9}),([0-9]{1,9})")


def required(frame: Frame, name: str) -> str:
    """Return the header *name* of *frame*, which must not be missing or empty."""
    value = frame.headers.get(name)
    if not value:
        raise ProtocolError(f"Invalid {frame.command}: the header {name} is missing")
    return value


def subscription_id(frame: Frame, version: str | None) -> str:
    """Return the subscription's id; in 1.0 it may be the destination."""
    if version == "1.0":
        return frame.headers.get("id") or required(frame, "destination")
    return required(frame, "id")


def durable_name(frame: Frame) -> str | None:
    """Return the name of the durable subscription, from the header of Artemis or of ActiveMQ Classic."""
    return next((frame.headers[name] for name in DURABLE_NAME_HEADERS if frame.headers.get(name)), None)


def subscription_options(frame: Frame, version: str | None) -> SubscriptionOptions:
    """Return the options of a SUBSCRIBE."""
    ack = frame.headers.get("ack", "auto")
    if ack not in ACK_MODES:
        raise ProtocolError(f"Unsupported ack mode: {ack}: use one of {', '.join(ACK_MODES)}")
    destination, durable, selector = required(frame, "destination"), durable_name(frame), frame.headers.get("selector")
    if selector and (durable or not destination.startswith("/topic/")):
        raise ProtocolError("Selectors are supported for topics without a durable subscription: remove the selector")
    prefetch = frame.headers.get("activemq.prefetchSize")
    if prefetch is not None and not (prefetch.isdecimal() and int(prefetch) > 0):
        raise ProtocolError(f"Invalid activemq.prefetchSize: {prefetch}: use a number above 0")
    return SubscriptionOptions(
        id=subscription_id(frame, version),
        destination=destination,
        ack=ack,
        prefetch=int(prefetch) if prefetch else None,
        durable_name=durable,
        selector=selector_of(selector) if selector else None,
    )


def choose_version(accepted: str, supported: tuple[str, ...]) -> str:
    """Return the highest supported version of *accepted* (the header accept-version)."""
    common = set(accepted.replace(" ", "").split(",")) & set(supported)
    if not common:
        versions = ",".join(supported)
        raise ProtocolError(f"Supported versions are {versions}", headers={"version": versions})
    return max(common)


def authenticate(headers: dict[str, str], user: str, password: str) -> str:
    """Return the login, if login and passcode are correct."""
    login = headers.get("login", "")
    if (login, headers.get("passcode", "")) != (user, password):
        text = f"User name [{login}] or password is invalid."
        raise ProtocolError(text, f"java.lang.SecurityException: {text}")
    return login


def heart_beat(header: str) -> tuple[int, int]:
    """Return the intervals in which the client can send and wants to receive heart-beats, in milliseconds (0: none)."""
    found = _HEART_BEAT.fullmatch(header.replace(" ", ""))
    if found is None:
        raise ProtocolError(f"Invalid heart-beat header: {header!r}: use two numbers of milliseconds")
    return int(found[1]), int(found[2])


def interval_s(sends_ms: int, wants_ms: int) -> float:
    """Return the agreed interval of one direction in seconds; 0 if either side wants none."""
    return max(sends_ms, wants_ms) / 1000 if sends_ms and wants_ms else 0.0
