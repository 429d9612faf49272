"""What is installed: pins with hashes, licences, an SBOM, and the audit.

python docs/supply_chain.py pins      # constraints.txt and requirements.txt anew, with the newest versions
python docs/supply_chain.py sbom      # an SBOM (CycloneDX 1.5) on stdout
python docs/supply_chain.py review    # today's review of all pins into docs/supply-chain.md
python docs/supply_chain.py audit     # known vulnerabilities; else whether each pin was reviewed
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, files, metadata
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
CONSTRAINTS, REQUIREMENTS = ROOT / "constraints.txt", ROOT / "requirements.txt"
SUMS, DOCUMENT = ROOT / "SHA256SUMS", ROOT / "docs" / "supply-chain.md"
BUILD = ("hatchling", "editables")
"""Of the build backend: installed before our package is built without isolation."""
PIP_AUDIT = "pip-audit==2.10.0"
_FORM = ("--generate-hashes", "--no-header", "--no-annotate")
_BLOCK = re.compile(r"(<!-- generated: supply_chain.py review -->\n).*?(<!-- end -->)", re.DOTALL)
_HEAD = """# {what} Written by `make pins`; do not edit.
# Install with: pip install --require-hashes -r {name}, then pip install --no-deps {how}.
"""


@dataclass(frozen=True, slots=True)
class Pin:
    """One package of constraints.txt."""

    name: str
    version: str
    marker: str
    """Where it is installed; empty: everywhere."""
    hashes: tuple[str, ...] = field(repr=False)
    """SHA-256, in hexadecimal, of each file that may be installed."""

    @property
    def licence(self) -> str:
        """As its metadata says; empty if it is not installed here."""
        try:
            found = metadata(self.name)
        except PackageNotFoundError:
            return ""
        named = found.get("License-Expression") or found.get("License") or ""
        if not 0 < len(named) < 60 or "\n" in named:
            classifiers = found.get_all("Classifier") or []
            named = ", ".join(each.split(" :: ")[-1] for each in classifiers if each.startswith("License :: OSI"))
        return named.strip()

    @property
    def begin_of_licence(self) -> str:
        """The first line of its licence; empty without one."""
        try:
            found = files(self.name) or ()
        except PackageNotFoundError:
            return ""
        texts = (each.read_text() for each in found if each.stem.upper() in ("LICENSE", "LICENCE"))
        return next((line.strip() for text in texts for line in text.splitlines() if line.strip()), "")[:60]


def pins(path: Path = CONSTRAINTS) -> list[Pin]:
    """The pins in *path*."""
    text = path.read_text(encoding="utf-8").replace("\\\n", " ")
    lines = (line for line in text.splitlines() if line and not line.startswith("#"))
    return [_pin(line) for line in lines]


def _pin(line: str) -> Pin:
    words = line.split("--hash=sha256:")
    what, _, marker = words[0].partition(";")
    name, _, version = what.strip().partition("==")
    return Pin(canonicalize_name(name), version.strip(), marker.strip(), tuple(word.strip() for word in words[1:]))


def vendored() -> Iterator[tuple[str, str]]:
    """SHA-256 and path of each file in SHA256SUMS: the files of others that are part of the repository."""
    for line in SUMS.read_text(encoding="utf-8").splitlines():
        digest, _, path = line.partition("  ")
        yield digest, path


def write_pins() -> None:
    """Write both files, by uv."""
    build = "\n".join(BUILD).encode()
    for path, what, how, words in (
        (CONSTRAINTS, "Everything that CI installs.", "--no-build-isolation -e .", ["--all-extras", "-"]),
        (REQUIREMENTS, "What runs in production: daemon, client, page.", ".", ["--extra", "dashboard"]),
    ):
        limits = ["-c", CONSTRAINTS] if path == REQUIREMENTS else ["--upgrade"]
        common = ["--universal", "--python-version", "3.11", "--fork-strategy", "fewest", *_FORM]
        command = [_program("uv"), "pip", "compile", "-q", "pyproject.toml", *words, *limits, *common]
        made = subprocess.run(command, cwd=ROOT, input=build, capture_output=True, check=True)  # noqa: S603 (of ours)
        path.write_text(_HEAD.format(what=what, name=path.name, how=how) + made.stdout.decode(), encoding="utf-8")


def sbom() -> dict[str, Any]:
    """The SBOM of constraints.txt and of the vendored files."""
    production = {pin.name for pin in pins(REQUIREMENTS)}
    components = [_component(pin, is_required=pin.name in production) for pin in pins()]
    files = [
        {"type": "file", "name": path, "bom-ref": path, "hashes": [{"alg": "SHA-256", "content": digest}]}
        for digest, path in vendored()
    ]
    return {
        "bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1,
        "metadata": {"component": {"type": "application", "name": "swf-fastmon", "bom-ref": "swf-fastmon"}},
        "components": [*components, *files],
    }  # fmt: skip


def _component(pin: Pin, *, is_required: bool) -> dict[str, Any]:
    purl = f"pkg:pypi/{pin.name}@{pin.version}"
    licences = [{"license": {"name": pin.licence}}] if pin.licence else []
    return {
        "type": "library", "name": pin.name, "version": pin.version, "purl": purl, "bom-ref": purl,
        "scope": "required" if is_required else "excluded", "licenses": licences,
        "hashes": [{"alg": "SHA-256", "content": each} for each in pin.hashes],
    }  # fmt: skip


def reviewed() -> dict[str, tuple[str, str]]:
    """Package -> version and date of its review in the document."""
    return {row[0]: (row[1], row[4]) for row in _rows() if row[4].startswith("20")}


def write_review() -> None:
    """Write the table: the date of a pin that was reviewed before stays."""
    today, before = datetime.now(UTC).strftime("%Y-%m-%d"), reviewed()
    production = {pin.name for pin in pins(REQUIREMENTS)}
    known = {row[0]: row[2] for row in _rows() if not row[2].startswith("unknown")}
    rows = [("package", "version", "licence", "used", "reviewed"), ("---",) * 5]
    for pin in pins():
        version, date = before.get(pin.name, ("", ""))
        used = "in production" if pin.name in production else "tests, testbed"
        licence = (
            pin.licence
            or known.get(pin.name)
            or pin.begin_of_licence
            or f"unknown: {pin.marker or 'not installed here'}"
        )
        rows.append((pin.name, pin.version, licence, used, date if version == pin.version else today))
    table = "".join(f"| {' | '.join(row)} |\n" for row in rows)
    text = DOCUMENT.read_text(encoding="utf-8")
    DOCUMENT.write_text(_BLOCK.sub(lambda found: found[1] + table + found[2], text), encoding="utf-8")


def _rows() -> Iterator[list[str]]:
    """The rows of the document's tables of five columns."""
    for line in DOCUMENT.read_text(encoding="utf-8").splitlines():
        row = line.strip("| ").split(" | ")
        if len(row) == 5:
            yield row


