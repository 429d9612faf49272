"""Pins, hashes, licences, vendored files and the SBOM."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
import tomllib
from importlib.metadata import distributions
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
LISTS = ("constraints.txt", "requirements.txt")
OF_PYTHON = {"swf-fastmon", "pip", "setuptools"}
"""Ourselves, and what `python -m venv` brings along."""


@pytest.fixture(scope="module")
def supply_chain() -> ModuleType:
    spec = importlib.util.spec_from_file_location("supply_chain", ROOT / "docs" / "supply_chain.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["supply_chain"] = module  # dataclasses look it up
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", LISTS)
def test_everything_is_pinned_with_hashes_and_without_addresses(supply_chain: ModuleType, name: str) -> None:
    pins = supply_chain.pins(ROOT / name)
    assert len(pins) > 20
    for pin in pins:
        assert re.fullmatch(r"[0-9][\w.]*", pin.version), pin
        assert pin.hashes, pin
        assert all(re.fullmatch(r"[0-9a-f]{64}", each) for each in pin.hashes), pin
    text = (ROOT / name).read_text(encoding="utf-8")
    assert not re.search(r"://|^-|@ ", text, re.MULTILINE)


def test_both_lists_agree(supply_chain: ModuleType) -> None:
    def versions(path: Path) -> set[tuple[str, str, tuple[str, ...]]]:
        return {(pin.name, pin.version, pin.hashes) for pin in supply_chain.pins(path)}

    assert versions(ROOT / "requirements.txt") < versions(ROOT / "constraints.txt")


def test_what_is_installed_here_is_what_is_pinned(supply_chain: ModuleType) -> None:
    pinned = {pin.name: pin.version for pin in supply_chain.pins()}
    here = {canonicalize_name(each.metadata["Name"]): each.version for each in distributions()}
    others = {name: version for name, version in here.items() if name not in OF_PYTHON}
    assert {name: version for name, version in others.items() if pinned.get(name) != version} == {}


def test_the_build_backend_is_pinned(supply_chain: ModuleType) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    pinned = {pin.name: pin.version for pin in supply_chain.pins()}
    assert project["build-system"]["requires"] == [f"hatchling=={pinned['hatchling']}"]
    assert set(supply_chain.BUILD) <= pinned.keys()


@pytest.mark.parametrize("file", ["Makefile", "tests/pythons.py"])
def test_ci_installs_by_hashes(file: str) -> None:
    text = (ROOT / file).read_text(encoding="utf-8")
    assert "--require-hashes" in text
    installs = re.findall(r"^.*pip install .*$", text, re.MULTILINE) if file == "Makefile" else []
    assert all("--require-hashes" in line or "--no-deps" in line for line in installs), installs


def test_vendored_files_are_unchanged_and_all_listed(supply_chain: ModuleType) -> None:
    assert supply_chain.wrong_sums() == []
    listed = {path for _, path in supply_chain.vendored()}
    folders = {
        path.parent
        for path in ROOT.glob("*/**/LICENSE*")
        if not any(part.startswith(".") or part == "build" for part in path.relative_to(ROOT).parts)
    }
    there = {str(path.relative_to(ROOT)) for folder in folders for path in folder.iterdir() if path.name != "README.md"}
    assert listed == there
    assert len(listed) >= 4


def test_a_changed_vendored_file_is_named(
    supply_chain: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = tmp_path / "SHA256SUMS"
    [(_, path), *_] = supply_chain.vendored()
    changed.write_text(f"{'0' * 64}  {path}\n")
    monkeypatch.setattr(supply_chain, "SUMS", changed)
    assert supply_chain.wrong_sums() == [path]


def test_every_pin_has_a_licence_and_a_review(supply_chain: ModuleType) -> None:
    reviews = supply_chain.reviewed()
    assert {pin.name: pin.version for pin in supply_chain.pins()} == {name: row[0] for name, row in reviews.items()}
    assert "unknown" not in supply_chain.DOCUMENT.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("change", "code", "text"),
    [("", 0, "1 pins without known vulnerabilities"), ("vulnerable", 1, "CVE-1: fixed in ['9']"),
     ("not reviewed", 1, "no advisory data, and not reviewed at this version")],
)  # fmt: skip
def test_audit_fails_for_a_vulnerability_and_without_data_and_review(
    supply_chain: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    change: str, code: int, text: str,
) -> None:  # fmt: skip
    known = ["CVE-1: fixed in ['9']"] if change == "vulnerable" else []
    monkeypatch.setattr(supply_chain, "_advisories", lambda: {"click": known})
    if change == "not reviewed":
        monkeypatch.setattr(supply_chain, "reviewed", dict)
    assert supply_chain.audit() == code
    assert text in capsys.readouterr().out


def test_sbom_names_all_pins_and_vendored_files(supply_chain: ModuleType) -> None:
    found: dict[str, Any] = json.loads(json.dumps(supply_chain.sbom()))
    assert (found["bomFormat"], found["specVersion"]) == ("CycloneDX", "1.5")
    libraries = {each["name"]: each for each in found["components"] if each["type"] == "library"}
    assert libraries.keys() == {pin.name for pin in supply_chain.pins()}
    assert libraries["click"]["purl"].startswith("pkg:pypi/click@8")
    assert (libraries["click"]["scope"], libraries["pytest"]["scope"]) == ("required", "excluded")
    assert all(len(each["content"]) == 64 for row in found["components"] for each in row["hashes"])
    assert {each["name"] for each in found["components"] if each["type"] == "file"} == {
        path for _, path in supply_chain.vendored()
    }
    references = [each["bom-ref"] for each in found["components"]]
    assert len(references) == len(set(references))


@pytest.mark.parametrize("words", [[], ["pin"], ["audit", "now"]])
def test_an_unknown_command_is_answered_with_the_known_ones(
    supply_chain: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["supply_chain.py", *words])
    assert supply_chain.main() == 2
    assert "supply_chain.py review" in capsys.readouterr().err
