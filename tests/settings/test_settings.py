"""Settings: sources, validation, error messages, generated documents."""

import itertools
import os
import sys
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from fastmon_daemon.base.errors import ConfigError
from fastmon_daemon.base.logs import SecretRedactor
from fastmon_daemon.service.clients import SecretReader
from fastmon_daemon.settings import (
    ListenAddress,
    Settings,
    all_settings,
    database_to_read,
    database_to_write,
    exposures,
    read_environment,
)
from fastmon_daemon.settings.files import is_secret
from tests.builders import logged

NO_CA_FILE = (
    "ACTIVEMQ_USE_SSL='true': TLS needs a CA file: "
    "set ACTIVEMQ_SSL_CA_CERTS (or MQ_CAFILE), or set ACTIVEMQ_USE_SSL=off"
)
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


def config_error(load: Load, **environ: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(**environ)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_environment_overrides_working_folder_which_overrides_home(load: Load, working: Path, home: Path) -> None:
    (home / ".env").write_text("export ACTIVEMQ_HOST=home\nexport ACTIVEMQ_PORT='1'\nexport MQ_USER=home\n")
    (working / ".env").write_text("ACTIVEMQ_HOST=working\nACTIVEMQ_PORT=2\n")
    settings = load(ACTIVEMQ_HOST="environment")
    assert (settings.broker_host, settings.broker_port, settings.broker_user) == ("environment", 2, "home")
    sources = [settings.sources[name] for name in ("broker_host", "broker_port", "broker_user", "workers")]
    assert sources == ["environment", ".env", "~/.env", "default"]


def test_env_files_are_not_interpolated(load: Load, working: Path) -> None:
    (working / ".env").write_text("ACTIVEMQ_PASSWORD='a${HOME}b'\n")
    assert load().broker_password == "a${HOME}b"


def test_empty_values_count_as_not_set(load: Load, home: Path) -> None:
    (home / ".env").write_text("ACTIVEMQ_HOST=home\n")
    settings = load(ACTIVEMQ_HOST="", ACTIVEMQ_PORT=" ")
    assert (settings.broker_host, settings.broker_port) == ("home", 61612)


@pytest.mark.field("16")
@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"ACTIVEMQ_PORT=1\nACTIVEMQ_PASSWORD='hush-do-not-show\nMQ_USER=me\n", 2),
        (b"\n\n# it\nACTIVEMQ_HOST: hush-do-not-show\n", 4),
        (b"ACTIVEMQ_HOST:hush-do-not-show", 1),
        (b"ACTIVEMQ_HOST\n", 1),
        (b"hush-do-not-show\n", 1),
        (b"ACTIVEMQ_HOST='a' hush-do-not-show\n", 1),
        (b"=hush-do-not-show\n", 1),
        (b"export ACTIVEMQ_HOST=a; export MQ_USER=b\n", 1),
        (b"export ACTIVEMQ_HOST=a MQ_USER=b\n", 1),
        (b"OTHER='hush-do-not-show\nMQ_USER=me\nLAST='\n", 1),
        (b"source ~/other.env\n", 1),
        (b"ACTIVEMQ_PORT=1\nMQ_USER=J\xfcrgen\n", 2),
        (b"\xff\xfeA\0=\0", 1),
        ("MQ_USER=me\n".encode("utf-16-le"), 1),
    ],
)
def test_env_file_is_read_completely_or_refused_with_its_line(
    load: Load, working: Path, content: bytes, line: int
) -> None:
    (working / ".env").write_bytes(content)
    message = config_error(load)
    assert message.startswith(f"{working / '.env'}:{line}: ")
    assert SECRET not in message


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbfMQ_USER=me\n",
        b"MQ_USER=me\r\nOTHER=1\r\n",
        b"export PATH\nexport OTHER=a:$PATH\n  MQ_USER = 'me'  # it is\n",
        b"MQ_USER=me\nexport MQ_USER\n",
        b'OTHER="-----BEGIN-----\nSWF=\n-----END-----"\nMQ_USER=me',
        b"# MQ_USER: you don't\n\nMQ_USER=me\n'OTHER'=a\n",
    ],
)
def test_usual_forms_of_env_files_are_read(load: Load, working: Path, content: bytes) -> None:
    (working / ".env").write_bytes(content)
    assert load().broker_user == "me"


