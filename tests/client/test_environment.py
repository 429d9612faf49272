"""Settings of the client: `.env` and `~/.env` as the daemon reads them, and the source of each value."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fastmon_client.cli import cli
from fastmon_client.environment import Environment
from fastmon_client.files import SettingsError
from fastmon_client.settings import DEFAULT_TOPIC, DEFAULT_URL, topic_from
from fastmon_daemon.base.errors import ConfigError
from fastmon_daemon.settings import Settings, read_environment
from tests import preloaded
from tests.client.scripted_server import DEADLINE_S

SECRET = "hush-do-not-show"
Files = tuple[bytes | None, bytes | None]
"""`.env` in the working folder, and `~/.env`."""

READ: tuple[Files, ...] = (
    (None, None),
    (b"", b"# nothing\n\n"),
    (b"ACTIVEMQ_HOST=working\n", b"ACTIVEMQ_HOST=home\nACTIVEMQ_PORT=1"),
    (b"ACTIVEMQ_HOST=\nACTIVEMQ_PORT=' '\n", b"export ACTIVEMQ_HOST=home\n"),
    (b"\xef\xbb\xbfMQ_USER=me\n", b"MQ_USER=you\r\nOTHER=1\r\n"),
    (b"export PATH\nexport OTHER=a:$PATH\n  MQ_USER = 'me'  # it is\n", None),
    (b'OTHER="-----BEGIN-----\nSWF=\n-----END-----"\nMQ_USER=me', None),
    (b"# MQ_USER: you don't\n\nMQ_USER=me\n'OTHER'=a\n", None),
    (b"FASTMON_ANNOUNCE=/topic/a\nFASTMON_ANNOUNCE=/topic/b\n", None),
    (b"SWF_MONITOR_URL=http://working\n", b"SWF_MONITOR_URL=http://home\nFASTMON_MONITOR_CA=~/ca.pem\n"),
    (b"MQ_USER=me\nexport MQ_USER\n", b"export MQ_USER\n"),
    (b"MQ_USER=J\xc3\xbcrgen # \xe2\x82\xac\n", None),
)
REFUSED: tuple[tuple[bytes, int], ...] = (
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
    ("\nMQ_USER=me\n".encode("utf-16-le"), 2),
)
ENVIRON = {"ACTIVEMQ_PORT": "7", "FASTMON_NAMESPACE": "epic", "EMPTY": " "}


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    folders = tmp_path / "working", tmp_path / "home"
    for folder in folders:
        folder.mkdir()
    return folders


def write(folders: tuple[Path, Path], files: Files) -> None:
    for folder, content in zip(folders, files, strict=True):
        if content is not None:
            (folder / ".env").write_bytes(content)


@pytest.mark.field("0c", "16")
@pytest.mark.parametrize("files", READ)
def test_daemon_and_client_read_the_same(folders: tuple[Path, Path], files: Files) -> None:
    write(folders, files)
    working, home = folders
    ours = Environment(ENVIRON, working, home)
    assert ours.values == dict(read_environment(ENVIRON, working_folder=working, home=home))


@pytest.mark.field("0c", "16")
@pytest.mark.parametrize(("content", "line"), REFUSED)
@pytest.mark.parametrize("place", [0, 1])
def test_daemon_and_client_refuse_the_same_with_the_line(
    folders: tuple[Path, Path], content: bytes, line: int, place: int
) -> None:
    (folders[place] / ".env").write_bytes(content)
    working, home = folders
    with pytest.raises(SettingsError) as ours:
        Environment(ENVIRON, working, home)
    with pytest.raises(ConfigError) as theirs:
        read_environment(ENVIRON, working_folder=working, home=home)
    assert ours.value.message == str(theirs.value)
    assert ours.value.message.startswith(f"{folders[place] / '.env'}:{line}: ")
    assert SECRET not in ours.value.message


@pytest.mark.parametrize("kind", ["folder", "fifo", "link"])
def test_daemon_and_client_refuse_what_is_no_file(folders: tuple[Path, Path], kind: str) -> None:
    working, home = folders
    env = home / ".env"
    {"folder": env.mkdir, "fifo": lambda: os.mkfifo(env), "link": lambda: env.symlink_to("absent")}[kind]()
    with pytest.raises(SettingsError) as ours:
        Environment(ENVIRON, working, home)
    with pytest.raises(ConfigError) as theirs:
        read_environment(ENVIRON, working_folder=working, home=home)
    assert ours.value.message == str(theirs.value)


def test_defaults_are_the_daemons() -> None:
    daemon = Settings.load({"FASTMON_NAMESPACE": "epic"}, working_folder=None, home=None)
    assert (daemon.monitor_url, tuple(daemon.announce)) == (DEFAULT_URL, (DEFAULT_TOPIC,))


@pytest.mark.field("0c")
def test_each_value_has_its_source(folders: tuple[Path, Path]) -> None:
    write(folders, (b"ACTIVEMQ_HOST=working\n", b"ACTIVEMQ_HOST=home\nMQ_USER=me\nACTIVEMQ_PORT=1\n"))
    found = Environment(ENVIRON, *folders)
    names = ("ACTIVEMQ_HOST", "ACTIVEMQ_PORT", "MQ_USER", "SWF_API_TOKEN")
    assert [found.source(name) for name in names] == [".env", "environment", "~/.env", "default"]


@pytest.mark.field("0b")
@pytest.mark.parametrize(
    ("announce", "topic"),
    [
        (None, "/topic/epictopic"),
        ("/topic/fastmon_client", "/topic/fastmon_client"),
        ("/queue/a, /topic/b,/topic/c", "/topic/b"),
    ],
)
def test_topic_is_the_one_that_the_daemon_announces_on(announce: str | None, topic: str) -> None:
    assert topic_from(None, {"FASTMON_ANNOUNCE": announce} if announce else {}) == topic
    assert topic_from("/topic/other", {"FASTMON_ANNOUNCE": "/topic/b"}) == "/topic/other"


def run(folder: Path, monkeypatch: pytest.MonkeyPatch, *words: str, home: str = os.devnull, **environ: str) -> Result:
    monkeypatch.chdir(folder)
    return CliRunner(env={"HOME": home, **environ}).invoke(cli, words)


COMMANDS = (("start",), ("summary", "--run", "1"), ("status",), ("dashboard",))


@pytest.mark.field("16")
@pytest.mark.parametrize("words", COMMANDS)
def test_invalid_env_file_exits_with_78(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    (tmp_path / ".env").write_bytes(b"SWF_API_TOKEN: hush-do-not-show\n")
    done = run(tmp_path, monkeypatch, *words)
    assert done.exit_code == 78
    assert done.output.startswith(f"fastmon-client: {tmp_path / '.env'}:1: not NAME=value")
    assert SECRET not in done.output


def test_queue_alone_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = run(tmp_path, monkeypatch, "start", "--transport", "stomp", FASTMON_ANNOUNCE="/queue/a")
    assert done.exit_code == 2
    assert "FASTMON_ANNOUNCE='/queue/a' names no topic: use --topic /topic/NAME" in done.output


@pytest.mark.field("0c")
def test_status_shows_the_source_of_each_value_and_no_secret(
    tmp_path: Path, folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text(SECRET)
    write(
        folders,
        (
            b"SWF_MONITOR_URL=http://127.0.0.1:1\nMQ_PASSWD=hush-do-not-show",
            f"SWF_API_TOKEN_FILE={tmp_path}/token\n".encode(),
        ),
    )
    done = run(folders[0], monkeypatch, "status", home=str(folders[1]), ACTIVEMQ_HOST="broker")
    lines = [line.split(maxsplit=1) for line in done.output.splitlines()]
    found = dict(lines)
    assert found["SWF_MONITOR_URL"] == "http://127.0.0.1:1  (.env)"
    assert found["SWF_API_TOKEN"] == f"in the file {tmp_path}/token  (~/.env)"
    assert found["ACTIVEMQ_HOST"] == "broker  (environment)"
    assert found["ACTIVEMQ_PASSWORD"] == "set  (.env)"
    assert found["FASTMON_ANNOUNCE"] == "/topic/epictopic  (default)"
    assert SECRET not in done.output
    assert done.exit_code == 4


@pytest.mark.field("17")
@pytest.mark.parametrize("words", [("version",), ("--help",), *COMMANDS[:3]])
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become a user without an entry in passwd")
def test_no_home_no_user_and_no_working_folder_make_no_traceback(tmp_path: Path, words: tuple[str, ...]) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    become = f"import os; os.chdir({str(folder)!r}); os.rmdir({str(folder)!r}); os.setuid(54321); "
    program = f"from fastmon_client.cli import main; {become}main()"
    more = ("--for", "0.1s") if words == ("start",) else ()
    environ = {"PATH": os.environ["PATH"], "SWF_MONITOR_URL": "http://127.0.0.1:1"}
    done = preloaded.run(["-c", program, *words, *more], env=environ, timeout=DEADLINE_S)
    assert "Traceback" not in done.stderr
    assert done.returncode == (4 if words in COMMANDS else 0), done.stderr


def refusal(folders: tuple[Path, Path]) -> str:
    """The message with which both programs refuse the `.env` files; empty if they read them."""
    working, home = folders
    ours = theirs = ""
    try:
        Environment(ENVIRON, working, home)
    except SettingsError as error:
        ours = error.message
    try:
        read_environment(ENVIRON, working_folder=working, home=home)
    except ConfigError as error:
        theirs = str(error)
    assert ours == theirs
    return ours


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize(
    ("mode", "is_ours"), [(0o600, True), (0o644, True), (0o640, True), (0o646, False), (0o666, False), (0o602, False)]
)
def test_env_file_that_others_can_write_is_refused(
    folders: tuple[Path, Path], mode: int, is_ours: bool, place: int
) -> None:
    env = folders[place] / ".env"
    env.write_bytes(b"ACTIVEMQ_HOST=evil\n")
    env.chmod(mode)
    assert (refusal(folders) == "") is is_ours
    if not is_ours:
        assert refusal(folders) == f"{env}: other users can write it: check its content, then chmod go-w {env}"


@pytest.mark.parametrize(("gid", "is_ours"), [(os.getegid(), True), (65534, False)])
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another group")
def test_group_may_write_an_env_file_only_if_it_is_ours_alone(
    folders: tuple[Path, Path], gid: int, is_ours: bool
) -> None:
    env = folders[0] / ".env"
    env.write_bytes(b"")
    os.chown(env, -1, gid)
    env.chmod(0o664)
    assert (refusal(folders) == "") is is_ours


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
def test_env_file_of_another_user_is_refused(folders: tuple[Path, Path], place: int) -> None:
    env = folders[place] / ".env"
    env.write_bytes(b"SWF_MONITOR_URL=http://127.0.0.1:1\n")
    os.chown(env, 65534, 65534)
    assert refusal(folders) == f"{env}: belongs to user nobody, not to you: remove it, or run as that user"
    os.chown(env, 54321, -1)
    assert "belongs to user 54321" in refusal(folders)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a link to another user")
def test_link_of_another_user_to_a_file_of_ours_is_refused(folders: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "mine").write_bytes(b"")
    env = folders[0] / ".env"
    env.symlink_to(tmp_path / "mine")
    assert refusal(folders) == ""
    os.chown(env, 65534, -1, follow_symlinks=False)
    assert "belongs to user nobody" in refusal(folders)


def test_env_file_without_end_is_refused(folders: tuple[Path, Path]) -> None:
    env = folders[0] / ".env"
    with env.open("wb") as file:
        file.truncate(99_000_000_000)
    assert "more than 1048576 bytes" in refusal(folders)


def test_file_exchanged_with_a_fifo_does_not_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fastmon_client.files as ours
    import fastmon_daemon.settings.files as theirs

    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for module in (ours, theirs):
        with monkeypatch.context() as patch:
            patch.setattr(module, "check_regular", lambda _path: None)  # it was a file a moment ago
            with pytest.raises(OSError, match="not a regular file"):
                module.read_text(fifo)


@pytest.mark.parametrize(("mode", "is_exposed"), [(0o600, False), (0o640, False), (0o644, True)])
def test_secret_that_others_can_read_is_warned_of(
    folders: tuple[Path, Path], tmp_path: Path, mode: int, is_exposed: bool
) -> None:
    token = tmp_path / "token"
    token.write_text(SECRET)
    write(folders, (f"SWF_API_TOKEN_FILE={token}\n".encode(), b"MQ_PASSWD=secret\n"))
    for file in (token, folders[1] / ".env"):
        file.chmod(mode)
    ours = Environment(ENVIRON, *folders).exposed
    theirs = Settings.load(ENVIRON, working_folder=folders[0], home=folders[1]).exposed
    expected = [f"{file}: contains a secret that other users can read: chmod o-rwx {file}"
                for file in (folders[1] / ".env", token)]  # fmt: skip
    assert sorted(ours) == sorted(theirs) == (sorted(expected) if is_exposed else [])


def test_env_file_without_a_secret_may_be_read_by_all(folders: tuple[Path, Path]) -> None:
    write(folders, (b"ACTIVEMQ_HOST=broker\n", b""))
    assert Environment(ENVIRON, *folders).exposed == []
    assert Settings.load(ENVIRON, working_folder=folders[0], home=folders[1]).exposed == ()


def test_files_of_both_programs_are_the_same_code() -> None:
    import inspect

    import fastmon_client.files as ours
    import fastmon_daemon.settings.files as theirs

    for name, function in inspect.getmembers(theirs, inspect.isfunction):
        if function.__module__ in (theirs.__name__, "fastmon_daemon.base.users"):
            code = inspect.getsource(getattr(ours, name)).replace("SettingsError", "ConfigError")
            assert code == inspect.getsource(function)
