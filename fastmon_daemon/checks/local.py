"""What can be checked on this machine alone: settings, database, free space, the address of the metrics.

It must not know the network beyond this host.
"""

from __future__ import annotations

import http.client
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from fastmon_daemon.base.errors import StorageError
from fastmon_daemon.checks.runner import Check, CheckResult, CheckStatus
from fastmon_daemon.outbox import check_database, check_local_file_system, free_bytes, owner_of, shortage
from fastmon_daemon.service import ProcessContext
from fastmon_daemon.settings import ListenAddress
from fastmon_daemon.statechart import load_statechart

_PATIENCE_S = 5.0
_DATABASE_S = 600.0
"""A large database is read to its end: 10 GB take some minutes."""
_ROOM = "make room, or name a file on another disk in FASTMON_DB"


def local_checks(world: ProcessContext) -> Iterator[Check]:
    """Those that apply."""
    yield Check(name="settings", call=lambda: _settings(world))
    yield Check(
        name="database",
        call=lambda: _database(world),
        hint="mend it, or name another in FASTMON_DB",
        patience_s=_DATABASE_S,
    )
    yield Check(name="free space", call=lambda: _space(world), hint=_ROOM)
    if world.settings.http is not None:
        yield Check(name="metrics", call=lambda: _metrics(world), hint="name a free address of ours in FASTMON_HTTP")


def _settings(world: ProcessContext) -> CheckResult:
    settings = world.settings
    found = f"namespace {settings.namespace} ({settings.sources.get('namespace', 'default')})"
    if settings.unknown:
        names = ", ".join(settings.unknown)
        return CheckResult(CheckStatus.WARNING, f"{found}; no such setting, ignored: {names}", "correct or unset it")
    return CheckResult(CheckStatus.OK, f"{found}; `fastmon-daemon config` shows them all")


def _database(world: ProcessContext) -> CheckResult:
    path, where = world.database, f"{world.database} ({world.database_rule})"
    owner = owner_of(path)
    check_local_file_system(path)
    if not path.exists():
        folder = _nearest(path.parent)
        if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
            raise StorageError(f"{where} is not there, and {folder} is no folder that this user may write to")
        return CheckResult(CheckStatus.OK, f"{where} is not there yet; the first start makes it")
    findings = check_database(path, load_statechart("stf"), load_statechart("run"))
    if findings:
        first, more = findings[0], f", and {len(findings) - 1} more like this" if findings[1:] else ""
        rows = f" ({', '.join(first.examples)})" if first.examples else ""
        return CheckResult(CheckStatus.ERROR, f"{where} is not sound: {first.what}{rows}{more}", first.hint)
    state = "no daemon is running" if owner is None else f"process {owner} works on it"
    return CheckResult(CheckStatus.OK, f"{where} is sound; {state}")


def _space(world: ProcessContext) -> CheckResult:
    folder, least_mb = _nearest(world.database.parent), world.settings.min_free_mb
    free = free_bytes(folder)
    if free is None:
        return CheckResult(CheckStatus.SKIPPED, f"the file system of {folder} does not say")
    found = f"{free // 1_000_000} MB are free at {folder}"
    path = world.database
    if free < least_mb * 1_000_000 and (not path.exists() or shortage(path, least_mb)):  # pruned pages are room, too
        return CheckResult(CheckStatus.ERROR, f"{found}, FASTMON_MIN_FREE_MB is {least_mb}: no STF is taken", _ROOM)
    if free < 4 * least_mb * 1_000_000:
        return CheckResult(CheckStatus.WARNING, f"{found}; below FASTMON_MIN_FREE_MB={least_mb} no STF is taken", _ROOM)
    return CheckResult(CheckStatus.OK, found)


def _metrics(world: ProcessContext) -> CheckResult:
    listen = world.settings.http
    assert listen is not None
    if listen.port == 0:
        return CheckResult(CheckStatus.OK, f"{listen.host}, at a free port, which the daemon's log tells")
    return _free(listen) if owner_of(world.database) is None else _healthy(listen)


def _free(listen: ListenAddress) -> CheckResult:
    with socket.socket(socket.AF_INET6 if ":" in listen.host else socket.AF_INET) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does
        trial.bind((listen.host, listen.port))
    return CheckResult(CheckStatus.OK, f"{listen} is free for a daemon")


def _healthy(listen: ListenAddress) -> CheckResult:
    asked = http.client.HTTPConnection(_from_here(listen.host), listen.port, timeout=_PATIENCE_S)
    try:
        asked.request("GET", "/healthz")
        answer = asked.getresponse()
        said = " ".join(answer.read(1000).decode(errors="replace").split())
    finally:
        asked.close()
    outcome = CheckStatus.OK if answer.status == 200 else CheckStatus.ERROR
    return CheckResult(outcome, f"http://{listen}/healthz says {answer.status}: {said}")


def _from_here(host: str) -> str:
    """Where a server on all addresses is found."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 (asked of, not listened on)


def _nearest(folder: Path) -> Path:
    """What stands in the place of *folder*, or the next above that is there."""
    return next(each for each in (folder.absolute(), *folder.absolute().parents) if os.access(each, os.F_OK))
