"""A certificate that is not trusted: each command of both programs names what is trusted now, and what to do."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

from fastmon_daemon.outbox import open_outbox
from tests.processes import DEADLINE_S, LiveTestbed, live_testbed, wait_until
from tests.programs.commands import run_all
from tests.programs.fronts import tls

COMMANDS = (
    ("fastmon_daemon", "check"),
    ("fastmon_daemon", "reconcile", "--run", "100014"),
    ("fastmon_client", "status"),
    ("fastmon_client", "summary", "--run", "100014"),
    ("fastmon_client", "start", "--plain", "--for", "30s"),
    ("fastmon_client", "start", "--quiet", "--for", "30s"),
)


@pytest.fixture
def testbed(tmp_path: Path) -> Iterator[LiveTestbed]:
    with live_testbed(tmp_path) as testbed:
        open_outbox(testbed.database).close()
        yield testbed


@pytest.fixture
def ca(tmp_path: Path) -> trustme.CA:
    """The CA of the monitor's certificate, in `ca.pem`; that of `other.pem` is unknown to it."""
    ca = trustme.CA()
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
    return ca


def context_of(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


@pytest.mark.field("25")
@pytest.mark.parametrize(
    ("variable", "named"),
    [
        ("", "the system's CAs: "),
        ("SSL_CERT_FILE", "SSL_CERT_FILE: other"),
        ("FASTMON_MONITOR_CA", "FASTMON_MONITOR_CA: other"),
    ],
)
def test_each_command_names_the_trusted_cas_and_the_setting(
    testbed: LiveTestbed, ca: trustme.CA, variable: str, named: str
) -> None:
    other = str(testbed.folder / "other.pem")
    trusting = {variable: other} if variable else {}
    named = named.replace("other", other)
    with tls(context_of(ca.issue_cert("localhost")), testbed.monitor.port) as front:
        url = f"https://localhost:{front.port}"
        changes = {"SWF_MONITOR_URL": url, **trusting}
        for words, (code, output) in run_all(testbed, dict.fromkeys(COMMANDS, changes)).items():
            said = f"{words}: {output}"
            assert code == (75 if words[1] == "reconcile" else 1), said
            assert f"(trusted now: {named}" in output, said
            assert "set FASTMON_MONITOR_CA to " in output, said
            assert "not trusted (unable to get local issuer certificate)" in output, said
            assert "CERTIFICATE_VERIFY_FAILED" not in output, said
            assert "Traceback" not in output, said


@pytest.mark.field("25")
def test_the_running_daemon_tells_it_once_and_goes_on_once_it_is_trusted(testbed: LiveTestbed, ca: trustme.CA) -> None:
    testbed.register(1)
    bundle = testbed.folder / "bundle.pem"
    bundle.write_bytes((testbed.folder / "other.pem").read_bytes())
    with tls(context_of(ca.issue_cert("localhost")), testbed.monitor.port) as front:
        url = f"https://localhost:{front.port}"
        daemon = testbed.daemon(SWF_MONITOR_URL=url, SSL_CERT_FILE=str(bundle), FASTMON_REST_LOGGING="off")
        testbed.announce(1)
        blocked = "link to the monitor is blocked: "
        wait_until(lambda: blocked in testbed.log(), "the link is blocked")
        inspected = testbed.call("inspect").stdout
        daemon.terminate()
        assert daemon.wait(DEADLINE_S) == 0
        [line] = [line for line in testbed.log().splitlines() if blocked in line]
        assert "certificate not trusted (unable to get local issuer certificate): set FASTMON_MONITOR_CA to " in line
        assert f"(trusted now: SSL_CERT_FILE: {bundle})" in line
        assert "FASTMON_MONITOR_CA" in " ".join(inspected.split())
        testbed.daemon(SWF_MONITOR_URL=url, FASTMON_MONITOR_CA=str(testbed.folder / "ca.pem"))
        testbed.wait_for(completed=1)


@pytest.mark.field("25")
@pytest.mark.parametrize(
    ("host", "age", "hint"),
    [
        ("other.example", timedelta(0), "set SWF_MONITOR_URL to a host name in the monitor's certificate"),
        ("localhost", timedelta(days=1), "check the clock of this host, and ask for a new certificate of the monitor"),
    ],
    ids=["another name", "expired"],
)
def test_a_certificate_of_another_name_or_time_has_its_own_remedy(
    testbed: LiveTestbed, ca: trustme.CA, host: str, age: timedelta, hint: str
) -> None:
    expires = datetime.now(UTC) - age if age else None
    with tls(context_of(ca.issue_cert(host, not_after=expires)), testbed.monitor.port) as front:
        url = f"https://localhost:{front.port}"
        changes = {"SWF_MONITOR_URL": url, "FASTMON_MONITOR_CA": str(testbed.folder / "ca.pem")}
        for words, (code, output) in run_all(testbed, dict.fromkeys(COMMANDS, changes)).items():
            assert code != 0, words
            assert hint in output, f"{words}: {output}"
            assert "set FASTMON_MONITOR_CA" not in output, f"{words}: {output}"
