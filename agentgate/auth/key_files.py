"""Keys that can be changed while the app runs: a keys file, and a directory as Kubernetes mounts a Secret.

A change is picked up by the first request that comes `POLL_SECONDS` or more after the last look. Others go on with the
keys from before while it is read, but with none that were looked at longer ago than twice that: a revoked key has no
second chance because nobody asked for a while. What cannot be read or has a fault changes nothing: the keys from before
stay, and the log says why. Key files are read in a thread, so that a slow disk does not stop the event loop.
"""

import asyncio
import json
import logging
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable
from contextvars import Context
from pathlib import Path
from typing import Any, Final

from ..errors import ConfigurationError, describe
from .keys import Key, KeyTable, key_from_entry, key_from_text, key_table, no_doubles

POLL_SECONDS: Final = 0.5
MAX_FILE_BYTES: Final = 64 * 1024 * 1024  # about 300,000 keys; a larger file is refused rather than read

_logger = logging.getLogger("agentgate.keys")


class _WatchedKeys(ABC):
    """Keys read from a path, read again whenever its fingerprint changes."""

    refreshes = True

    def __init__(self, path: str | os.PathLike[str], *, allow_weak: bool = False) -> None:
        self._path = Path(path)
        self._allow_weak = allow_weak
        self._seen = self._fingerprint()
        self._keys: KeyTable = self._load()
        self._next_look = time.monotonic() + POLL_SECONDS
        self._loading: asyncio.Task[None] | None = None

    def find(self, digest: bytes) -> Key | None:
        """See `KeyStore`."""
        return self._keys.get(digest)

    async def refresh(self) -> None:
        """See `KeyStore`."""
        now = time.monotonic()
        if now < self._next_look:
            return
        loading = self._loading
        if loading is not None and not loading.done() and loading.get_loop() is asyncio.get_running_loop():
            if now < self._next_look + POLL_SECONDS:
                return
        else:
            seen = self._fingerprint()
            if seen == self._seen:
                self._next_look = now + POLL_SECONDS
                return
            # A task, in a context of its own: the others need it too, if the request that found the change goes away.
            loading = self._loading = asyncio.create_task(self._reload(seen, now), context=Context())
        await asyncio.shield(loading)

    async def _reload(self, seen: Hashable, now: float) -> None:
        try:
            self._keys = await asyncio.to_thread(self._load)
            _logger.info("%s: %d keys", self._path, len(self._keys))
        except ConfigurationError as exc:
            _logger.error("keys not changed, because:\n%s", exc)
        except Exception as exc:
            _logger.error("%s: keys not changed, because of %s", self._path, describe(exc))
        self._seen = seen  # a broken file is told once, and tried again when it changes
        self._next_look = now + POLL_SECONDS

    def _load(self) -> KeyTable:
        faults: list[str] = []
        found: list[tuple[str, Key]] = []
        for place, parse in self._entries():
            try:
                found.append((f"{self._path}: {place}", parse()))
            except ConfigurationError as exc:
                faults += [f"{self._path}: {place}: {fault}" for fault in exc.faults]
        return key_table(found, faults, allow_weak=self._allow_weak)

    @abstractmethod
    def _fingerprint(self) -> Hashable: ...

    @abstractmethod
    def _entries(self) -> Iterable[tuple[str, Any]]: ...

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self._path)!r}: {len(self._keys)} keys)"


class FileKeys(_WatchedKeys):
    """Keys from a YAML or JSON file: `keys: [{id, keyHash | key, metadata, notBefore, notAfter}, ...]`.

    YAML needs the extra `yaml`. A file with a fault is a `ConfigurationError` when the app is built; later, it
    changes nothing. A file with no keys lets nobody in.
    """

    def _fingerprint(self) -> Hashable:
        return _stat(self._path)

    def _entries(self) -> Iterable[tuple[str, Any]]:
        document = _read_document(self._path)
        if not isinstance(document, dict) or set(document) != {"keys"} or not isinstance(document["keys"], list):
            raise ConfigurationError(f"{self._path}: a keys file holds one list, named keys")
        for number, entry in enumerate(document["keys"], 1):
            yield f"key {number}", lambda entry=entry: _entry(entry)


class DirectoryKeys(_WatchedKeys):
    """Keys from a directory with one file per key, as Kubernetes mounts a Secret: the file's name is the key's id,
    its text the key itself, or one entry of a keys file as JSON. Names that begin with a dot are left
    out; where `..data` points, all files are read from there, so that an update is seen whole."""

    def _fingerprint(self) -> Hashable:
        try:
            folder = self._folder()
            return (str(folder), tuple((file.name, _stat(file)) for file in _files(folder)))
        except OSError:
            return None

    def _entries(self) -> Iterable[tuple[str, Any]]:
        try:
            files = _files(self._folder())
        except OSError as exc:
            raise ConfigurationError(f"{self._path}: cannot list ({type(exc).__name__})") from None
        for file in files:
            yield file.name, lambda file=file: key_from_text(_read_text(file), id=file.name)

    def _folder(self) -> Path:
        data = self._path / "..data"
        return data.resolve(strict=True) if data.is_symlink() else self._path


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if not file.name.startswith(".") and not file.is_dir())


def _stat(path: Path) -> Hashable:
    try:
        stat = path.stat()
    except OSError:
        return None
    return (stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


def _entry(entry: object) -> Key:
    if not isinstance(entry, dict):
        raise ConfigurationError("a key is a mapping with keyHash")
    return key_from_entry(entry)


def _read_text(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ConfigurationError("too large")
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigurationError(f"cannot read ({type(exc).__name__})") from None


def _read_document(path: Path) -> Any:
    try:
        text = _read_text(path)
        if path.suffix == ".json":
            return json.loads(text, object_pairs_hook=no_doubles)
        from ..documents import load_yaml  # PyYAML is an extra

        return load_yaml(text)
    except ConfigurationError as exc:
        raise ConfigurationError(f"{path}: {fault}" for fault in exc.faults) from None
    except (ValueError, RecursionError):
        raise ConfigurationError(f"{path}: not valid JSON") from None
