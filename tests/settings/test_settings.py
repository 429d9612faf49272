"""The settings: where they come from, what they must be, and what an error tells a person."""

import itertools
import sys
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path

import pytest
from loguru import logger

from fastmon_daemon.base.errors import ConfigError
from fastmon_daemon.base.logs import SecretRedactor
from fastmon_daemon.service import secret_reader
from fastmon_daemon.settings import (
    ListenAddress,
    Settings,
    all_settings,
    database_to_read,
    database_to_write,
    read_environment,
)
from fastmon_daemon.settings.docs import env_example, settings_table

SECRET = "hush-do-not-show"
REPOSITORY = Path(__file__).parents[2]

Load = Callable[..., Settings]


@pytest.fixture
def working(tmp_path: Path) -> Path:
    folder = tmp_path / "working"
    folder.mkdir()
    return folder


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


@pytest.fixture
def load(working: Path, home: Path) -> Load:
    def loaded(**environ: str) -> Settings:
        return Settings.load({"FASTMON_NAMESPACE": "epic", **environ}, working_folder=working, home=home)

    return loaded


def refusal(load: Load, **environ: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(**environ)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_the_environment_wins_over_the_working_folder_and_that_over_home(load: Load, working: Path, home: Path) -> None:
    (home / ".env").write_text("export ACTIVEMQ_HOST=home\nexport ACTIVEMQ_PORT='1'\nexport MQ_USER=home\n")
    (working / ".env").write_text("ACTIVEMQ_HOST=working\nACTIVEMQ_PORT=2\n")
    settings = load(ACTIVEMQ_HOST="environment")
    assert (settings.broker_host, settings.broker_port, settings.broker_user) == ("environment", 2, "home")
    sources = [settings.sources[name] for name in ("broker_host", "broker_port", "broker_user", "workers")]
    assert sources == ["environment", ".env", "~/.env", "default"]


def test_a_dollar_in_a_file_is_a_dollar(load: Load, working: Path) -> None:
    (working / ".env").write_text("ACTIVEMQ_PASSWORD='a${HOME}b'\n")
    assert load().broker_password == "a${HOME}b"


def test_the_empty_string_counts_as_not_set(load: Load, home: Path) -> None:
    (home / ".env").write_text("ACTIVEMQ_HOST=home\n")
    settings = load(ACTIVEMQ_HOST="", ACTIVEMQ_PORT=" ")
    assert (settings.broker_host, settings.broker_port) == ("home", 61612)


def test_an_env_file_that_is_not_text_is_named(load: Load, working: Path) -> None:
    (working / ".env").write_bytes(b"\xff\xfe\x00")
    assert str(working / ".env") in refusal(load)


@pytest.mark.parametrize(
    ("name", "text", "remedy"),
    [
        ("SWF_MONITOR_URL", "monitor:8002", "give http://"),
        ("SWF_MONITOR_URL", "http://", "give http://"),
        ("SWF_MONITOR_URL", "http://host:port", "give http://"),
        ("SWF_MONITOR_URL", "http://host/#a", "no query"),
        ("FASTMON_MONITOR_CA", "absent.pem", "name a readable file"),
        ("ACTIVEMQ_PORT", "0", "from 1 to 65535"),
        ("ACTIVEMQ_PORT", "61612.0", "give a whole number"),
        ("ACTIVEMQ_USE_SSL", "maybe", "give on or off"),
        ("ACTIVEMQ_SSL_CERT_FILE", "absent.pem", "name a readable file"),
        ("FASTMON_NAMESPACE", "two words", "give 1 to 100 letters"),
        ("FASTMON_NAMESPACE", "n" * 101, "give 1 to 100 letters"),
        ("FASTMON_ANNOUNCE", ", ,", "give one or more"),
        ("FASTMON_FILE_PATTERNS", ", ,", "give one or more"),
        ("FASTMON_NOTIFY", "smoke", "stomp, rest, off"),
        ("FASTMON_MODE", "batch", "give one of message, continuous"),
        ("FASTMON_SELECTION_FRACTION", "1.1", "from 0 to 1"),
        ("FASTMON_SELECTION_FRACTION", "nan", "from 0 to 1"),
        ("FASTMON_TF_FILES_PER_STF", "0", "from 1 to 999"),
        ("FASTMON_TF_FILES_PER_STF", "1000", "from 1 to 999"),
        ("FASTMON_TF_SIZE_FRACTION", "0", "above 0, up to 1"),
        ("FASTMON_TF_SEQUENCE_START", "-1", "from 0"),
        ("FASTMON_WORKERS", "65", "from 1 to 64"),
        ("FASTMON_STUCK_AFTER", "0", "above 0"),
        ("FASTMON_STUCK_AFTER", "inf", "above 0"),
        ("FASTMON_LATE_ANNOUNCE_RATE", "-1", "of 0 or more"),
        ("FASTMON_DRAIN_S", "soon", "give a number"),
        ("SWF_LOG_LEVEL", "LOUD", "DEBUG, INFO, WARNING, ERROR, CRITICAL"),
        ("FASTMON_AGENT_NAME", "a" * 101, "give a shorter name"),
        ("FASTMON_CLIENT_ID", "a\nb", "give one plain line"),
        ("FASTMON_HTTP", "on", "give off, a port"),
        ("FASTMON_HTTP", "65536", "give off, a port"),
        ("FASTMON_HTTP", ":9100", "ADDRESS:PORT"),
        ("FASTMON_HTTP", "http://127.0.0.1:9100", "ADDRESS:PORT"),
    ],
)
def test_an_error_names_the_setting_its_value_and_the_remedy(load: Load, name: str, text: str, remedy: str) -> None:
    message = refusal(load, **{name: text})
    assert f"{name}={text!r} (environment)" in message
    assert remedy in message


def test_good_values_are_parsed_once(load: Load, working: Path) -> None:
    (working / "ca.pem").touch()
    settings = load(
        SWF_MONITOR_URL="https://host/swf/",
        FASTMON_MONITOR_CA="ca.pem",
        FASTMON_ANNOUNCE="/topic/a, /queue/b,/topic/a",
        FASTMON_DURABLE="Yes",
        FASTMON_SELECTION_FRACTION="1",
        FASTMON_LATE_ANNOUNCE_RATE="0",
        SWF_LOG_LEVEL="debug",
    )
    assert settings.monitor_url == "https://host/swf"
    assert settings.monitor_ca == working / "ca.pem"
    assert settings.announce == ("/topic/a", "/queue/b")
    assert settings.durable
    assert (settings.selection_fraction, settings.late_announce_rate) == (1.0, 0.0)
    assert settings.log_level == "DEBUG"


def test_a_path_may_begin_with_the_home_folder(load: Load, home: Path) -> None:
    assert load(FASTMON_DB="~/fastmon/outbox.db").db == home / "fastmon/outbox.db"


@pytest.mark.parametrize(
    ("text", "listens"),
    [
        ("", None),
        ("Off", None),
        ("9100", ListenAddress("127.0.0.1", 9100)),
        ("0", ListenAddress("127.0.0.1", 0)),
        ("0.0.0.0:9100", ListenAddress("0.0.0.0", 9100)),
        ("[::1]:9100", ListenAddress("::1", 9100)),
    ],
)
def test_a_bare_port_listens_on_loopback_and_another_address_must_be_written(
    load: Load, text: str, listens: ListenAddress | None
) -> None:
    assert load(FASTMON_HTTP=text).http == listens


def test_a_secret_is_in_no_repr(load: Load) -> None:
    settings = load(SWF_API_TOKEN=SECRET, ACTIVEMQ_PASSWORD=SECRET)
    assert (settings.monitor_token, settings.broker_password) == (SECRET, SECRET)
    assert SECRET not in repr(settings) + repr(settings.sources)


@pytest.mark.parametrize(
    "environ",
    [
        {"SWF_API_TOKEN": f"{SECRET}\nx"},
        {"SWF_API_TOKEN": SECRET, "SWF_API_TOKEN_FILE": "token"},
        {"ACTIVEMQ_PASSWORD": SECRET, "MQ_PASSWD": f"{SECRET}2"},
        {"SWF_MONITOR_URL": f"http://me:{SECRET}@host"},
    ],
)
def test_a_secret_is_in_no_error(load: Load, environ: dict[str, str]) -> None:
    message = refusal(load, **environ)
    assert next(iter(environ)) in message
    assert "value not shown" in message
    assert SECRET not in message


@pytest.mark.parametrize("name", ["SWF_MONITOR_URL", "SWF_MONITOR_HTTP_URL", "ACTIVEMQ_HOST"])
@pytest.mark.parametrize(
    "text",
    [
        f"https://me:{SECRET}@host/data", f"//me:{SECRET}@host", f"me:{SECRET}@host", f"http://me:{SECRET}@[host",
        f"https://host/data?token={SECRET}",
    ],
)  # fmt: skip
def test_no_address_may_hold_a_password_and_none_that_does_is_shown(load: Load, name: str, text: str) -> None:
    message = refusal(load, **{name: text})
    assert message.startswith(f"{name} (value not shown) (environment): give ")
    assert SECRET not in message


@pytest.mark.parametrize("name", ["ACTIVEMQ_PASSWORD", "MQ_PASSWD"])
def test_a_secret_may_come_from_a_file(load: Load, working: Path, name: str) -> None:
    (working / "password").write_text(f"{SECRET}\n")
    settings = load(**{f"{name}_FILE": "password"})
    assert settings.broker_password == SECRET
    assert settings.sources["broker_password"] == f"{name}_FILE"


def test_a_secret_file_in_the_home_folder_is_read_and_read_again(
    load: Load, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(home))
    (home / "token").write_text("first")
    settings = load(SWF_API_TOKEN_FILE="~/token")
    secrets = SecretRedactor("first")
    again = secret_reader({"SWF_API_TOKEN_FILE": "~/token"}, "SWF_API_TOKEN", settings.monitor_token, secrets)
    (home / "token").write_text("first-and-second")
    assert (settings.monitor_token, again()) == ("first", "first-and-second")
    assert secrets.redact("not first, nor first-and-second") == "not ***, nor ***"


def test_secrets_that_threads_read_at_the_same_time_are_all_blotted_out() -> None:
    secrets, switch = SecretRedactor(), sys.getswitchinterval()
    names = [[f"<{thread}-{n:03}>" for n in range(400)] for thread in "abcd"]
    threads = [threading.Thread(target=lambda each=each: deque(map(secrets.add, each), maxlen=0)) for each in names]
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(switch)
    assert set(secrets.redact("".join(itertools.chain(*names)))) == {"*"}


@pytest.mark.parametrize("spoil", [Path.unlink, Path.touch, lambda path: path.write_bytes(b"\xff\xfe")])
def test_while_its_file_gives_none_a_secret_stays_what_it_was_and_that_is_said_once(
    spoil: Callable[[Path], object], working: Path
) -> None:
    lines: list[str] = []
    sink = logger.add(lines.append, format="{message}")
    file = working / "token"
    read = secret_reader({"SWF_API_TOKEN_FILE": str(file)}, "SWF_API_TOKEN", "first", SecretRedactor())
    file.write_text("second")
    assert read() == "second"
    file.write_text("")
    spoil(file)
    assert [read(), read()] == ["second", "second"]
    logger.remove(sink)
    assert [line.partition("the secret")[2] for line in lines] == [" that was read last is used\n"]
    file.write_text("third")
    assert read() == "third"


def test_a_secret_file_that_is_absent_or_empty_is_refused(load: Load, working: Path) -> None:
    assert "SWF_API_TOKEN_FILE='absent'" in refusal(load, SWF_API_TOKEN_FILE="absent")
    (working / "empty").touch()
    assert "SWF_API_TOKEN_FILE='empty': the file is empty" in refusal(load, SWF_API_TOKEN_FILE="empty")


def test_a_name_and_its_alias_may_agree_and_must_not_differ(load: Load) -> None:
    assert load(MQ_USER="me").broker_user == "me"
    assert load(ACTIVEMQ_USER="me", MQ_USER="me").broker_user == "me"
    message = refusal(load, ACTIVEMQ_USER="me", MQ_USER="you")
    assert all(part in message for part in ("ACTIVEMQ_USER='me'", "MQ_USER='you'", "unset one of them"))


def test_tls_without_a_ca_file_is_refused_never_plain(load: Load) -> None:
    message = refusal(load, ACTIVEMQ_USE_SSL="true")
    names = ("ACTIVEMQ_USE_SSL='true'", "ACTIVEMQ_SSL_CA_CERTS", "MQ_CAFILE", "ACTIVEMQ_USE_SSL=off")
    assert all(name in message for name in names)


def test_mq_cafile_alone_turns_tls_on(load: Load, working: Path) -> None:
    (working / "ca.pem").touch()
    settings = load(MQ_CAFILE="ca.pem")
    assert settings.broker_use_ssl
    assert settings.sources["broker_use_ssl"] == "MQ_CAFILE"
    assert settings.broker_ca_file == working / "ca.pem"


@pytest.mark.parametrize(
    ("environ", "tls"),
    [
        ({"MQ_CAFILE": "ca.pem", "ACTIVEMQ_USE_SSL": "off"}, False),
        ({"ACTIVEMQ_SSL_CA_CERTS": "ca.pem"}, False),
        ({"ACTIVEMQ_SSL_CA_CERTS": "ca.pem", "ACTIVEMQ_USE_SSL": "1"}, True),
        ({"MQ_CAFILE": "ca.pem", "ACTIVEMQ_USE_SSL": "on"}, True),
    ],
)
def test_what_is_said_about_tls_is_kept(load: Load, working: Path, environ: dict[str, str], tls: bool) -> None:
    (working / "ca.pem").touch()
    assert load(**environ).broker_use_ssl is tls


def test_a_key_without_its_certificate_is_refused(load: Load, working: Path) -> None:
    (working / "key.pem").touch()
    assert "set ACTIVEMQ_SSL_CERT_FILE" in refusal(load, ACTIVEMQ_SSL_KEY_FILE="key.pem")


def test_the_namespace_comes_from_the_testbeds_toml(load: Load, working: Path) -> None:
    (working / "workflows").mkdir()
    (working / "workflows/mine.toml").write_text('[testbed]\nnamespace = "from-toml"\n')
    for name in ("mine", "mine.toml", "./workflows/mine.toml"):
        settings = load(FASTMON_NAMESPACE="", SWF_TESTBED_CONFIG=name)
        assert settings.namespace == "from-toml"
        assert settings.sources["namespace"] == "SWF_TESTBED_CONFIG"
    assert load(SWF_TESTBED_CONFIG="mine.toml").namespace == "epic"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "cannot be read"),
        ("[testbed", "is not TOML"),
        ("[testbed]\n", "has no `[testbed] namespace`"),
        ("testbed = 1\n", "has no `[testbed] namespace`"),
        ('[testbed]\nnamespace = "two words"\n', "'two words'"),
    ],
)
def test_a_toml_without_a_good_namespace_is_refused(
    load: Load, working: Path, content: str | None, reason: str
) -> None:
    if content is not None:
        (working / "mine.toml").write_text(content)
    message = refusal(load, FASTMON_NAMESPACE="", SWF_TESTBED_CONFIG="./mine.toml")
    assert reason in message
    assert f"SWF_TESTBED_CONFIG={str(working / 'mine.toml')!r}" in message
    assert "set FASTMON_NAMESPACE" in message


