"""What can be checked at the broker, without a durable subscription and without the daemon's client id.

It must not know STOMP.
"""

from __future__ import annotations

from collections.abc import Iterator

from fastmon_daemon.base.errors import LinkBlocked
from fastmon_daemon.broker import ConnectionParameters, check_login, check_reachable, measure_round_trip
from fastmon_daemon.checks.runner import Check, CheckResult, CheckStatus
from fastmon_daemon.settings import Settings


def broker_checks(settings: Settings, parameters: ConnectionParameters) -> Iterator[Check]:
    """Those that apply; *login* is the daemon's own."""
    if settings.mode != "message" and settings.notify != "stomp":
        yield Check(
            name="broker", call=lambda: CheckResult(CheckStatus.SKIPPED, "not needed: folders are watched, no STOMP")
        )
        return
    yield Check(
        name="broker address",
        call=lambda: CheckResult(CheckStatus.OK, f"{parameters.address}: {check_reachable(parameters)}"),
        hint="is it running, and are ACTIVEMQ_HOST and ACTIVEMQ_PORT its STOMP address?",
    )
    yield Check(
        name="broker login",
        call=lambda: _login(parameters),
        needs=("broker address",),
        hint="is it the STOMP port (61613, or 61612 here), and plain or TLS as ACTIVEMQ_USE_SSL says?",
    )
    if settings.mode == "message":
        yield Check(
            name="subscription",
            call=lambda: _subscription(parameters),
            needs=("broker login",),
            hint="name a destination in FASTMON_SUBSCRIBE that this login may read",
        )
        yield Check(name="durable", call=lambda: _durable(parameters))
    yield Check(
        name="round trip",
        call=lambda: _round_trip(parameters),
        needs=("broker login",),
        hint="ask the broker's operator: announcements count only when they are confirmed",
    )


def _login(parameters: ConnectionParameters) -> CheckResult:
    check_login(parameters)
    who = f"user {parameters.user!r}" if parameters.user else "nobody (ACTIVEMQ_USER is not set)"
    return CheckResult(CheckStatus.OK, f"{who} is let in")


def _subscription(parameters: ConnectionParameters) -> CheckResult:
    where = parameters.subscribe
    if not where.startswith("/topic/") or "::" in where:
        return CheckResult(
            CheckStatus.SKIPPED, f"{where} is no plain topic: trying it would take messages from the daemon"
        )
    check_login(parameters, where)
    return CheckResult(CheckStatus.OK, f"{where} may be read")


def _durable(parameters: ConnectionParameters) -> CheckResult:
    if not parameters.durable:
        return CheckResult(
            CheckStatus.OK, "off: what is sent while the daemon is away is found by its ledger afterwards"
        )
    found = f"on, not tried here: the broker keeps messages for client id {parameters.client_id}"
    return CheckResult(CheckStatus.OK, f"{found}; where it refuses durable subscriptions set FASTMON_DURABLE=off")


def _round_trip(parameters: ConnectionParameters) -> CheckResult:
    try:
        confirmed, back = measure_round_trip(parameters)
    except LinkBlocked as exc:
        found = f"this login may not use a scratch topic, so receipts are not tried: {exc}"
        return CheckResult(CheckStatus.WARNING, found, "nothing, where the daemon's own announcements are confirmed")
    return CheckResult(
        CheckStatus.OK, f"RECEIPT after {confirmed * 1000:.0f} ms, the message was back after {back * 1000:.0f} ms"
    )