@pytest.mark.field("16")
def test_env_file_that_is_not_a_regular_file_is_refused_and_blocks_nothing(load: Load, home: Path) -> None:
    env = home / ".env"
    for make in (Path.mkdir, os.mkfifo, lambda path: path.symlink_to("/dev/zero")):
        make(env)
        assert config_error(load) == f"{env}: unreadable (not a regular file): fix or remove the file"
        env.rmdir() if env.is_dir() else env.unlink()
    env.symlink_to("absent")
    assert config_error(load) == f"{env}: symbolic link to a file that does not exist: fix or remove it"
    env.unlink()
    env.symlink_to(env)
    assert "Too many levels" in config_error(load)


@pytest.mark.parametrize("name", ["SWF_API_TOKEN_FILE", "FASTMON_MONITOR_CA", "SWF_TESTBED_CONFIG"])
@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_file_of_a_setting_that_is_not_a_regular_file_blocks_nothing(
    load: Load, working: Path, name: str, make: Callable[[Path], None]
) -> None:
    make(working / "file")
    message = config_error(load, **{name: "./file", "FASTMON_NAMESPACE": ""})
    assert (name in message, "not a regular file" in message) == (True, True)


def test_without_home_and_working_folder_absolute_paths_go_on(tmp_path: Path) -> None:
    def load(**environ: str) -> Settings:
        return Settings.load({"FASTMON_NAMESPACE": "epic", **environ}, working_folder=None, home=None)

    (tmp_path / "token").write_text(SECRET)
    assert load(SWF_API_TOKEN_FILE=str(tmp_path / "token")).monitor_token == SECRET
    assert "FASTMON_DB='~/x.db' (environment): there is no home folder: set HOME" in config_error(
        load, FASTMON_DB="~/x.db"
    )
    assert "SWF_API_TOKEN_FILE='token': unreadable (the working folder does not exist any more" in config_error(
        load, SWF_API_TOKEN_FILE="token"
    )


def test_without_home_the_database_needs_a_setting(tmp_path: Path) -> None:
    cases = {"": "no home folder for the database: set FASTMON_DB", "~/x.db": "FASTMON_DB='~/x.db': there is no home"}
    for find in (database_to_read, database_to_write):
        assert find(None, {"FASTMON_DB": "/x.db"}, None, tmp_path / "absent") == (Path("/x.db"), "FASTMON_DB")
        for text, message in cases.items():
            with pytest.raises(ConfigError, match=message):
                find(None, {"FASTMON_DB": text}, None, tmp_path / "absent")


@pytest.mark.parametrize(
    ("name", "text", "fix"),
    [
        ("SWF_MONITOR_URL", "monitor:8002", "must be http(s)://"),
        ("SWF_MONITOR_URL", "http://", "must be http(s)://"),
        ("SWF_MONITOR_URL", "http://host:port", "must be http(s)://"),
        ("SWF_MONITOR_URL", "http://host/#a", "password or query"),
        ("FASTMON_MONITOR_CA", "absent.pem", "use a readable file"),
        ("ACTIVEMQ_PORT", "0", "from 1 to 65535"),
        ("ACTIVEMQ_PORT", "61612.0", "must be a whole number"),
        ("ACTIVEMQ_USE_SSL", "maybe", "must be on or off"),
        ("ACTIVEMQ_SSL_CERT_FILE", "absent.pem", "use a readable file"),
        ("FASTMON_NAMESPACE", "two words", "must be 1 to 100 letters"),
        ("FASTMON_NAMESPACE", "n" * 101, "must be 1 to 100 letters"),
        ("FASTMON_ANNOUNCE", ", ,", "must be one or more"),
        ("FASTMON_FILE_PATTERNS", ", ,", "must be one or more"),
        ("FASTMON_NOTIFY", "smoke", "stomp, rest, off"),
        ("FASTMON_MODE", "batch", "must be one of message, continuous"),
        ("FASTMON_SELECTION_FRACTION", "1.1", "from 0 to 1"),
        ("FASTMON_SELECTION_FRACTION", "nan", "from 0 to 1"),
        ("FASTMON_TF_FILES_PER_STF", "0", "from 1 to 999"),
        ("FASTMON_TF_FILES_PER_STF", "1000", "from 1 to 999"),
        ("FASTMON_TF_SIZE_FRACTION", "0", "above 0 and at most 1"),
        ("FASTMON_TF_SEQUENCE_START", "-1", "from 0"),
        ("FASTMON_WORKERS", "65", "from 1 to 64, or auto"),
        ("FASTMON_STUCK_AFTER", "0", "above 0"),
        ("FASTMON_STUCK_AFTER", "inf", "above 0"),
        ("FASTMON_LATE_ANNOUNCE_RATE", "-1", "of at least 0"),
        ("FASTMON_DRAIN_S", "soon", "must be a number"),
        ("SWF_LOG_LEVEL", "LOUD", "DEBUG, INFO, WARNING, ERROR, CRITICAL"),
        ("FASTMON_AGENT_NAME", "a" * 101, "must be at most 100 characters long"),
        ("FASTMON_CLIENT_ID", "a\nb", "must be one line"),
        ("FASTMON_HTTP", "on", "must be off, PORT"),
        ("FASTMON_HTTP", "65536", "must be off, PORT"),
        ("FASTMON_HTTP", ":9100", "ADDRESS:PORT"),
        ("FASTMON_HTTP", "http://127.0.0.1:9100", "ADDRESS:PORT"),
    ],
)
def test_error_names_setting_value_source_and_fix(load: Load, name: str, text: str, fix: str) -> None:
    message = config_error(load, **{name: text})
    assert f"{name}={text!r} (environment)" in message
    assert fix in message