def test_no_namespace_anywhere_is_refused(load: Load) -> None:
    assert "set FASTMON_NAMESPACE" in refusal(load, FASTMON_NAMESPACE="")


@pytest.mark.parametrize("mode", ["message", "Message"])
def test_the_mode_that_older_installations_set_is_taken_silently(load: Load, mode: str) -> None:
    settings = load(FASTMON_MODE=mode)
    assert settings.mode == "message"
    assert settings.unknown == ()


def test_continuous_mode_without_folders_is_refused(load: Load) -> None:
    assert "name them in FASTMON_WATCH_DIRS" in refusal(load, FASTMON_MODE="continuous")


def test_watched_folders_are_placed_in_the_working_folder(load: Load, working: Path) -> None:
    (working / "data").mkdir()
    settings = load(FASTMON_MODE="continuous", FASTMON_WATCH_DIRS="data, data")
    assert settings.watch_dirs == (working / "data",)


def test_unknown_names_of_ours_are_collected(load: Load) -> None:
    settings = load(FASTMON_WORKER="4", FASTMON_TEST_BROKER="x", OTHER="y", FASTMON_DB="outbox.db")
    assert settings.unknown == ("FASTMON_WORKER",)


def test_the_merged_environment_needs_neither_namespace_nor_good_values(working: Path, home: Path) -> None:
    (home / ".env").write_text("export FASTMON_DB=home.db\n")
    merged = read_environment({"ACTIVEMQ_PORT": "bad", "EMPTY": ""}, working_folder=working, home=home)
    assert merged == {"ACTIVEMQ_PORT": "bad", "FASTMON_DB": "home.db"}


