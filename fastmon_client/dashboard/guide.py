"""What each alarm means and what to do about it: the page shows it, docs/alarms.md is generated from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["bad", "warning"]


@dataclass(frozen=True, slots=True)
class Entry:
    """The entry of one kind of alarm, for a reader who sees it for the first time."""

    title: str
    severity: Severity
    """bad: data do not flow or are lost; warning: they flow, with less than everything."""
    action: str
    """The first thing to do, in one sentence."""
    meaning: str
    impact: str
    diagnosis: tuple[str, ...]
    mitigation: tuple[str, ...]


GUIDE: dict[str, Entry] = {
    "stream_dead": Entry(
        "Monitor's stream is dead", "bad",
        "Check that the monitor answers: fastmon-client status",
        "The stream of the monitor (or the topic of the broker) is lost, refused, or silent for 2.5 heart-beats.",
        "Nothing new appears here. Data may still flow: the daemon does not need this stream.",
        ("Run fastmon-client status: it checks DNS, TCP, TLS, REST, the token and the stream, one after another.",
         "Compare with another page or terminal: if only this one is dead, the fault is on this host."),
        ("Wait if the monitor is being restarted: the client reconnects by itself and reads what it missed.",
         "For a refused token, set SWF_API_TOKEN or SWF_API_TOKEN_FILE, then restart the client.",
         "Call the operator of the monitor if it stays silent for 5 minutes."),
    ),
    "monitor_unreachable": Entry(
        "Monitor's tables cannot be read", "bad",
        "Check that the monitor answers: fastmon-client status",
        "The monitor's REST tables do not answer, or answer with an error.",
        "Counts cannot be compared: runs become UNKNOWN. The daemon keeps its work until the monitor is back.",
        ("Run fastmon-client status.", "Open the monitor's own page in a browser."),
        ("Wait for a restart of the monitor; the client repeats the comparison by itself.",
         "Call the operator of the monitor if it lasts longer than 5 minutes."),
    ),
    "source_silent": Entry(
        "TF files are registered but not announced", "warning",
        "Check FASTMON_NOTIFY and FASTMON_ANNOUNCE of the daemon",
        "TF files appear in the monitor's tables, while no announcement of them arrives here.",
        "TF files are shown late, when the tables are compared (every 30 s).",
        ("Run fastmon-client status: it checks the stream, and with --transport stomp the topic of the broker.",
         "Compare --topic with FASTMON_ANNOUNCE of the daemon."),
        ("Set --topic to one of the daemon's FASTMON_ANNOUNCE.",
         "If the monitor does not receive from the broker, restart its listener."),
    ),
    "agents_unmatched": Entry(
        "No agent matches --agents", "warning",
        "Restart the client with the --agents that the evidence names",
        "TF files are announced, but by agents that the option --agents does not select.",
        "This page shows nothing of them; nothing is lost.",
        ("Compare the names in the evidence with --agents.",),
        ("Restart the client with the right --agents, or without it.",),
    ),
    "run_stale": Entry(
        "Run has no new TF files", "bad",
        "Ask the DAQ whether the run still takes data; then check the daemon",
        "The run is running, and for longer than --stale-after no TF file of it arrived.",
        "Data do not reach the monitor, or the DAQ takes none.",
        ("Ask the DAQ shifter whether the run is paused or has ended.",
         "On the daemon's host: fastmon-daemon inspect shows whether STFs arrive and where they wait.",
         "With a small selection fraction, gaps between selected STFs are normal: raise --stale-after."),
        ("If STFs arrive and wait, follow what inspect says about the link that is down.",
         "If no STF arrives, check the data agent and the broker."),
    ),
    "stfs_missing": Entry(
        "STFs are missing", "bad",
        "Open the run, note the missing STFs, and run fastmon-daemon verdict RUN on the daemon's host",
        "STFs were selected, and 30 s later (10 s after the end of the run) they have no TF file.",
        "The sample of these STFs cannot be seen, unless the daemon recovers them.",
        ("fastmon-daemon verdict RUN tells how many were not received (with their numbers), wait, or failed.",
         "fastmon-daemon inspect STF shows the full history of one STF."),
        ("The daemon recovers STFs that it missed by itself, within a minute of the end of the run.",
         "For failed ones: fix the reason, then fastmon-daemon retry STF."),
    ),
    "rate_dropped": Entry(
        "Rate has dropped", "warning",
        "Ask the DAQ whether its rate changed; then check the daemon's backlog",
        "The rate over the last minute is below half of the run's median.",
        "Data flow slower than usual: a backlog may be growing.",
        ("Look at the lag: growing means that the daemon or the monitor is slow, steady means that less data is taken.",
         "On the daemon's host: fastmon-daemon inspect."),
        ("A backlog drains by itself, the newest STFs first.",),
    ),
    "daemon_silent": Entry(
        "Daemon is silent", "bad",
        "On the daemon's host: systemctl status fastmon-daemon",
        "The daemon sent no heart-beat for 60 s, or it said that it stops while a run takes data.",
        "No TF files are made. STFs wait at the broker or are recovered later: nothing is lost.",
        ("On the daemon's host: systemctl status fastmon-daemon, then journalctl -u fastmon-daemon -n 50.",
         "If it runs: fastmon-daemon check tests its connections. A host that does not answer is the first suspect."),
        ("Start it: systemctl start fastmon-daemon. It recovers what it missed.",
         "If the host is lost, start the daemon on another one with a copy of its database."),
    ),
    "daemon_degraded": Entry(
        "Daemon reports a problem", "bad",
        "On the daemon's host: fastmon-daemon inspect",
        "The daemon announced that it is degraded.",
        "STFs may wait. Nothing is lost: the daemon continues where it stopped.",
        ("systemctl status fastmon-daemon and journalctl -u fastmon-daemon -n 50 on the daemon's host.",
         "fastmon-daemon check tests the configuration and all connections."),
        ("Fix what its message names; the alarm ends when the daemon reports that it is healthy.",),
    ),
}  # fmt: skip

UNLISTED = Entry(
    "Alarm", "bad", "Read the evidence", "The client raised an alarm that this page has no entry for.",
    "Unknown.", ("Read the evidence.",), ("Ask the operator of fastmon.",),
)  # fmt: skip


def entry_of(kind: str) -> Entry:
    """The entry of *kind*; one in general terms if there is none."""
    return GUIDE.get(kind, UNLISTED)
