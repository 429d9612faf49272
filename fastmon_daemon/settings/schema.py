"""All settings of the daemon: each field of `Settings` declares its names, default, meaning and parser.

The environment and the folders are parameters of `Settings.load`; nothing here reads the process.
"""
# ruff: noqa: RUF009 - setting() is dataclasses.field() with our metadata, which the rule cannot see

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Self

from fastmon_daemon.base.suggest import did_you_mean
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
    as_reconcile,
    as_subscription,
    as_switch,
    as_testbed_config,
    as_text,
    as_token,
    as_url,
    as_workers,
    comma_list,
    one_of,
    setting,
    whole,
)
from fastmon_daemon.settings.loader import read_settings

_VIRTUAL_TOPIC = re.compile(r"/queue/Consumer\.[^.]+\.(.+)")
"""ActiveMQ Classic: the queue of one group of consumers, and the topic whose messages it gets."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The parsed settings. The declarations of the fields are the reference for users."""

    monitor_url: str = setting("SWF_MONITOR_URL", "http://localhost:8002", "Base URL of the monitor.", as_url)
    monitor_token: str = setting("SWF_API_TOKEN", "", "API token for the monitor.", as_text, secret=True)
    logs_url: str | None = setting(
        "SWF_MONITOR_HTTP_URL",
        "",
        "Base URL to which log lines are sent, without a token. Default: SWF_MONITOR_URL.",
        as_optional_url,
    )
    monitor_ca: Path | None = setting(
        "FASTMON_MONITOR_CA", "", "CA file (PEM) to verify the monitor's certificate.", as_file
    )

    broker_host: str = setting("ACTIVEMQ_HOST", "localhost", "Host of the message broker.", as_host)
    broker_port: int = setting("ACTIVEMQ_PORT", "61612", "STOMP port of the message broker.", whole(1, 65535))
    broker_user: str = setting("ACTIVEMQ_USER MQ_USER", "", "User name for the broker.", as_text)
    broker_password: str = setting("ACTIVEMQ_PASSWORD MQ_PASSWD", "", "Password for the broker.", as_text, secret=True)
    broker_use_ssl: bool = setting(
        "ACTIVEMQ_USE_SSL",
        "off",
        "Use TLS for the broker; needs ACTIVEMQ_SSL_CA_CERTS. Setting MQ_CAFILE alone also enables TLS.",
        as_switch,
    )
    broker_ca_file: Path | None = setting(
        "ACTIVEMQ_SSL_CA_CERTS MQ_CAFILE", "", "CA file (PEM) to verify the broker's certificate.", as_file
    )
    broker_cert_file: Path | None = setting(
        "ACTIVEMQ_SSL_CERT_FILE", "", "Client certificate (PEM), if the broker requires one.", as_file
    )
    broker_key_file: Path | None = setting(
        "ACTIVEMQ_SSL_KEY_FILE", "", "Private key (PEM) of the client certificate.", as_file
    )
    subscribe: str = setting(
        "FASTMON_SUBSCRIBE",
        "/topic/epictopic",
        "Broker destination to subscribe to for STF messages: a topic, or a queue that several daemons share.",
        as_subscription,
    )
    runs_topic: str = setting(
        "FASTMON_RUNS_TOPIC",
        "",
        "Topic of run messages if FASTMON_SUBSCRIBE is a queue: each daemon needs all of them. Default: the topic that "
        "the queue names, else /topic/epictopic.",
        as_text,
    )
    announce: tuple[str, ...] = setting(
        "FASTMON_ANNOUNCE",
        "/topic/epictopic",
        "Broker destinations for announcements of TF files, separated by commas.",
        comma_list("destination"),
    )
    durable: bool = setting(
        "FASTMON_DURABLE",
        "off",
        "Use a durable subscription: the broker keeps messages while the daemon is down.",
        as_switch,
    )
    client_id: str | None = setting(
        "FASTMON_CLIENT_ID", "", "STOMP client id. Default: made from namespace and instance id.", as_optional
    )
    notify: str = setting(
        "FASTMON_NOTIFY",
        "stomp",
        "How TF files are announced: stomp, rest (through the monitor) or off.",
        one_of("stomp", "rest", "off"),
    )
    late_announce_rate: float = setting(
        "FASTMON_LATE_ANNOUNCE_RATE", "30", "Maximum late announcements per second; 0 means no limit.", NOT_NEGATIVE
    )
    mode: str = setting(
        "FASTMON_MODE",
        "message",
        "Source of STFs: message (the broker) or continuous (files in FASTMON_WATCH_DIRS).",
        one_of("message", "continuous"),
    )
    watch_dirs: tuple[Path, ...] = setting(
        "FASTMON_WATCH_DIRS", "", "Folders to watch, including subfolders, separated by commas.", as_folders
    )
    file_patterns: tuple[str, ...] = setting(
        "FASTMON_FILE_PATTERNS",
        "*.stf,*.STF",
        "File name patterns of STF files, separated by commas.",
        comma_list("pattern"),
    )
    check_interval_s: float = setting(
        "FASTMON_CHECK_INTERVAL", "30", "Interval between scans of the watched folders, in seconds.", POSITIVE
    )
    settle_s: float = setting(
        "FASTMON_SETTLE", "5", "Seconds without a change after which a file counts as complete.", POSITIVE
    )
    lookback_minutes: float = setting(
        "FASTMON_LOOKBACK_MINUTES",
        "0",
        "Ignore files older than this many minutes at startup; 0 means no limit.",
        NOT_NEGATIVE,
    )
    register_missing_stf: bool = setting(
        "FASTMON_REGISTER_MISSING_STF",
        "off",
        "Register an STF with the monitor if nobody else has done so in time, instead of marking it failed.",
        as_switch,
    )

    namespace: str = setting(
        "FASTMON_NAMESPACE", "", "Testbed namespace to process. Required here or in SWF_TESTBED_CONFIG.", as_namespace
    )
    testbed_config: Path | None = setting(
        "SWF_TESTBED_CONFIG",
        "",
        "TOML file with `[testbed] namespace`, used if FASTMON_NAMESPACE is not set. NAME means workflows/NAME.toml.",
        as_testbed_config,
    )
    selection_fraction: float = setting(
        "FASTMON_SELECTION_FRACTION",
        "0.1",
        "Fraction of STFs to sample, 0 to 1. Set 1.0 to replace an older agent that processed every STF.",
        FRACTION,
    )
    tf_files_per_stf: int = setting(
        "FASTMON_TF_FILES_PER_STF", "7", "Number of TF files to sample per STF.", whole(1, 999)
    )
    tf_count_per_stf: int = setting(
        "FASTMON_TF_COUNT_PER_STF",
        "1000",
        "Number of TFs in an STF, if its message does not include it.",
        whole(1, 1_000_000_000),
    )
    tf_size_fraction: float = setting(
        "FASTMON_TF_SIZE_FRACTION",
        "0.15",
        "Mean size of a TF file, as a fraction of its partition of the STF; above 0, at most 1.",
        SHARE,
    )
    tf_sequence_start: int = setting(
        "FASTMON_TF_SEQUENCE_START", "1", "Sequence number of the first TF file of an STF.", whole(0, 1_000_000_000)
    )

    db: Path | None = setting(
        "FASTMON_DB",
        "",
        "Database file, on a local disk. Default: outbox.db in the first usable state folder.",
        as_path,
    )
    min_free_mb: int = setting(
        "FASTMON_MIN_FREE_MB",
        "256",
        "Minimum free space on the database's file system, in MB. Below it, no new STFs are stored.",
        whole(0, 1_000_000_000),
    )
    keep_days: float = setting(
        "FASTMON_KEEP_DAYS",
        "7",
        "Days to keep a complete run after it ended; then only its names and counts are kept. 0 means forever.",
        NOT_NEGATIVE,
    )
    workers: int = setting(
        "FASTMON_WORKERS",
        "auto",
        "Maximum calls to the monitor at once, and maximum announcements. auto: up to 32, as many as the other side "
        "takes, found from the times of its answers.",
        as_workers,
    )
    stuck_after_s: float = setting(
        "FASTMON_STUCK_AFTER", "60", "Seconds without progress after which an STF counts as stuck.", POSITIVE
    )
    drain_s: float = setting("FASTMON_DRAIN_S", "8", "Seconds to wait at shutdown for in-flight work.", NOT_NEGATIVE)
    reconcile: str = setting(
        "FASTMON_RECONCILE",
        "on",
        "Poll the monitor for missed STFs and close runs. If off, runs never close and are never pruned. "
        "If several daemons share a queue, all close runs, and exactly one must process missed STFs: on for one and "
        "off for the others, or auto for all: one of those that run does it.",
        as_reconcile,
    )
    http: ListenAddress | None = setting(
        "FASTMON_HTTP",
        "off",
        "Listen address of /livez, /readyz, /healthz, /status and /metrics: off, PORT (on 127.0.0.1) or ADDRESS:PORT. "
        "Port 0 picks a free port.",
        as_listen,
    )
    http_token: str = setting(
        "FASTMON_HTTP_TOKEN",
        "",
        "Token that every request to FASTMON_HTTP must send (`Authorization: Bearer`), at least 16 characters. Without "
        "one, whoever reaches the address may read; set it if that is not loopback.",
        as_token,
        secret=True,
    )
    log_level: str = setting(
        "SWF_LOG_LEVEL", "INFO", f"Minimum log level: {', '.join(LOG_LEVELS)}.", one_of(*LOG_LEVELS)
    )
    log_format: str = setting(
        "FASTMON_LOG_FORMAT",
        "auto",
        "Format of log lines: text, json (one object a line), or auto: text, or fields of the journal under systemd.",
        one_of("auto", "text", "json"),
    )
    agent_name: str | None = setting(
        "FASTMON_AGENT_NAME",
        "",
        "Agent name shown by the monitor, at most 100 characters. Default: generated, then kept in the database.",
        as_agent_name,
    )
    stages: bool = setting("FASTMON_STAGES", "on", "Report each STF to the monitor as a workflow stage.", as_switch)
    rest_logging: bool = setting(
        "FASTMON_REST_LOGGING", "on", "Also send log lines of SWF_LOG_LEVEL and above to the monitor.", as_switch
    )

    sources: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)
    """Field name -> source of its value: environment, .env, ~/.env, default, or the setting that implied it."""
    unknown: tuple[str, ...] = field(default=(), compare=False)
    """FASTMON_ variables that match no setting, sorted: probably misspelled."""
    exposed: tuple[str, ...] = field(default=(), compare=False)
    """Warnings of files that contain a secret and that other users can read."""

    @property
    def shared_queue(self) -> str:
        """The queue that this daemon shares with others; empty if it hears every message of a topic."""
        return shared_queue(self.subscribe, self.mode)

    @property
    def topic_of_runs(self) -> str:
        """The topic of run messages beside `shared_queue`; empty without a queue."""
        if not self.shared_queue or self.runs_topic:
            return self.runs_topic if self.shared_queue else ""
        topic, shared, _ = self.subscribe.partition("::")
        virtual = _VIRTUAL_TOPIC.fullmatch(self.subscribe)
        return topic if shared else f"/topic/{virtual[1]}" if virtual else "/topic/epictopic"

    @classmethod
    def load(cls, environ: Mapping[str, str], *, working_folder: Path | None, home: Path | None) -> Self:
        """Read all settings; the environment overrides `.env`, which overrides `~/.env`.

        A folder is None if this process has none.

        Raises: ConfigError for the first invalid setting: one line with its name, value (unless secret) and fix.
        """
        result = read_settings(all_settings(), environ, working_folder=working_folder, home=home)
        if result.errors:
            raise next(iter(result.errors.values()))
        return cls(**result.values, sources=result.sources, unknown=result.unknown, exposed=result.exposed)


def shared_queue(subscribe: str, mode: str) -> str:
    """Return the queue that a daemon with these settings shares with others; empty if there is none."""
    is_queue = subscribe.startswith("/queue/") or "::" in subscribe
    return subscribe if is_queue and mode == "message" else ""


def accounts_for_runs(reconcile: str, subscribe: str, mode: str) -> bool:
    """Return whether a daemon with these settings polls and closes runs."""
    return reconcile != "off" or bool(shared_queue(subscribe, mode))


def describe_unknown(name: str) -> str:
    """Return what to do about a FASTMON_ variable that is no setting."""
    known = (name for _, setting in all_settings() for name in setting.names)
    return f"{name}: unknown setting ignored: correct or unset it{did_you_mean(name, known, nearness=0.8)}"


def all_settings() -> Iterator[tuple[str, Setting]]:
    """Return pairs of field name and declaration, in the order of `Settings`."""
    return ((each.name, each.metadata["setting"]) for each in fields(Settings) if "setting" in each.metadata)
