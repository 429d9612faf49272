"""Checks of the broker, without a durable subscription and without the daemon's client id."""

from __future__ import annotations

from collections.abc import Iterator

from fastmon_daemon.base.errors import LinkBlocked
from fastmon_daemon.broker import ConnectionParameters, check_login, check_reachable, check_sending, measure_round_trip
from fastmon_daemon.checks.runner import Check, CheckResult, ok, skipped, warning
from fastmon_daemon.settings import Settings


def broker_checks(settings: Settings, parameters: ConnectionParameters) -> Iterator[Check]:
    """Yield the checks that apply; *parameters* are those of the daemon."""
    if settings.mode != "message" and settings.notify != "stomp":
        yield Check(name="broker", call=lambda: skipped("not used: continuous mode without STOMP announcements"))
        return
    yield Check(
        name="broker address",
        call=lambda: ok(f"{parameters.address}: {check_reachable(parameters)}"),
        hint="start the broker, or correct ACTIVEMQ_HOST and ACTIVEMQ_PORT",
    )
    yield Check(
        name="broker login",
        call=lambda: _login(parameters),
        needs=("broker address",),
        hint="set ACTIVEMQ_PORT to the STOMP port (usually 61613 or 61612), and ACTIVEMQ_USE_SSL as on the broker",
    )
    if settings.mode == "message":
        yield Check(
            name="subscription",
            call=lambda: _subscription(parameters),
            needs=("broker login",),
            hint="set FASTMON_SUBSCRIBE to a destination that this user may read",
        )
        yield Check(name="durable", call=lambda: _durable(parameters))
    if settings.notify != "stomp":
        return  # nothing that must arrive is sent
    yield Check(
        name="announcements",
        call=lambda: _sending(parameters),
        needs=("broker login",),
        hint="set FASTMON_ANNOUNCE to destinations that this user may write to",
    )
    yield Check(
        name="round trip",
        call=lambda: _round_trip(parameters),
        needs=("broker login",),
        hint="ask the operator of the broker: announcements need receipts",
    )


def _login(parameters: ConnectionParameters) -> CheckResult:
    check_login(parameters)
    user = f"user {parameters.user!r}" if parameters.user else "anonymous user (ACTIVEMQ_USER is not set)"
    return ok(f"{user} can log in")


def _subscription(parameters: ConnectionParameters) -> CheckResult:
    destination = parameters.subscribe
    if not destination.startswith("/topic/") or "::" in destination:
        return skipped(f"{destination} is not a plain topic: a test would take messages from the daemon")
    check_login(parameters, destination)
    return ok(f"{destination} is readable")


def _durable(parameters: ConnectionParameters) -> CheckResult:
    if not parameters.durable:
        return ok("off: STFs announced while the daemon is down are recovered later")
    found = f"on, not tested: the broker keeps messages for client id {parameters.client_id}"
    return ok(f"{found}; if it rejects durable subscriptions, set FASTMON_DURABLE=off")


def _sending(parameters: ConnectionParameters) -> CheckResult:
    check_sending(parameters)
    return ok(f"may be sent to {', '.join(parameters.announce)}: tested in a transaction that was aborted")


def _round_trip(parameters: ConnectionParameters) -> CheckResult:
    try:
        receipt_s, message_s = measure_round_trip(parameters)
    except LinkBlocked as exc:
        found = f"receipts not tested: this user may not use a scratch topic: {exc}"
        return warning(found, "ignore this if the daemon's announcements are confirmed")
    return ok(f"receipt after {receipt_s * 1000:.0f} ms, message returned after {message_s * 1000:.0f} ms")
