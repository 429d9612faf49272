"""What can be checked on this machine alone: settings, database, free space, the address of the metrics.

It must not know the network beyond this host.
"""

from __future__ import annotations

import http.client
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from fastmon_daemon.checks.trying import Check, Line, Outcome, Subject
from fastmon_daemon.errors import StorageError
from fastmon_daemon.lifecycle import load_chart
from fastmon_daemon.outbox import Finding, check_database, free_bytes, open_for_reading, owner_of, shortage

_PATIENCE_S = 5.0
_DATABASE_S = 600.0
"""A large database is read to its end: 10 GB take some minutes."""


def local_checks(subject: Subject) -> Iterator[Check]:
    """Those that apply."""
    yield Check(name="settings", call=lambda: _settings(subject))
    yield Check(
        name="database",
        call=lambda: _database(subject),
        remedy="mend it, or name another in FASTMON_DB",
        patience_s=_DATABASE_S,
    )
    yield Check(name="free space", call=lambda: _space(subject), remedy="make room, or name another disk in FASTMON_DB")
    if subject.settings.http is not None:
        yield Check(
            name="metrics", call=lambda: _metrics(subject), remedy="name a free address of ours in FASTMON_HTTP"
        )


def _settings(subject: Subject) -> Line:
    settings = subject.settings
    found = f"namespace {settings.namespace} ({settings.sources.get('namespace', 'default')})"
    if settings.unknown:
        names = ", ".join(settings.unknown)
        return Line(Outcome.WARNING, f"{found}; no such setting, ignored: {names}", "correct or unset it")
    return Line(Outcome.OK, f"{found}; `fastmon-daemon config` shows them all")


def _database(subject: Subject) -> Line:
    path, where = subject.database, f"{subject.database} ({subject.rule})"
    owner = owner_of(path)
    if not path.exists():
        folder = _nearest(path.parent)
        if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
            raise StorageError(f"{where} is not there, and {folder} is no folder that this user may write to")
        return Line(Outcome.OK, f"{where} is not there yet; the first start makes it")
    open_for_reading(path).close()
    if found := check_database(path, load_chart("stf"), load_chart("run")):
        more = f"; and {len(found) - 1} more findings" if len(found) > 1 else ""
        return Line(Outcome.WRONG, f"{where}: {_in_words(found[0])}{more}", found[0].remedy)
    state = "no daemon is running" if owner is None else f"process {owner} works on it"
    return Line(Outcome.OK, f"{where} is sound; {state}")


def _in_words(finding: Finding) -> str:
    examples = f": {', '.join(finding.examples)}" if finding.examples else ""
    return f"{finding.what} ({finding.count}{examples})"


def _space(subject: Subject) -> Line:
    folder = _nearest(subject.database.parent)
    free, least = free_bytes(folder), subject.settings.min_free_mb
    if free is None:
        return Line(Outcome.OK, f"the file system of {folder} does not say what is free")
    free_mb = free / 1e6
    found = f"{free_mb:.0f} MB are free at {folder}"
    short = shortage(subject.database, least) if subject.database.exists() else free_mb < least
    if short:
        return Line(Outcome.WRONG, f"{found}, FASTMON_MIN_FREE_MB is {least}: no STF is taken", "make room")
    if free_mb < 4 * least:
        return Line(Outcome.WARNING, f"{found}; below {least} no STF is taken", "make room")
    return Line(Outcome.OK, found)


def _metrics(subject: Subject) -> Line:
    listen = subject.settings.http
    assert listen is not None
    if owner_of(subject.database) is None:
        family = socket.AF_INET6 if ":" in listen.host else socket.AF_INET
        with socket.socket(family) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does
            trial.bind((listen.host, listen.port))
        return Line(Outcome.OK, f"{listen} is free for a daemon")
    if listen.port == 0:
        return Line(Outcome.OK, "at a free port, which the daemon's log tells")
    asked = http.client.HTTPConnection(_from_here(listen.host), listen.port, timeout=_PATIENCE_S)
    try:
        asked.request("GET", "/healthz")
        answer = asked.getresponse()
        said = " ".join(answer.read(1000).decode(errors="replace").split())
    finally:
        asked.close()
    outcome = Outcome.OK if answer.status == 200 else Outcome.WRONG
    return Line(outcome, f"http://{listen}/healthz says {answer.status}: {said}")


def _from_here(host: str) -> str:
    """Where a server on all addresses is found."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 (asked of, not listened on)


def _nearest(folder: Path) -> Path:
    """What stands in the place of *folder*, or the next above that is there."""
    return next(each for each in (folder.absolute(), *folder.absolute().parents) if os.access(each, os.F_OK))
