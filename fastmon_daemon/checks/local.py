"""Checks of this host: settings, database, free space, the listen address of the metrics."""

from __future__ import annotations

import http.client
import os
import socket
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

from fastmon_daemon.actions.daemon_state import DaemonState
from fastmon_daemon.base.errors import StorageError
from fastmon_daemon.checks.runner import Check, CheckResult, error, ok, skipped, warning
from fastmon_daemon.outbox import check_database, check_folder, check_local_file_system, free_bytes, owner_of, shortage
from fastmon_daemon.presence.assessment import ALL_WELL
from fastmon_daemon.service import ProcessContext
from fastmon_daemon.settings import ListenAddress, Settings, all_settings, describe_unknown, exposures, written
from fastmon_daemon.statechart import load_statechart

_HTTP_TIMEOUT_S = 5.0
_DATABASE_TIMEOUT_S = 600.0
"""The whole database is read: 10 GB take some minutes."""
_SPACE_HINT = "free disk space, or set FASTMON_DB to a file on another disk"


def local_checks(context: ProcessContext, running: DaemonState | None) -> Iterator[Check]:
    """Yield the checks that apply; *running* is the state of the daemon on the database."""
    yield Check(name="settings", call=lambda: _settings(context, running))
    yield Check(name="network", call=lambda: _network(context.settings))
    yield Check(
        name="database",
        call=lambda: _database(context),
        hint="fix the database, or set FASTMON_DB to another file",
        timeout_s=_DATABASE_TIMEOUT_S,
    )
    yield Check(name="free space", call=lambda: _space(context, running), hint=_SPACE_HINT)
    if context.settings.http is not None:
        yield Check(
            name="metrics", call=lambda: _metrics(context), hint="set FASTMON_HTTP to a free address of this host"
        )


def _settings(context: ProcessContext, running: DaemonState | None) -> CheckResult:
    settings = context.settings
    found = f"namespace {settings.namespace} ({settings.sources.get('namespace', 'default')})"
    if settings.unknown:
        names = "; ".join(map(describe_unknown, settings.unknown))
        return warning(f"{found}; {names}", "correct or unset them")
    if settings.exposed:
        return warning(f"{found}; {'; '.join(settings.exposed)}", "then change the secret: others may have read it")
    if running is not None and (others := ", ".join(_differences(settings, running))):
        hint = "restart the daemon to apply these settings, or set those of the daemon here"
        return warning(f"{found}; the running daemon has other values: {others}", hint)
    return ok(f"{found}; for all settings, run `fastmon-daemon config`")


def _network(settings: Settings) -> CheckResult:
    found = list(exposures(settings))
    if not found:
        return ok("no secret is sent in clear to another host; no endpoint is open to others without a token")
    return warning("; ".join(each for each, _ in found), "; ".join(hint for _, hint in found))


def _differences(settings: Settings, running: DaemonState) -> Iterator[str]:
    """Yield the settings with which the daemon runs, where this process has others."""
    for field_name, setting in all_settings():
        here, there = written(getattr(settings, field_name)), running.settings.get(field_name)
        if not setting.secret and there is not None and there != here:
            yield f"{setting.names[0]}={there} (here: {here or 'not set'})"


def _database(context: ProcessContext) -> CheckResult:
    path, where = context.database, f"{context.database} ({context.database_rule})"
    owner = owner_of(path)
    check_local_file_system(path)
    if not path.exists():
        folder = _nearest_existing(path.parent)
        if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
            raise StorageError(f"{where} does not exist, and this user cannot write to {folder}")
        return ok(f"{where} does not exist yet; the first start creates it")
    if owner is None:
        check_folder(path.parent)
    problems = check_database(path, load_statechart("stf"), load_statechart("run"))
    if problems:
        first, more = problems[0], f", and {len(problems) - 1} other problems" if problems[1:] else ""
        rows = f" ({', '.join(first.examples)})" if first.examples else ""
        return error(f"{where} is inconsistent: {first.what}{rows}{more}", first.hint)
    state = "no daemon is running" if owner is None else f"in use by process {owner}"
    return ok(f"{where} is consistent; {state}")


def _space(context: ProcessContext, running: DaemonState | None) -> CheckResult:
    """Check the free space against the limit of the running daemon; without one, against that of the settings."""
    here = partial(getattr, context.settings)
    least_mb = running.value("min_free_mb", here) if running else here("min_free_mb")
    folder = _nearest_existing(context.database.parent)
    free = free_bytes(folder)
    if free is None:
        return skipped(f"free space of {folder} unknown")
    found = f"{free // 1_000_000} MB free at {folder}"
    path = context.database
    # Pruned pages of the database count as free, hence `shortage`.
    if free < least_mb * 1_000_000 and (not path.exists() or shortage(path, least_mb)):
        return error(f"{found}, below FASTMON_MIN_FREE_MB={least_mb}: no STFs are stored", _SPACE_HINT)
    if free < 4 * least_mb * 1_000_000:
        return warning(f"{found}; below FASTMON_MIN_FREE_MB={least_mb}, no STFs are stored", _SPACE_HINT)
    return ok(found)


def _metrics(context: ProcessContext) -> CheckResult:
    listen = context.settings.http
    assert listen is not None
    if listen.port == 0:
        return ok(f"{listen.host}, free port chosen at start (see the daemon's log)")
    return _free(listen) if owner_of(context.database) is None else _healthy(listen, context.settings.http_token)


def _free(listen: ListenAddress) -> CheckResult:
    with socket.socket(socket.AF_INET6 if ":" in listen.host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # like the server
        probe.bind((listen.host, listen.port))
    return ok(f"{listen} is free")


def _healthy(listen: ListenAddress, token: str) -> CheckResult:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(listen.host, listen.host)  # noqa: S104 (a client)
    with closing(http.client.HTTPConnection(host, listen.port, timeout=_HTTP_TIMEOUT_S)) as connection:
        connection.request("GET", "/healthz", headers={"Authorization": f"Bearer {token}"} if token else {})
        response = connection.getresponse()
        body = " ".join(response.read(1000).decode(errors="replace").split())
    found = f"http://{listen}/healthz: {response.status} {body}"
    if response.status != 200:
        return error(found)
    return ok(found) if body.startswith(ALL_WELL) else warning(found, "see `fastmon-daemon inspect`")


def _nearest_existing(folder: Path) -> Path:
    """Return *folder*, or its nearest parent that exists."""
    return next(each for each in (folder.absolute(), *folder.absolute().parents) if os.access(each, os.F_OK))
