"""The settings themselves: each field of `Settings` is declared once, with its names, default, meaning and parser.

This module owns which settings there are. It must not know the process it runs in: the environment and the folders
are handed in.
"""
# ruff: noqa: RUF009 - setting() is dataclasses.field() with our metadata, which the rule cannot see

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Self

from fastmon_daemon.settings.fields import (
    FRACTION,
    LOG_LEVELS,
    NOT_NEGATIVE,
    POSITIVE,
    SHARE,
    ListenAddress,
    Setting,
    as_agent_name,
    as_file,
    as_folders,
    as_host,
    as_listen,
    as_namespace,
    as_optional,
    as_optional_url,
    as_path,
    as_switch,
    as_testbed_config,
    as_text,
    as_url,
    one_of,
    setting,
    several,
    whole,
)
from fastmon_daemon.settings.loader import read_settings


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the daemon was told, parsed once and frozen; the fields' own declarations are the reference."""

    monitor_url: str = setting("SWF_MONITOR_URL", "http://localhost:8002", "Base URL of the monitor.", as_url)
    monitor_token: str = setting("SWF_API_TOKEN", "", "Token for the monitor's REST API.", as_text, secret=True)
    logs_url: str | None = setting(
        "SWF_MONITOR_HTTP_URL",
        "",
        "Base URL of the monitor for log lines; SWF_MONITOR_URL if not set. No token is sent to it.",
        as_optional_url,
    )
    monitor_ca: Path | None = setting(
        "FASTMON_MONITOR_CA", "", "CA file (PEM) that the monitor's certificate is checked against.", as_file
    )

    broker_host: str = setting("ACTIVEMQ_HOST", "localhost", "Host of the message broker.", as_host)
    broker_port: int = setting("ACTIVEMQ_PORT", "61612", "STOMP port of the message broker.", whole(1, 65535))
    broker_user: str = setting("ACTIVEMQ_USER MQ_USER", "", "User name at the broker.", as_text)
    broker_password: str = setting("ACTIVEMQ_PASSWORD MQ_PASSWD", "", "Password at the broker.", as_text, secret=True)
    broker_use_ssl: bool = setting(
        "ACTIVEMQ_USE_SSL", "off", "Speak TLS with the broker; needs a CA file. MQ_CAFILE alone turns it on.", as_switch
    )
    broker_ca_file: Path | None = setting(
        "ACTIVEMQ_SSL_CA_CERTS MQ_CAFILE",
        "",
        "CA file (PEM) that the broker's certificate is checked against.",
        as_file,
    )
    broker_cert_file: Path | None = setting(
        "ACTIVEMQ_SSL_CERT_FILE", "", "Our own certificate (PEM), where the broker asks for one.", as_file
    )
    broker_key_file: Path | None = setting(
        "ACTIVEMQ_SSL_KEY_FILE", "", "Private key (PEM) of our own certificate.", as_file
    )
    subscribe: str = setting("FASTMON_SUBSCRIBE", "/topic/epictopic", "Destination that STFs are heard on.", as_text)
    announce: tuple[str, ...] = setting(
        "FASTMON_ANNOUNCE",
        "/topic/epictopic",
        "Destinations that TFs are announced on, separated by commas.",
        several("destination"),
    )
    durable: bool = setting(
        "FASTMON_DURABLE", "off", "Subscribe durably: the broker keeps messages while the daemon is down.", as_switch
    )
    client_id: str | None = setting(
        "FASTMON_CLIENT_ID", "", "Client id at the broker; made from namespace and instance if not set.", as_optional
    )
    notify: str = setting(
        "FASTMON_NOTIFY", "stomp", "How TFs are announced: stomp, rest or off.", one_of("stomp", "rest", "off")
    )
    late_announce_rate: float = setting(
        "FASTMON_LATE_ANNOUNCE_RATE", "30", "Late announcements per second at most; 0 is no limit.", NOT_NEGATIVE
    )
    mode: str = setting(
        "FASTMON_MODE",
        "message",
        "Where STFs come from: message (the broker) or continuous (files in FASTMON_WATCH_DIRS).",
        one_of("message", "continuous"),
    )
    watch_dirs: tuple[Path, ...] = setting(
        "FASTMON_WATCH_DIRS", "", "Folders to watch with all below them, separated by commas.", as_folders
    )
    file_patterns: tuple[str, ...] = setting(
        "FASTMON_FILE_PATTERNS", "*.stf,*.STF", "Names of STF files, separated by commas.", several("pattern")
    )
    check_interval_s: float = setting(
        "FASTMON_CHECK_INTERVAL", "30", "Seconds between two scans of the watched folders.", POSITIVE
    )
    settle_s: float = setting(
        "FASTMON_SETTLE", "5", "Seconds after which a file that has not changed is complete.", POSITIVE
    )
    lookback_minutes: float = setting(
        "FASTMON_LOOKBACK_MINUTES",
        "0",
        "Minutes before the start that a file may be old to be taken; 0 is no limit.",
        NOT_NEGATIVE,
    )
    register_missing_stf: bool = setting(
        "FASTMON_REGISTER_MISSING_STF",
        "off",
        "Register an STF that nobody registers, when its time to wait for that is over, instead of failing it.",
        as_switch,
    )

    namespace: str = setting(
        "FASTMON_NAMESPACE", "", "Testbed namespace to serve, needed here or in SWF_TESTBED_CONFIG.", as_namespace
    )
    testbed_config: Path | None = setting(
        "SWF_TESTBED_CONFIG",
        "",
        "TOML file whose `[testbed] namespace` serves if FASTMON_NAMESPACE is not set; NAME means workflows/NAME.toml.",
        as_testbed_config,
    )
    selection_fraction: float = setting(
        "FASTMON_SELECTION_FRACTION",
        "0.1",
        "Fraction of the STFs to sample, 0 to 1; who replaces an agent that took every STF sets 1.0.",
        FRACTION,
    )
    tf_files_per_stf: int = setting("FASTMON_TF_FILES_PER_STF", "7", "TF files to sample from one STF.", whole(1, 999))
    tf_count_per_stf: int = setting(
        "FASTMON_TF_COUNT_PER_STF", "1000", "TFs in an STF, where its message does not say.", whole(1, 1_000_000_000)
    )
    tf_size_fraction: float = setting(
        "FASTMON_TF_SIZE_FRACTION",
        "0.15",
        "Mean size of a TF file as a fraction of its partition of the STF, up to 1.",
        SHARE,
    )
    tf_sequence_start: int = setting(
        "FASTMON_TF_SEQUENCE_START", "1", "Number of an STF's first TF file.", whole(0, 1_000_000_000)
    )

    db: Path | None = setting(
        "FASTMON_DB", "", "Database file; looked for in the state folders if not set. Local disks only.", as_path
    )
    min_free_mb: int = setting(
        "FASTMON_MIN_FREE_MB",
        "256",
        "MB that must be free on the database's file system for new STFs to be stored; below, they stay at the broker.",
        whole(0, 1_000_000_000),
    )
    keep_days: float = setting(
        "FASTMON_KEEP_DAYS",
        "7",
        "Days after its end that a complete run stays in the database; then only its names and counts do. 0: for ever.",
        NOT_NEGATIVE,
    )
    workers: int = setting("FASTMON_WORKERS", "4", "Calls to monitor and broker at the same time.", whole(1, 64))
    stuck_after_s: float = setting(
        "FASTMON_STUCK_AFTER", "60", "Seconds without progress after which an STF counts as stuck.", POSITIVE
    )
    drain_s: float = setting("FASTMON_DRAIN_S", "8", "Seconds a stopping daemon gives to work under way.", NOT_NEGATIVE)
    reconcile: bool = setting(
        "FASTMON_RECONCILE",
        "on",
        "Look for missed STFs and close runs (off: no run is closed, so none is dropped); "
        "of several daemons that share a queue exactly one does.",
        as_switch,
    )
    http: ListenAddress | None = setting(
        "FASTMON_HTTP",
        "off",
        "Where /healthz and /metrics are served: off, a port of loopback, or ADDRESS:PORT; port 0 takes a free one.",
        as_listen,
    )
    log_level: str = setting("SWF_LOG_LEVEL", "INFO", f"One of {', '.join(LOG_LEVELS)}.", one_of(*LOG_LEVELS))
    agent_name: str | None = setting(
        "FASTMON_AGENT_NAME",
        "",
        "Agent name shown by the monitor, up to 100 characters; made if not set.",
        as_agent_name,
    )
    stages: bool = setting(
        "FASTMON_STAGES", "on", "Report each STF to the monitor as a stage of its workflow.", as_switch
    )
    rest_logging: bool = setting(
        "FASTMON_REST_LOGGING", "on", "Send log lines from SWF_LOG_LEVEL on to the monitor as well.", as_switch
    )

    sources: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)
    """Field name -> where its value came from: environment, .env, ~/.env, default, or the setting that named it."""
    unknown: tuple[str, ...] = field(default=(), compare=False)
    """Names that begin with FASTMON_ and mean nothing to us: most likely misspelt."""

    @classmethod
    def load(cls, environ: Mapping[str, str], *, working_folder: Path, home: Path) -> Self:
        """Read every setting; the environment wins over `.env`, and that over `~/.env`.

        Raises `ConfigError`, one line that names the setting, its value (never a secret) and the remedy.
        """
        reading = read_settings(all_settings(), environ, working_folder=working_folder, home=home)
        if reading.errors:
            raise next(iter(reading.errors.values()))
        return cls(**reading.values, sources=reading.sources, unknown=reading.unknown)


def all_settings() -> Iterator[tuple[str, Setting]]:
    """Yield each field name of `Settings` with its declaration, in order."""
    return ((each.name, each.metadata["setting"]) for each in fields(Settings) if "setting" in each.metadata)
