"""API keys at rest: only SHA-256 digests are kept, and a key is found by one dictionary look-up of its digest.

SHA-256 without salt or stretching is right for keys of 128 bits of entropy, which no one can guess, and only for
those: raw keys that are weaker are refused, unless that is asked for by name.
"""

import hashlib
import json
import math
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import InitVar, dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final, Protocol, runtime_checkable

from ..decision import Decision, allow
from ..errors import ConfigurationError
from ..principal import API_KEY, Principal
from ..secret import Secret

MAX_KEY_BYTES: Final = 4096  # a longer credential is refused before it is hashed
MIN_ENTROPY_BITS: Final = 128  # an upper estimate of it: length times bits per character of the alphabet used
MIN_DISTINCT: Final = 8  # different characters in a key; "aaaa..." is long, and no key

ALWAYS: Final = (None, None)  # the window of a key that is good at all times

POLICY: Final = "APIKeyAuth"

VISIBLE: Final = bytes(range(0x21, 0x7F))
_ALPHABETS: Final = ("0123456789", "0123456789abcdef", "0123456789ABCDEF")
_ENTRY_FIELDS: Final = frozenset({"id", "key", "keyHash", "metadata", "notBefore", "notAfter"})

_HASH: Final = re.compile("sha256:[0-9A-Fa-f]{64}").fullmatch

# Digests of keys that stand in public documentation: long enough, and known to everybody.
_PUBLISHED: Final = frozenset({"ec831936fbbab1232344d9da271d1629fabc992aef393d7d54735b210d4ff166"})


def new_key() -> str:
    """A new API key: 256 random bits, with a prefix that secret scanners can look for."""
    return "agk_" + secrets.token_urlsafe(32)


def hash_key(key: str | Secret) -> str:
    """`sha256:<64 hex digits>`, which is what a configuration should hold in place of the key."""
    raw = key.reveal() if isinstance(key, Secret) else key
    fault = "this is a hash already" if raw.startswith("sha256:") else _key_fault(raw)
    if fault:
        raise ConfigurationError(fault)
    return "sha256:" + hashlib.sha256(raw.encode()).hexdigest()


@dataclass(frozen=True, eq=False)
class Key:
    """One API key: whose it is, its digest, what is known about its holder, and from when to when it is good.

    `key` is the key itself (text or `Secret`; it is hashed and forgotten) or `sha256:<hex>`. Several keys may have
    the same `id`: that is how one is rotated. `not_before` and `not_after` are aware datetimes. Anything else is a
    `ConfigurationError`.
    """

    id: str
    key: InitVar[str | Secret]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    not_before: datetime | None = None
    not_after: datetime | None = None
    digest: bytes = field(init=False, repr=False)
    weakness: str | None = field(init=False, repr=False)
    window: tuple[float | None, float | None] = field(init=False, repr=False)  # the two times, since the epoch
    allowed: Decision = field(init=False, repr=False)  # the yes is made here, not once a request

    def __post_init__(self, key: str | Secret) -> None:
        digest, weakness = _digest(key)
        if not self.id:
            raise ConfigurationError("a key has an id")
        if "key" in self.metadata:
            raise ConfigurationError("metadata may not have a member named key")
        window = []
        for name, moment in (("not_before", self.not_before), ("not_after", self.not_after)):
            if moment is not None and moment.tzinfo is None:
                raise ConfigurationError(f"{name} needs a time zone")
            window.append(None if moment is None else moment.timestamp())
        metadata = MappingProxyType(dict(self.metadata))
        for name, value in (
            ("metadata", metadata),
            ("digest", digest),
            ("weakness", weakness),
            ("window", tuple(window)),
            ("allowed", allow(Principal(self.id, API_KEY, metadata), policy=POLICY)),
        ):
            object.__setattr__(self, name, value)

    def out_of_date(self, now: float) -> str | None:
        """Why the key is not good at `now` (seconds since the epoch), or None when it is."""
        not_before, not_after = self.window
        if not_before is not None and now < not_before:
            return f"the key of {self.id} is not good yet"
        if not_after is not None and now >= not_after:
            return f"the key of {self.id} has expired"
        return None


