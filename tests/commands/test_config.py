"""`fastmon-daemon config`: values, sources, errors, secrets, the database."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from fastmon_daemon.cli import cli
from fastmon_daemon.outbox import DatabaseLock
from fastmon_daemon.settings import all_settings

SECRET = "hush-do-not-show"

RunConfig = Callable[..., Result]


@pytest.fixture
def run_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunConfig:
    monkeypatch.chdir(tmp_path)
    for name in {name for _, declared in all_settings() for name in declared.names} | {"STATE_DIRECTORY"}:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("FASTMON_DB", str(tmp_path / "outbox.db"))

    def run(*words: str, **environ: str) -> Result:
        return CliRunner().invoke(cli, ["config", *words], env={"FASTMON_NAMESPACE": "epic", **environ})

    return run


def settings_of(result: Result) -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in json.loads(result.stdout)["settings"]}


def test_all_settings_with_value_source_and_meaning(run_config: RunConfig, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text('export FASTMON_WORKERS="8"\n')
    result = run_config("--json", FASTMON_ANNOUNCE="/topic/a,/topic/b", FASTMON_DURABLE="YES")
    assert result.exit_code == 0
    settings = settings_of(result)
    assert list(settings) == [declared.names[0] for _, declared in all_settings()]
    assert all(each["meaning"] and each["source"] for each in settings.values())
    facts = {name: (settings[name]["value"], settings[name]["source"]) for name in settings}
    assert facts["FASTMON_WORKERS"] == ("8", ".env")
    assert facts["FASTMON_ANNOUNCE"] == ("/topic/a,/topic/b", "environment")
    assert facts["FASTMON_DURABLE"] == ("on", "environment")
    assert facts["FASTMON_SELECTION_FRACTION"] == ("0.1", "default")


def test_secrets_are_not_shown(run_config: RunConfig, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(SECRET)
    for words in ((), ("--json",)):
        result = run_config(*words, SWF_API_TOKEN_FILE="token", MQ_PASSWD=SECRET)
        assert SECRET not in result.output
    settings = settings_of(result)
    assert (settings["SWF_API_TOKEN"]["set"], settings["SWF_API_TOKEN"]["source"]) == (True, "SWF_API_TOKEN_FILE")
    assert (settings["ACTIVEMQ_PASSWORD"]["set"], settings["ACTIVEMQ_PASSWORD"]["source"]) == (True, "environment")
    assert settings_of(run_config("--json"))["SWF_API_TOKEN"]["set"] is False


def test_all_errors_are_reported_and_valid_settings_are_shown(run_config: RunConfig) -> None:
    result = run_config("--json", FASTMON_WORKERS="many", ACTIVEMQ_USE_SSL="on", FASTMON_NAMESPACE="", MQ_USER="me")
    assert result.exit_code == 78
    lines = result.stderr.splitlines()
    assert len(lines) == 3
    assert all("fastmon-daemon: " in line for line in lines)
    settings = settings_of(result)
    invalid = {name for name, each in settings.items() if each["error"]}
    assert invalid == {"FASTMON_WORKERS", "FASTMON_NAMESPACE", "ACTIVEMQ_USE_SSL"}
    assert settings["FASTMON_WORKERS"]["source"] == "environment"
    assert settings["ACTIVEMQ_USER"]["value"] == "me"


def test_unknown_variable_is_reported(run_config: RunConfig) -> None:
    result = run_config("--json", FASTMON_WORKER="4")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["unknown"] == ["FASTMON_WORKER"]
    assert "FASTMON_WORKER: unknown setting ignored: correct or unset it" in result.stderr


def test_database_with_source_and_daemon_is_shown_and_not_created(run_config: RunConfig, tmp_path: Path) -> None:
    database = tmp_path / "outbox.db"
    assert json.loads(run_config("--json").stdout)["database"] == {
        "path": str(database), "rule": "FASTMON_DB", "exists": False, "daemon": None,
    }  # fmt: skip
    assert not list(tmp_path.glob("outbox*"))
    with DatabaseLock(database):
        assert "daemon: process" in run_config().stdout


def test_control_characters_are_escaped(run_config: RunConfig) -> None:
    assert "\x1b" not in run_config(ACTIVEMQ_USER="a", FASTMON_SUBSCRIBE="/topic/\u202e").stdout
    assert "\\u202e" in run_config(FASTMON_SUBSCRIBE="/topic/\u202e").stdout