def test_the_database_to_write_is_the_first_that_applies(tmp_path: Path, home: Path) -> None:
    system = tmp_path / "system"
    environ: dict[str, str] = {}

    def found(asked: Path | None = None) -> Path:
        return database_to_write(asked, environ, home, system)[0]

    assert found() == home / ".local/state/fastmon-daemon/outbox.db"
    environ["XDG_STATE_HOME"] = str(tmp_path / "xdg")
    assert found() == tmp_path / "xdg/fastmon-daemon/outbox.db"
    system.mkdir()
    assert found() == system / "outbox.db"
    environ["STATE_DIRECTORY"] = f"{tmp_path / 'state'}:{tmp_path / 'other'}"
    assert found() == tmp_path / "state/outbox.db"
    environ["FASTMON_DB"] = "~/named.db"
    assert found() == home / "named.db"
    assert found(tmp_path / "asked.db") == tmp_path / "asked.db"


def test_the_database_to_read_is_the_first_that_exists(tmp_path: Path, home: Path) -> None:
    system, users = tmp_path / "system", home / ".local/state/fastmon-daemon/outbox.db"
    system.mkdir()
    environ = {"STATE_DIRECTORY": str(tmp_path / "state")}
    assert database_to_read(None, environ, home, system) == (tmp_path / "state/outbox.db", "$STATE_DIRECTORY")
    users.parent.mkdir(parents=True)
    users.touch()
    assert database_to_read(None, environ, home, system) == (users, "~/.local/state")
    (system / "outbox.db").touch()
    assert database_to_read(None, environ, home, system) == (system / "outbox.db", str(system))


def test_a_database_asked_for_by_name_is_never_replaced_by_another(tmp_path: Path, home: Path) -> None:
    (tmp_path / "outbox.db").touch()
    asked = tmp_path / "absent.db"
    assert database_to_read(asked, {}, home, tmp_path)[0] == asked
    assert database_to_read(None, {"FASTMON_DB": str(asked)}, home, tmp_path) == (asked, "FASTMON_DB")


def test_the_example_file_is_in_step_with_the_settings() -> None:
    assert (REPOSITORY / ".env.example").read_text() == env_example()


def test_the_example_file_uncommented_says_the_defaults(load: Load, working: Path) -> None:
    lines = env_example().splitlines()
    (working / ".env").write_text("\n".join(line.removeprefix("#") for line in lines if not line.startswith("# ")))
    assert load() == Settings(namespace="epic")


def test_the_table_has_a_row_for_every_setting() -> None:
    rows = settings_table().splitlines()[2:]
    assert [row.split("`")[1] for row in rows] == [declared.names[0] for _, declared in all_settings()]
    assert all(row.replace(r"\|", "").count("|") == 4 for row in rows)