def test_valid_values_are_parsed(load: Load, working: Path) -> None:
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


def test_tilde_in_a_path_is_the_home_folder(load: Load, home: Path) -> None:
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
def test_listen_address_defaults_to_loopback(load: Load, text: str, listens: ListenAddress | None) -> None:
    assert load(FASTMON_HTTP=text).http == listens


def test_repr_shows_no_secret(load: Load) -> None:
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
def test_errors_show_no_secret(load: Load, environ: dict[str, str]) -> None:
    message = config_error(load, **environ)
    assert next(iter(environ)) in message
    assert "value not shown" in message
    assert SECRET not in message


@pytest.mark.field("15")
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("SWF_MONITOR_URL", "http://{}:8002"),
        ("SWF_MONITOR_HTTP_URL", "http://{}"),
        ("ACTIVEMQ_HOST", "{}"),
        ("FASTMON_HTTP", "{}:9100"),
    ],
)
@pytest.mark.parametrize("host", ["a..b", ".a", "x" * 70, f"{'x' * 70}.org", ".".join(["x" * 60] * 5), "[::1", "[a]"])
def test_host_name_that_no_resolver_accepts_is_rejected(load: Load, name: str, text: str, host: str) -> None:
    assert ": must be " in config_error(load, **{name: text.format(host)})


@pytest.mark.field("15")
@pytest.mark.parametrize(
    ("host", "cause"),
    [
        ("a..b", "1 to 63 characters between its dots"),
        ("x" * 70, "1 to 63 characters between its dots"),
        ("broker:61612", "port, user and password are separate settings"),
        ("user@broker", "port, user and password are separate settings"),
    ],
)
def test_rejected_host_of_the_broker_says_why(load: Load, host: str, cause: str) -> None:
    assert cause in config_error(load, ACTIVEMQ_HOST=host)


@pytest.mark.parametrize("host", ["localhost", "broker.example.org.", "192.0.2.1", "m\u00fcnchen.example", "a_b"])
def test_host_name_or_address_is_accepted(load: Load, host: str) -> None:
    settings = load(ACTIVEMQ_HOST=host, SWF_MONITOR_URL=f"http://{host}:8002")
    assert (settings.broker_host, settings.monitor_url) == (host, f"http://{host}:8002")


@pytest.mark.field("15")
@pytest.mark.parametrize("host", ["::1", "[::1]", "[fe80::1%eth0]"])
def test_ipv6_address_is_accepted_with_and_without_brackets(load: Load, host: str) -> None:
    assert load(ACTIVEMQ_HOST=host).broker_host == host.strip("[]")


