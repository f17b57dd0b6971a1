"""Secrets and ConfigMaps to API keys, as agentgateway reads them: each entry is one key.

A fault names the entry and never shows what is in it. A ConfigMap is not confidential, so it may hold hashes only.
Weak keys are refused, unless they are let in by name, and then they are warned of.
"""

import base64
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from ..auth.keys import Key, StaticKeys, key_from_entry, key_from_text, key_table, no_doubles
from ..errors import ConfigurationError
from .kinds import ConfigMap, Secret
from .read import Document, Faults

Source = Document[Secret] | Document[ConfigMap]

_RAW: Final = "keys sourced from a ConfigMap must use keyHash, not a raw key, since ConfigMaps are not confidential"


@dataclass
class KeySources:
    """Makes keys of documents, each document once."""

    faults: Faults
    allow_weak: bool
    warn: Callable[[str], None]
    _read: dict[Source, list[tuple[str, Key]]] = field(default_factory=dict)

    def keys(self, sources: Sequence[Source], place: str, order: int) -> StaticKeys | None:
        """The keys of all these documents together; None when there is no such set, which is then a fault.

        `place` is where they were asked for.
        """
        found = [entry for source in sources for entry in self._of(source)]
        if not any(_texts(source) for source in sources):
            self.faults.add(f"{place}: no keys: nobody could call", order)
        try:
            key_table(found, [], allow_weak=True)
        except ConfigurationError as exc:
            for text in exc.faults:
                self.faults.add(text, sources[0].order)
            return None
        return StaticKeys([key for _, key in found], allow_weak=True) if found else None

    def _of(self, source: Source) -> list[tuple[str, Key]]:
        if source not in self._read:
            self._read[source] = [*self._parse(source)]
        return self._read[source]

    def _parse(self, source: Source) -> Iterator[tuple[str, Key]]:
        for path, name, value in _texts(source):
            try:
                text = _decoded(value).decode("utf-8") if path.startswith("data") and _is_secret(source) else value
                key = _key(text, name, hashed=not _is_secret(source))
            except UnicodeDecodeError:
                self.faults.add(source.at(path, "not UTF-8 text"), source.order)
            except ConfigurationError as exc:
                for fault in exc.faults:
                    self.faults.add(source.at(path, fault), source.order)
            else:
                self._judge(source, path, key)
                yield f"{source.place}: {path}", key

    def _judge(self, source: Source, path: str, key: Key) -> None:
        if key.weakness and self.allow_weak:
            self.warn(source.at(path, key.weakness))
        elif key.weakness:
            way_out = "make one with `agentgate keys new`, or let it in with --allow-weak-keys"
            self.faults.add(source.at(path, f"{key.weakness}; {way_out}"), source.order)


def check_base64(secrets: Sequence[Document[Secret]], faults: Faults) -> None:
    """Note the entries that are not base64, in Secrets that nobody refers to as well."""
    for secret in secrets:
        for name, value in secret.model.data.items():
            try:
                _decoded(value)
            except ConfigurationError as exc:
                faults.add(secret.at(f"data.{name}", str(exc)), secret.order)


def _is_secret(source: Source) -> bool:
    return isinstance(source.model, Secret)


def _texts(source: Source) -> list[tuple[str, str, str]]:
    """Field path, name and value of each entry. As in Kubernetes, `stringData` comes before `data`."""
    model = source.model
    plain = model.string_data if isinstance(model, Secret) else {}
    entries = [(f"stringData.{name}", name, value) for name, value in plain.items()]
    return entries + [(f"data.{name}", name, value) for name, value in model.data.items() if name not in plain]


def text_of(secret: Document[Secret], entry: str) -> str | None:
    """The text of one entry; None where there is none that is text."""
    for path, name, value in _texts(secret):
        if name == entry:
            try:
                return value if path.startswith("stringData.") else _decoded(value).decode("utf-8")
            except (UnicodeDecodeError, ConfigurationError):
                return None
    return None


def _decoded(value: str) -> bytes:
    try:
        return base64.b64decode(value.replace("\n", "").replace("\r", ""), validate=True)
    except ValueError:
        raise ConfigurationError("not base64") from None


def _key(text: str, name: str, *, hashed: bool) -> Key:
    """The key in one entry; it is called `metadata.name` where there is one, else as the entry."""
    text = text.strip()
    if not text.startswith("{"):
        if hashed and text:
            raise ConfigurationError(_RAW)
        return key_from_text(text, id=name)
    try:
        entry = json.loads(text, object_pairs_hook=no_doubles)
    except ConfigurationError:
        raise
    except (ValueError, RecursionError):
        raise ConfigurationError("not valid JSON") from None
    if hashed and "key" in entry:
        raise ConfigurationError(_RAW)
    metadata = entry.get("metadata")
    named = metadata.get("name") if isinstance(metadata, dict) else None
    return key_from_entry(entry, id=named if isinstance(named, str) and named else name)