KeyTable = Mapping[bytes, Key]


@runtime_checkable
class KeyStore(Protocol):
    """Where keys come from. `refreshes` says whether `refresh` has anything to do."""

    refreshes: bool

    def find(self, digest: bytes) -> Key | None:
        """The key with this SHA-256 digest. One look-up, no I/O."""

    async def refresh(self) -> None:
        """Bring the keys up to date; called before `find`. An error is a denial."""


class StaticKeys:
    """Keys given in code: `StaticKeys({"alice": "sha256:..."})`, `StaticKeys([Key(...), Secret.env("AGENT_KEY")])`.

    Keys without an id get one from their digest. Weak raw keys are refused unless `allow_weak`. Every fault is listed
    in one `ConfigurationError`.
    """

    refreshes = False

    def __init__(
        self, keys: Mapping[str, str | Secret] | Iterable[str | Secret | Key], *, allow_weak: bool = False
    ) -> None:
        if isinstance(keys, (str, bytes, Secret)):
            raise TypeError("keys is a collection of keys, not one")
        faults: list[str] = []
        pairs = keys.items() if isinstance(keys, Mapping) else ((None, key) for key in keys)
        found: list[tuple[str, Key]] = []
        for number, (id, key) in enumerate(pairs, 1):
            place = f"key {number}" if id is None else f"key {id}"
            try:
                found.append((place, key if isinstance(key, Key) else _named(id, key)))
            except ConfigurationError as exc:
                faults += [f"{place}: {fault}" for fault in exc.faults]
        if not found and not faults:
            faults.append("no keys: nobody could call")
        self._keys = key_table(found, faults, allow_weak=allow_weak)

    def find(self, digest: bytes) -> Key | None:
        """See `KeyStore`."""
        return self._keys.get(digest)

    async def refresh(self) -> None:
        """See `KeyStore`."""

    def __repr__(self) -> str:
        return f"StaticKeys({len(self._keys)} keys)"


def key_table(found: Iterable[tuple[str, Key]], faults: list[str], *, allow_weak: bool = False) -> KeyTable:
    """Index keys by digest. Raises one `ConfigurationError` with `faults` and what it finds: doubles, weak keys."""
    table: dict[bytes, Key] = {}
    for place, key in found:
        if key.weakness and not allow_weak:
            faults.append(f"{place}: {key.weakness}; make one with `agentgate keys new`, or set allow_weak=True")
        if key.digest in table:
            faults.append(f"{place}: the same key as that of {table[key.digest].id}")
        table[key.digest] = key
    if faults:
        raise ConfigurationError(faults)
    return MappingProxyType(table)


def key_from_entry(entry: Mapping[str, Any], *, id: str | None = None) -> Key:
    """A key from its written form: `{id, key | keyHash, metadata, notBefore, notAfter}`, times as ISO 8601 text.

    Raises `ConfigurationError` with every fault. `id` stands in where the entry has none.
    """
    faults = [f"unknown field {name}" for name in sorted(map(str, set(entry) - _ENTRY_FIELDS))]
    if ("key" in entry) == ("keyHash" in entry):
        faults.append("exactly one of key or keyHash must be set")
    text = entry.get("keyHash", entry.get("key"))
    if not isinstance(text, str):
        if text is not None or "key" in entry or "keyHash" in entry:
            faults.append("key and keyHash are text")
    elif "keyHash" in entry and not text.startswith("sha256:"):
        faults.append("keyHash must use the sha256:<hex> format")
    metadata = entry.get("metadata", {})
    if not isinstance(metadata, dict) or not all(isinstance(name, str) for name in metadata):
        faults.append("metadata is a mapping from names to values")
    written = entry.get("id", id)
    if written is None and isinstance(metadata, dict):
        written = metadata.get("name")
    if written is not None and not isinstance(written, str):
        faults.append("id is text")
    times: dict[str, datetime | None] = {}
    for name in ("notBefore", "notAfter"):
        try:
            times[name] = _moment(entry.get(name))
        except ValueError:
            faults.append(f"{name} is a time with a time zone, such as 2030-01-31T00:00:00Z")
    if faults:
        raise ConfigurationError(faults)
    assert isinstance(text, str)
    if "key" in entry and text.startswith("sha256:"):
        raise ConfigurationError("key holds a hash; name it keyHash")
    return Key(written or digest_id(_digest(text)[0]), text, metadata, times["notBefore"], times["notAfter"])


