"""AccessLog: one line per request, when its response is over; keys, order and texts as agentgateway writes them.

A line is one line whatever bytes the client sent, and holds no credential: query parameters and headers that may carry
one are shown as `<redacted>`, and bodies are never logged. It differs from agentgateway's where that one can be
misread: values are quoted when they need it, and microseconds have six digits.
"""

import json
import logging
import os
import re
import time
from collections.abc import Callable, Collection, Mapping
from copy import copy
from typing import Any, Final, Literal, get_args

from ..errors import ConfigurationError, describe
from ..nothing import NOTHING
from ..policy import Observer
from ..record import Record
from .fields import CUT, MAX_VALUE, fields
from .line_writer import LineWriter
from .log_file import LogFile

Format = Literal["text", "json"]
Sink = Callable[[str], object]

_logger = logging.getLogger("agentgate")

# logfmt: a value is bare when it is visible ASCII without `"` and `=`.
_BARE: Final = re.compile(r"[!#-<>-~]+").fullmatch
_STRANGE: Final = re.compile(r"[^ !#-~]").search


class AccessLog(Observer):
    """Writes the access log: `format` is `text` (logfmt) or `json`, one object a line.

    `sink` takes the lines: None for standard output, or the `Path` of a file, both written by a thread so that nothing
    slow stops the event loop; a `logging.Logger`, at INFO; or any callable that takes one line, without its end.

    `filter` is an expression that says which requests have a line; refused ones always do. `add` are further fields, by
    name the expression of each; `remove` are fields to leave out. `replay` adds what a policy needs to decide the
    request again (`agentgate.observe.replay_fields`); the arguments of tools only with `replay_arguments`.
    """

    def __init__(
        self,
        sink: "Sink | logging.Logger | os.PathLike[str] | None" = None,
        *,
        format: Format = "text",
        filter: str | None = None,
        add: Mapping[str, str] = NOTHING,
        remove: Collection[str] = (),
        replay: bool = False,
        replay_arguments: bool = False,
    ) -> None:
        if format not in get_args(Format):
            raise ConfigurationError(f"format is one of {', '.join(get_args(Format))}, not {format!r}")
        if replay and format != "json":
            raise ConfigurationError("replay needs format='json': what it adds is an object")
        if replay_arguments and not replay:
            raise ConfigurationError("replay_arguments says more of what replay adds: it needs replay=True")
        self.format = format
        self._render = _text if format == "text" else _json
        self._asked = filter, add, remove
        self._shape = _shape(filter, add, remove)
        self._replay = _replay(replay_arguments) if replay else None
        self._write: Sink
        if sink is None:
            self._write = LineWriter(notice=_NOTICES[format])
        elif isinstance(sink, os.PathLike):
            self._write = LineWriter(LogFile(sink), notice=_NOTICES[format])
        elif isinstance(sink, logging.Logger):
            self._write = sink.info
        elif callable(sink):
            self._write = sink
        else:
            raise TypeError(f"a sink is a Path, a Logger or a callable that takes a line, not {sink!r}")

    def shaped(self, *, filter: str | None, add: Mapping[str, str], remove: Collection[str]) -> "AccessLog":
        """The same log, written to the same place, with this filter and these fields where any are given."""
        log = copy(self)
        filter, add, remove = filter or self._asked[0], add or self._asked[1], remove or self._asked[2]
        log._asked, log._shape = (filter, add, remove), _shape(filter, add, remove)
        return log

    def end(self, token: Any, record: Record) -> None:
        shape = self._shape
        if shape is None:
            found = fields(record)
        elif shape.drops(record):
            return
        else:
            found = shape.shape(fields(record), record)
        if self._replay is not None:
            try:
                found["replay"] = self._replay(record)
            except Exception as exc:  # what an authenticator says of a caller is of its own making
                _logger.error("a replay object cannot be made: %s", describe(exc))
        self._write(self._render(found))

    def close(self) -> None:
        """Wait until what was logged is written, where a thread does that; two seconds at most."""
        if isinstance(self._write, LineWriter):
            self._write.close()

    def __repr__(self) -> str:
        return f"AccessLog(format={self.format!r})"


# What most logs do without is imported where it is asked for: expressions take their time.


def _shape(filter: str | None, add: Mapping[str, str], remove: Collection[str]) -> Any:
    if filter is None and not add and not remove:
        return None
    from .shaping import Shape

    return Shape(filter, add, remove)


def _replay(arguments: bool) -> Callable[[Record], dict[str, Any]]:
    from .replay_fields import replay_fields

    return lambda record: replay_fields(record, arguments=arguments)


def _text(found: dict[str, Any]) -> str:
    plain = " ".join([f"{key}={value}" for key, value in found.items()])
    if "error" in found or not _all_bare(plain, len(found)):
        plain = " ".join([f"{key}={_quoted(value, key)}" for key, value in found.items()])
    return f"{_timestamp()}\tinfo\trequest {plain}"


def _all_bare(line: str, fields: int) -> bool:
    """Whether a line of so many fields needs no quotes anywhere, as nearly every one does: cheaper than to ask each."""
    return (
        len(line) <= MAX_VALUE
        and _STRANGE(line) is None
        and line.count(" ") == fields - 1
        and line.count("=") == fields
        and "= " not in line
        and line[-1] != "="
    )


def _quoted(value: Any, key: str) -> str:
    if isinstance(value, list | dict):  # within bounds already
        text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
        return text if _BARE(text) else json.dumps(text)
    text = str(value) if not isinstance(value, bool) else "true" if value else "false"
    if key != "error" and len(text) <= MAX_VALUE and _BARE(text):
        return text
    return json.dumps(_capped(text))  # ASCII only: no control, no line separator, no lone surrogate gets through


def _json(found: dict[str, Any]) -> str:
    line: dict[str, Any] = {"level": "info", "time": _timestamp(), "scope": "request"}
    line.update(found)
    text = json.dumps(line)
    if len(text) > MAX_VALUE:  # else no value can be longer, as nearly never
        for key, value in found.items():
            if isinstance(value, str):
                line[key] = _capped(value)
        text = json.dumps(line)
    return text


def _capped(value: str) -> str:
    return value if len(value) <= MAX_VALUE else value[:MAX_VALUE] + CUT


class _Clock:
    """The time of now as `2026-08-06T21:10:58.810727Z`. The second's text is kept: it is most of the work."""

    def __init__(self) -> None:
        self._second = -1
        self._text = ""

    def __call__(self) -> str:
        microseconds = time.time_ns() // 1000
        second = microseconds // 1_000_000
        text = self._text
        if second != self._second:
            text = time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(second))
            # Another thread may come between these two; each of them would then only write the same again.
            self._text, self._second = text, second
        return f"{text}{str(microseconds % 1_000_000 + 1_000_000)[1:]}Z"  # six digits; cheaper than a format


_timestamp: Final = _Clock()
_DROPPED: Final = "lines were dropped: whoever takes them is too slow"


def _text_notice(dropped: int) -> str:
    return f'{_timestamp()}\twarn\taccess_log dropped={dropped} message="{_DROPPED}"'


def _json_notice(dropped: int) -> str:
    notice = {"level": "warn", "time": _timestamp(), "scope": "access_log", "dropped": dropped, "message": _DROPPED}
    return json.dumps(notice)


_NOTICES: Final = {"text": _text_notice, "json": _json_notice}