@pytest.mark.parametrize("name", ["SWF_MONITOR_URL", "SWF_MONITOR_HTTP_URL", "ACTIVEMQ_HOST"])
@pytest.mark.parametrize(
    "text",
    [
        f"https://me:{SECRET}@host/data", f"//me:{SECRET}@host", f"me:{SECRET}@host", f"http://me:{SECRET}@[host",
        f"https://host/data?token={SECRET}",
    ],
)  # fmt: skip
def test_address_with_password_is_rejected_and_not_shown(load: Load, name: str, text: str) -> None:
    message = config_error(load, **{name: text})
    assert message.startswith(f"{name} (value not shown) (environment): must be ")
    assert SECRET not in message


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"ACTIVEMQ_USE_SSL": "true"}, NO_CA_FILE),
        ({"ACTIVEMQ_SSL_KEY_FILE": "key.pem"}, "a key needs a certificate: set ACTIVEMQ_SSL_CERT_FILE"),
        ({"FASTMON_NAMESPACE": ""}, "set FASTMON_NAMESPACE"),
        ({"FASTMON_MODE": "continuous"}, "needs folders to watch: set FASTMON_WATCH_DIRS"),
        ({"SWF_API_TOKEN_FILE": "absent"}, "SWF_API_TOKEN_FILE='absent': unreadable"),
        ({"SWF_API_TOKEN_FILE": "empty"}, "SWF_API_TOKEN_FILE='empty': the file is empty"),
    ],
)
def test_missing_setting_or_file_is_an_error(load: Load, working: Path, environ: dict[str, str], message: str) -> None:
    (working / "key.pem").touch()
    (working / "empty").touch()
    assert message in config_error(load, **environ)


@pytest.mark.parametrize("name", ["ACTIVEMQ_PASSWORD", "MQ_PASSWD"])
def test_secret_is_read_from_a_file(load: Load, working: Path, name: str) -> None:
    (working / "password").write_text(f"{SECRET}\n")
    settings = load(**{f"{name}_FILE": "password"})
    assert settings.broker_password == SECRET
    assert settings.sources["broker_password"] == f"{name}_FILE"


def test_secret_file_in_the_home_folder_is_reread(load: Load, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(home))
    (home / "token").write_text("first")
    settings = load(SWF_API_TOKEN_FILE="~/token")
    secrets = SecretRedactor("first")
    reread = SecretReader({"SWF_API_TOKEN_FILE": "~/token"}, "SWF_API_TOKEN", settings.monitor_token, secrets)
    (home / "token").write_text("first-and-second")
    assert (settings.monitor_token, reread()) == ("first", "first-and-second")
    assert secrets.redact("not first, nor first-and-second") == "not ***, nor ***"


def test_secrets_added_by_concurrent_threads_are_all_redacted() -> None:
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


@pytest.mark.parametrize("break_file", [Path.unlink, Path.touch, lambda path: path.write_bytes(b"\xff\xfe")])
def test_previous_secret_is_kept_while_its_file_is_unusable_with_one_warning(
    break_file: Callable[[Path], object], working: Path
) -> None:
    file = working / "token"
    read = SecretReader({"SWF_API_TOKEN_FILE": str(file)}, "SWF_API_TOKEN", "first", SecretRedactor())
    file.write_text("second")
    assert read() == "second"
    file.write_text("")
    break_file(file)
    with logged() as lines:
        assert [read(), read()] == ["second", "second"]
    assert [line.partition(": using ")[2] for line in lines] == ["the last secret that was read\n"]
    file.write_text("third")
    assert read() == "third"


def test_setting_and_alias_must_not_differ(load: Load) -> None:
    assert load(MQ_USER="me").broker_user == "me"
    assert load(ACTIVEMQ_USER="me", MQ_USER="me").broker_user == "me"
    message = config_error(load, ACTIVEMQ_USER="me", MQ_USER="you")
    assert all(part in message for part in ("ACTIVEMQ_USER='me'", "MQ_USER='you'", "unset one of them"))


def test_mq_cafile_alone_enables_tls(load: Load, working: Path) -> None:
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
def test_explicit_tls_setting_wins_over_ca_file(load: Load, working: Path, environ: dict[str, str], tls: bool) -> None:
    (working / "ca.pem").touch()
    assert load(**environ).broker_use_ssl is tls


def test_namespace_from_the_testbeds_toml(load: Load, working: Path) -> None:
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
        (None, "unreadable"),
        ("[testbed", "invalid TOML"),
        ("[testbed]\n", "no `[testbed] namespace`"),
        ("testbed = 1\n", "no `[testbed] namespace`"),
        ('[testbed]\nnamespace = "two words"\n', "'two words'"),
    ],
)
def test_toml_without_valid_namespace_is_an_error(load: Load, working: Path, content: str | None, reason: str) -> None:
    if content is not None:
        (working / "mine.toml").write_text(content)
    message = config_error(load, FASTMON_NAMESPACE="", SWF_TESTBED_CONFIG="./mine.toml")
    assert reason in message
    assert f"SWF_TESTBED_CONFIG={str(working / 'mine.toml')!r}" in message
    assert "set FASTMON_NAMESPACE" in message