def wrong_sums() -> list[str]:
    """The vendored files that are not what they were."""
    return [path for digest, path in vendored() if hashlib.sha256((ROOT / path).read_bytes()).hexdigest() != digest]


def audit() -> int:
    """Print what is known; exit code 1 if a pin has a known vulnerability, or neither data nor a review."""
    problems = [f"{path}: not the file of SHA256SUMS" for path in wrong_sums()]
    found = _advisories()
    reviews = reviewed()
    for pin in pins():
        known = found.get(pin.name)
        if known is not None:
            problems += [f"{pin.name} {pin.version}: {each}" for each in known]
        elif reviews.get(pin.name, ("", ""))[0] != pin.version:
            problems.append(f"{pin.name} {pin.version}: no advisory data, and not reviewed at this version")
    others = len(pins()) - len(found)
    print("\n".join(problems) or f"{len(found)} pins without known vulnerabilities, {others} others reviewed")
    return 1 if problems else 0


def _advisories() -> dict[str, list[str]]:
    """Package -> its known vulnerabilities, of the packages about which pip-audit could ask."""
    words = ["-r", CONSTRAINTS, "--require-hashes", "--disable-pip", "--progress-spinner", "off", "-f", "json"]
    command = [_program("uv"), "tool", "run", PIP_AUDIT, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 (a command of ours)
    try:
        rows: list[Mapping[str, Any]] = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        print(f"pip-audit has no data: {' '.join(done.stderr.split())[-300:]}", file=sys.stderr)
        return {}
    asked = [row for row in rows if "skip_reason" not in row]
    print(f"pip-audit has data of {len(asked)} of {len(rows)} packages", file=sys.stderr)
    return {canonicalize_name(row["name"]): [f"{each['id']}: fixed in {each['fix_versions']}" for each in row["vulns"]]
            for row in asked}  # fmt: skip


def _program(name: str) -> Path:
    return Path(sys.executable).with_name(name)


def main() -> int:
    """Run the command of the only argument; exit code 2 if there is no such command."""
    match sys.argv[1:]:
        case ["pins"]:
            write_pins()
        case ["sbom"]:
            print(json.dumps(sbom(), indent=1))
        case ["review"]:
            write_review()
        case ["audit"]:
            return audit()
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
