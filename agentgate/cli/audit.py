"""`agentgate audit`: who called what by an access log, what was refused, and by which rule.

Logs are read and nothing else: it needs no configuration, no key and no network, and runs where the log is.
"""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from ..audit.document import document
from ..audit.findings import Findings, find, moment
from ..audit.names import keys_of
from ..audit.page import page
from ..audit.report import report
from ..errors import ConfigurationError
from .output import Progress, columns, show


def audit(
    files: Sequence[str], *, by: str, since: str | None, until: str | None, as_json: bool, html: str | None
) -> int:
    """Print the report, or the JSON document, and write the page if one is wanted."""
    keys = keys_of(by)
    now = datetime.now(UTC)
    start = moment("--since", since, now) if since is not None else None
    end = moment("--until", until, now) if until is not None else None
    if html is not None:
        _check_page(html, files)
    with Progress() as progress:
        found = find(files, keys, since=start, until=end, told=progress)
    if html is not None:
        _write_page(html, found)
    show([json.dumps(document(found))] if as_json else report(found, columns()))
    return 0


def _check_page(html: str, files: Sequence[str]) -> None:
    """Before an hour is spent on reading."""
    path = Path(html)
    if path.is_dir() or not path.parent.is_dir():
        raise ConfigurationError(f"--html: {html} is no place for a file")
    for file in files:
        if path.exists() and Path(file).exists() and path.samefile(file):
            raise ConfigurationError(f"--html: {html} is the log itself")


def _write_page(html: str, found: Findings) -> None:
    try:
        Path(html).write_text(page(found), "utf-8", "replace")
    except OSError as exc:
        raise ConfigurationError(f"--html: cannot write {html} ({type(exc).__name__})") from None