@pytest.mark.parametrize("mode", ["message", "Message"])
def test_message_mode_in_any_case_without_warning(load: Load, mode: str) -> None:
    settings = load(FASTMON_MODE=mode)
    assert settings.mode == "message"
    assert settings.unknown == ()


def test_watched_folders_are_relative_to_the_working_folder(load: Load, working: Path) -> None:
    (working / "data").mkdir()
    settings = load(FASTMON_MODE="continuous", FASTMON_WATCH_DIRS="data, data")
    assert settings.watch_dirs == (working / "data",)


def test_unknown_fastmon_variables_are_collected(load: Load) -> None:
    settings = load(FASTMON_WORKER="4", FASTMON_TEST_BROKER="x", OTHER="y", FASTMON_DB="outbox.db")
    assert settings.unknown == ("FASTMON_WORKER",)
    assert load(FASTMON_DASHBOARD_TOKEN="of fastmon-client").unknown == ()


def test_read_environment_does_not_validate(working: Path, home: Path) -> None:
    (home / ".env").write_text("export FASTMON_DB=home.db\n")
    merged = read_environment({"ACTIVEMQ_PORT": "bad", "EMPTY": ""}, working_folder=working, home=home)
    assert merged == {"ACTIVEMQ_PORT": "bad", "FASTMON_DB": "home.db"}


def test_database_to_write_is_the_first_usable_candidate(tmp_path: Path, home: Path) -> None:
    system = tmp_path / "system"
    environ: dict[str, str] = {}

    def found(option: Path | None = None) -> Path:
        return database_to_write(option, environ, home, system)[0]

    assert found() == home / ".local/state/fastmon-daemon/outbox.db"
    environ["XDG_STATE_HOME"] = str(tmp_path / "xdg")
    assert found() == tmp_path / "xdg/fastmon-daemon/outbox.db"
    system.mkdir()
    assert found() == system / "outbox.db"
    environ["STATE_DIRECTORY"] = f"{tmp_path / 'state'}:{tmp_path / 'other'}"
    assert found() == tmp_path / "state/outbox.db"
    environ["FASTMON_DB"] = "~/named.db"
    assert found() == home / "named.db"
    assert found(tmp_path / "option.db") == tmp_path / "option.db"


def test_database_to_read_is_the_first_existing_candidate(tmp_path: Path, home: Path) -> None:
    system, users = tmp_path / "system", home / ".local/state/fastmon-daemon/outbox.db"
    system.mkdir()
    environ = {"STATE_DIRECTORY": str(tmp_path / "state")}
    assert database_to_read(None, environ, home, system) == (tmp_path / "state/outbox.db", "$STATE_DIRECTORY")
    users.parent.mkdir(parents=True)
    users.touch()
    assert database_to_read(None, environ, home, system) == (users, "~/.local/state")
    (system / "outbox.db").touch()
    assert database_to_read(None, environ, home, system) == (system / "outbox.db", str(system))


def test_explicit_database_has_no_fallback(tmp_path: Path, home: Path) -> None:
    (tmp_path / "outbox.db").touch()
    absent = tmp_path / "absent.db"
    assert database_to_read(absent, {}, home, tmp_path) == (absent, "--db")
    assert database_to_read(None, {"FASTMON_DB": str(absent)}, home, tmp_path) == (absent, "FASTMON_DB")


def test_env_example_is_up_to_date(generate: ModuleType) -> None:
    assert (REPOSITORY / ".env.example").read_text() == generate.env_example()


def test_env_example_uncommented_sets_the_defaults(load: Load, working: Path, generate: ModuleType) -> None:
    lines = generate.env_example().splitlines()
    (working / ".env").write_text("\n".join(line.removeprefix("#") for line in lines if not line.startswith("# ")))
    assert load() == Settings(namespace="epic")


