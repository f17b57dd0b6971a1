"""The Realtime API: a session with a model over a websocket, as OpenAI and Azure have it.

The handshake names the model, in its query; events of the client may name others, which transcribe for it. Every one of
them is judged. A session that names none in its handshake, a parameter that is not known, and an event that is not text
with one reading as JSON are refused: an upstream could take them for a request to a model that nobody has judged.
"""

import json
import re
from typing import Any, Final
from urllib.parse import quote, unquote_to_bytes

from ...record import Record
from ...request import Request
from ...strict_json import StrictJSONError, loads
from .apis import NAMES_A_MODEL, Operation, ProviderName, model_fault
from .body import Ambiguous, checked, exact, models_of_tools
from .usage import MAX_LINE, Watch

_OPENAI_PATH: Final = re.compile(r"(.*?)(/realtime)").fullmatch
_AZURE_PATH: Final = re.compile(r".*?(/openai(/v1)?/realtime)").fullmatch

MAX_PARTS: Final = 100_000
"""Commas and brackets of an event, those in its texts included. Sound has none, however long it is; sixteen megabytes
of them take seconds to read, in which nobody else is served."""

_PLAIN: Final = re.compile(rb"[A-Za-z0-9._~:/@-]+").fullmatch
_CREDENTIALS: Final = frozenset({b"key", b"api_key", b"api-key", b"apikey"})  # which do not go on

_NAMES: Final = exact(
    plus=(
        *("model", "type", "tools", "session", "response", "audio", "input", "output"),
        *("transcription", "input_audio_transcription"),
    )
)
# Where an event has an object that may name a model.
_PLACES: Final = (
    ("session",),
    ("session", "input_audio_transcription"),
    ("session", "audio"),
    ("session", "audio", "input"),
    ("session", "audio", "input", "transcription"),
    ("session", "audio", "output"),
    ("response",),
    ("response", "audio"),
    ("response", "audio", "output"),
)


def session(request: Request, provider: ProviderName | None) -> Operation | None:
    """The session that a handshake asks for, with the model that its query names, if it does; None for another one."""
    path = request.raw_path.decode("latin-1")
    if "%" in path:
        return None
    azure = _AZURE_PATH(path) if provider in ("azure", None) else None
    if azure is not None:
        whose: ProviderName = "azure"
        below, parameter = azure[1], "model" if azure[2] else "deployment"
    else:
        openai = _OPENAI_PATH(path) if provider in ("openai", None) else None
        if openai is None or NAMES_A_MODEL(openai[1]):
            return None
        whose, below, parameter = "openai", openai[2], "model"
    named = request.query.get(parameter, ())
    model = named[0] if len(named) == 1 else None
    return Operation("realtime", whose, "openai", (below, "", ""), model, streaming=True, parameter=parameter)


def check_handshake(query: bytes, operation: Operation) -> None:
    """Raises `Ambiguous` for a query with a parameter that is not known or is given twice, and for one that names no
    model."""
    known = {b"api-version", str(operation.parameter).encode()}
    seen: set[bytes] = set()
    for part in query.split(b"&") if query else ():
        name, _, value = part.partition(b"=")
        if name in _CREDENTIALS:
            continue
        if name not in known or name in seen:
            raise Ambiguous("the query has a parameter that is not known here, or twice")
        if _PLAIN(unquote_to_bytes(value)) is None:
            raise Ambiguous("the query has a value that can be read in two ways")
        seen.add(name)
    fault = model_fault(operation.model)
    if fault is not None:
        raise Ambiguous(fault)


def with_model(query: bytes, operation: Operation, model: str) -> bytes:
    """The query, which `check_handshake` has read, with another name for its model."""
    own = str(operation.parameter).encode()
    parts = [
        part if part.partition(b"=")[0] != own else own + b"=" + quote(model, safe="").encode()
        for part in query.split(b"&")
    ]
    return b"&".join(parts)


def models_of(event: str | None) -> list[str]:
    """Every model that an event of the client names. Raises `Ambiguous`."""
    if event is None:
        raise Ambiguous("an event is no text")
    if len(event) > MAX_PARTS and sum(map(event.count, ",[{")) > MAX_PARTS:
        raise Ambiguous("an event has too many parts")
    try:
        whole = checked(loads(event.encode()), "an event", _NAMES)
    except (StrictJSONError, UnicodeEncodeError) as exc:
        raise Ambiguous(f"an event has not one reading as JSON: {exc}") from None
    found = [whole.get("model")]
    for path in _PLACES:
        place: Any = whole
        for name in path:
            place = place.get(name) if isinstance(place, dict) else None
        if place is not None:
            found.append(checked(place, f"the {path[-1]} of an event", _NAMES).get("model"))
            if len(path) == 1:
                found += models_of_tools(place.get("tools"))
    for model in found:
        if model is not None and (fault := model_fault(model)) is not None:
            raise Ambiguous(fault)
    return [model for model in found if model is not None]


class SessionWatch(Watch):
    """Adds up what the responses of one session have taken. The Record is complete while none of them is under way."""

    def __init__(self, record: Record) -> None:
        super().__init__(record, "openai")

    def hear(self, event: str) -> None:
        """Look at an event of the upstream's, before it goes on."""
        if '"response.created"' in event:
            self._record.complete = False
        if '"response.done"' not in event or len(event) > MAX_LINE:
            return
        try:
            document = json.loads(event)
        except (ValueError, RecursionError):
            return
        if isinstance(document, dict) and document.get("type") == "response.done":
            self.add(document)
            response = document.get("response")
            if isinstance(response, dict) and isinstance(response.get("usage"), dict):
                self._record.complete = True
                self._record.bytes_told = self._record.bytes_sent + len(event)
