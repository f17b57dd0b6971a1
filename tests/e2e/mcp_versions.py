"""The SDKs that MCP servers and clients of the tests are made with. mcp 1.x and 2.x cannot share an environment."""

import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

INSTALL_SECONDS = 300


class SDK(NamedTuple):
    """Which Python has it, and what it is: `mcp` or `fastmcp`."""

    python: str
    name: str


def python_with(requirement: str, folder: Path) -> str:
    """A Python that has this requirement, in an environment of its own. Skips the test where pip cannot install it."""
    python = str(folder / "venv" / "bin" / "python")
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True, timeout=INSTALL_SECONDS)
    command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", requirement, "uvicorn"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_SECONDS)
    except subprocess.TimeoutExpired:
        pytest.skip(f"pip could not install {requirement}: it took too long")
    if done.returncode != 0:
        pytest.skip(f"pip could not install {requirement}: {done.stderr.strip().splitlines()[-1]}")
    return python