def test_settings_table_has_a_row_per_setting(generate: ModuleType) -> None:
    rows = [line for line in generate.settings().splitlines() if line.startswith("| `")]
    assert [row.split("`")[1] for row in rows] == [declared.names[0] for _, declared in all_settings()]
    assert all(row.replace(r"\|", "").count("|") == 4 for row in rows)


@pytest.mark.parametrize(
    ("environ", "found"),
    [
        (
            {"SWF_MONITOR_URL": "http://monitor.example", "SWF_API_TOKEN": "t"},
            "SWF_API_TOKEN is sent in clear to monitor",
        ),
        (
            {"SWF_MONITOR_URL": "HTTP://monitor.example", "SWF_API_TOKEN": "t"},
            "SWF_API_TOKEN is sent in clear to monitor",
        ),
        ({"SWF_MONITOR_URL": "https://monitor.example", "SWF_API_TOKEN": "t"}, ""),
        ({"SWF_MONITOR_URL": "http://monitor.example"}, ""),
        ({"SWF_MONITOR_URL": "http://[::1]:8002", "SWF_API_TOKEN": "t"}, ""),
        ({"ACTIVEMQ_HOST": "broker.example", "ACTIVEMQ_PASSWORD": "p"}, "ACTIVEMQ_PASSWORD is sent in clear to broker"),
        ({"ACTIVEMQ_HOST": "broker.example", "ACTIVEMQ_PASSWORD": "p", "MQ_CAFILE": __file__}, ""),
        ({"ACTIVEMQ_HOST": "127.0.0.2", "ACTIVEMQ_PASSWORD": "p"}, ""),
        ({"FASTMON_HTTP": "0.0.0.0:9100"}, "whoever reaches this address"),
        ({"FASTMON_HTTP": "0.0.0.0:9100", "FASTMON_HTTP_TOKEN": "0123456789abcdef"}, ""),
        ({"FASTMON_HTTP": "9100"}, ""),
    ],
)
def test_what_others_on_the_network_can_read_is_told(load: Load, environ: dict[str, str], found: str) -> None:
    exposed = [each for each, _ in exposures(load(**environ))]
    assert [found in each for each in exposed] == [True] * bool(found)


def test_a_short_token_of_our_own_is_refused_and_not_shown(load: Load) -> None:
    message = config_error(load, FASTMON_HTTP_TOKEN="guess-me")
    assert "at least 16" in message
    assert "guess-me" not in message


def test_the_variables_of_secrets_are_known_by_their_names() -> None:
    """So a file with one of them is not for other users to read, and a credential of that name is taken."""
    by_name = {name: setting.secret for _, setting in all_settings() for name in setting.names}
    assert {name: is_secret(name) for name in by_name} == by_name


@pytest.mark.parametrize(
    ("subscribe", "queue", "topic"),
    [
        ("/topic/epictopic", "", ""),
        ("/topic/epictopic::fastmon", "/topic/epictopic::fastmon", "/topic/epictopic"),
        ("/queue/Consumer.fm.VirtualTopic.epic", "/queue/Consumer.fm.VirtualTopic.epic", "/topic/VirtualTopic.epic"),
        ("/queue/fastmon.work", "/queue/fastmon.work", "/topic/epictopic"),
    ],
)
def test_a_daemon_of_a_queue_hears_run_messages_on_a_topic(load: Load, subscribe: str, queue: str, topic: str) -> None:
    settings = load(FASTMON_SUBSCRIBE=subscribe)
    assert (settings.shared_queue, settings.topic_of_runs) == (queue, topic)
    other = load(FASTMON_SUBSCRIBE=subscribe, FASTMON_RUNS_TOPIC="/topic/runs").topic_of_runs
    assert other == ("/topic/runs" if queue else "")


def test_a_queue_that_would_break_the_topic_is_refused_with_the_right_form(load: Load) -> None:
    message = config_error(load, FASTMON_SUBSCRIBE="/queue/epictopic::fastmon")
    assert "FASTMON_SUBSCRIBE='/queue/epictopic::fastmon'" in message
    assert "use /topic/epictopic::fastmon" in message


def test_reconcile_is_a_switch_or_auto(load: Load) -> None:
    values = {text: load(FASTMON_RECONCILE=text).reconcile for text in ("on", "True", "off", "no", "AUTO")}
    assert values == {"on": "on", "True": "on", "off": "off", "no": "off", "AUTO": "auto"}
    assert "must be on, off or auto" in config_error(load, FASTMON_RECONCILE="maybe")