def key_from_text(text: str, *, id: str | None = None) -> Key:
    """A key from one entry of a Secret: the key itself, or JSON `{"key" | "keyHash", "metadata": {...}}`."""
    text = text.strip()  # `echo` and editors add a line end, which could never be part of a key
    if not text:
        raise ConfigurationError("empty value")
    if not text.startswith("{"):
        return _named(id, text)
    try:
        entry = json.loads(text, object_pairs_hook=no_doubles)
    except ConfigurationError:
        raise
    except (ValueError, RecursionError):
        raise ConfigurationError("not valid JSON") from None
    return key_from_entry(entry, id=id)


def no_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """For `json.loads`: a member given twice is a fault, not the last one's."""
    if len({name for name, _ in pairs}) != len(pairs):
        raise ConfigurationError("a member is given twice")
    return dict(pairs)


def digest_id(digest: bytes) -> str:
    """A name for a key that was given none. The first 32 bits of a digest say nothing of use about the key."""
    return "key-" + digest.hex()[:8]


def _named(id: str | None, key: str | Secret) -> Key:
    return Key(id or digest_id(_digest(key)[0]), key)


def _digest(key: str | Secret) -> tuple[bytes, str | None]:
    """The digest of a key, or the one that is given in its place; and why the key is weak, as far as one can see."""
    raw = key.reveal() if isinstance(key, Secret) else key
    if not isinstance(raw, str):
        raise ConfigurationError(f"a key is text, a Secret or a Key, not {type(raw).__name__}")
    if not raw.startswith("sha256:"):
        fault = _key_fault(raw)
        if fault:
            raise ConfigurationError(fault)
        digest = hashlib.sha256(raw.encode()).digest()
        return digest, _weakness(raw, digest)
    if _HASH(raw) is None:
        raise ConfigurationError("sha256 keyHash must decode to 32 bytes")
    return bytes.fromhex(raw[7:]), None


def _key_fault(raw: str) -> str | None:
    if not raw:
        return "empty value"
    if not raw.isascii() or raw.encode().translate(None, VISIBLE):
        return "a key is visible ASCII characters without blanks"
    return "a key has at most 4096 characters" if len(raw) > MAX_KEY_BYTES else None


def _weakness(raw: str, digest: bytes) -> str | None:
    if digest.hex() in _PUBLISHED:
        return "this key is published in documentation"
    used = set(raw)
    size = next((len(alphabet) for alphabet in _ALPHABETS if used <= set(alphabet)), None)
    if size is None:
        size = sum(
            count
            for count, has in ((26, str.islower), (26, str.isupper), (10, str.isdigit), (2, lambda c: not c.isalnum()))
            if any(has(character) for character in used)
        )
    if len(used) < MIN_DISTINCT or len(raw) * math.log2(size) < MIN_ENTROPY_BITS:
        return f"{len(raw)} characters of this kind are too easy to guess"
    return None


def _moment(value: Any) -> datetime | None:
    if value is None:
        return None
    moment = value if isinstance(value, datetime) else datetime.fromisoformat(value) if isinstance(value, str) else None
    if moment is None or moment.tzinfo is None:
        raise ValueError("not an aware time")
    return moment
