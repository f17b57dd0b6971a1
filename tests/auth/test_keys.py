"""Keys at rest: only digests are kept, weak and doubled ones are refused, and rotation is two keys of one id."""

import hashlib
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from agentgate import ConfigurationError, Key, KeyStore, Secret, StaticKeys, hash_key, new_key
from agentgate.auth.keys import key_from_entry, key_from_text

STRONG = "agk_Zm9vYmFyYmF6cXV4MDEyMzQ1Njc4OQ"
OTHER = "agk_ZzB2YmFyYmF6cXV4MDEyMzQ1Njc4OQ"
DIGEST = hashlib.sha256(STRONG.encode()).digest()
HASH = "sha256:" + DIGEST.hex()


def faults(caught: pytest.ExceptionInfo[ConfigurationError]) -> list[str]:
    assert STRONG not in str(caught.value)
    assert OTHER not in str(caught.value)
    return list(caught.value.faults)


@pytest.mark.parametrize(
    "keys",
    [
        {"alice": STRONG},
        {"alice": Secret(STRONG)},
        {"alice": HASH},
        {"alice": Secret(HASH)},
        {"alice": HASH.replace(DIGEST.hex(), DIGEST.hex().upper())},
        [Key("alice", STRONG)],
        (Key("alice", HASH) for _ in range(1)),
    ],
)
def test_a_key_can_be_written_in_several_ways(keys: Any) -> None:
    """Text, Secret, hash or Key: what is kept is the digest, under the id."""
    store = StaticKeys(keys)
    key = store.find(DIGEST)
    assert key is not None
    assert (key.id, key.digest) == ("alice", DIGEST)
    assert STRONG not in repr(vars(key))
    assert store.find(hashlib.sha256(HASH.encode()).digest()) is None


@pytest.mark.parametrize("keys", [[STRONG], [HASH], [Secret(STRONG)], {STRONG}, (STRONG,)])
def test_a_key_without_an_id_is_named_after_its_digest(keys: Any) -> None:
    """The made-up id says which key it is without saying what it is."""
    key = StaticKeys(keys).find(DIGEST)
    assert key is not None
    assert key.id == "key-" + DIGEST.hex()[:8]


@pytest.mark.parametrize("keys", [STRONG, STRONG.encode(), Secret(STRONG)])
def test_a_bare_key_is_no_collection(keys: Any) -> None:
    """One key where a collection is wanted is refused: its characters are no keys."""
    with pytest.raises(TypeError, match="collection") as caught:
        StaticKeys(keys)
    assert STRONG not in str(caught.value)


@pytest.mark.parametrize(
    "key",
    [
        "0123456789abcdef" * 2,  # 32 hex digits: 128 bits
        "0123456789ABCDEF" * 2,
        "1234567890" * 4,
        "abcdefghijklmnopqrstuvwxyzab",
        "N2YwMDIxZTEtNGUzNS1jNzgzLTRkYjAtYjE2YzRkZGVm",
        STRONG,
        new_key(),
    ],
)
def test_keys_that_nobody_guesses_are_accepted(key: str) -> None:
    """128 bits, by length and alphabet, are enough."""
    StaticKeys([key])


@pytest.mark.parametrize(
    "key",
    [
        "sk-123",
        "password",
        "changeme",
        "a" * 100,
        "abababab" * 20,
        "abcdefg" * 20,
        "1234567890" * 3,
        "0123456789abcdef" + "0123456789abcde",
        "correct-horse-battery",
        "N2YwMDIxZTEtNGUzNS1jNzgzLTRkYjAtYjE2YzRkZGVmNjcy",  # a published one
    ],
)
def test_weak_keys_are_refused_unless_allowed(key: str) -> None:
    """A key that can be guessed, or has been published, is a fault that does not quote it; `allow_weak` takes it."""
    with pytest.raises(ConfigurationError) as caught:
        StaticKeys({"alice": key})
    (fault,) = faults(caught)
    assert fault.startswith("key alice: ")
    assert "allow_weak" in fault
    assert key not in fault
    assert StaticKeys({"alice": key}, allow_weak=True).find(hashlib.sha256(key.encode()).digest())


NOT_VISIBLE = "a key is visible ASCII characters without blanks"
TIME = "is a time with a time zone, such as 2030-01-31T00:00:00Z"


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ([], ["no keys: nobody could call"]),
        ({}, ["no keys: nobody could call"]),
        ({"a": ""}, ["key a: empty value"]),
        ({"a": "sk 123"}, [f"key a: {NOT_VISIBLE}"]),
        ({"a": "sk\n"}, [f"key a: {NOT_VISIBLE}"]),
        ({"a": "sk\x00"}, [f"key a: {NOT_VISIBLE}"]),
        ({"a": "schl\xfcssel"}, [f"key a: {NOT_VISIBLE}"]),
        ({"a": "k" * 4097}, ["key a: a key has at most 4096 characters"]),
        ({"a": STRONG.encode()}, ["key a: a key is text, a Secret or a Key, not bytes"]),
        ([STRONG.encode()], ["key 1: a key is text, a Secret or a Key, not bytes"]),
        ([5], ["key 1: a key is text, a Secret or a Key, not int"]),
        ({"a": "sha256:"}, ["key a: sha256 keyHash must decode to 32 bytes"]),
        ({"a": "sha256:abc"}, ["key a: sha256 keyHash must decode to 32 bytes"]),
        ({"a": HASH + "0"}, ["key a: sha256 keyHash must decode to 32 bytes"]),
        ({"a": HASH[:-1] + "g"}, ["key a: sha256 keyHash must decode to 32 bytes"]),
        ({"a": HASH + "\n"}, ["key a: sha256 keyHash must decode to 32 bytes"]),
        ({"a": STRONG, "b": STRONG}, ["key b: the same key as that of a"]),
        ({"a": STRONG, "b": HASH}, ["key b: the same key as that of a"]),
        ([STRONG, HASH], [f"key 2: the same key as that of key-{DIGEST.hex()[:8]}"]),
        (
            {"a": "", "b": "sha256:x", "c": STRONG},
            ["key a: empty value", "key b: sha256 keyHash must decode to 32 bytes"],
        ),
    ],
)
def test_every_fault_is_listed_with_its_place(keys: Any, expected: list[str]) -> None:
    """All faults of all keys come in one error, each with the key's id or number, none with the key."""
    with pytest.raises(ConfigurationError) as caught:
        StaticKeys(keys)
    assert faults(caught) == expected


def test_weak_and_doubled_keys_are_listed_together() -> None:
    """Weakness and doubles are found in one go, with the other faults."""
    with pytest.raises(ConfigurationError) as caught:
        StaticKeys([Key("a", "sk-123"), Key("b", "sk-123"), "bad key"])
    assert [fault.partition(": ")[0] for fault in faults(caught)] == ["key 3", "key 1", "key 2", "key 2"]


NOW = datetime(2030, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)


@pytest.mark.parametrize(
    ("window", "at", "fault"),
    [
        ({}, NOW, None),
        ({"not_before": NOW}, NOW - SECOND, "the key of alice is not good yet"),
        ({"not_before": NOW}, NOW, None),
        ({"not_after": NOW}, NOW - SECOND, None),
        ({"not_after": NOW}, NOW, "the key of alice has expired"),
        ({"not_before": NOW, "not_after": NOW + SECOND}, NOW, None),
        ({"not_before": NOW, "not_after": NOW + SECOND}, NOW + SECOND, "the key of alice has expired"),
        ({"not_after": NOW.astimezone(timezone(timedelta(hours=5)))}, NOW - SECOND, None),
    ],
)
def test_a_key_is_good_from_and_until(window: dict[str, datetime], at: datetime, fault: str | None) -> None:
    """`not_before` is the first moment at which a key is good, `not_after` the first at which it is not."""
    assert Key("alice", STRONG, **window).out_of_date(at.timestamp()) == fault  # type: ignore[arg-type]


def test_rotation_is_two_keys_of_one_id() -> None:
    """The old key and the new one are good together, and are the same caller."""
    old, new = new_key(), new_key()
    keys = StaticKeys([Key("alice", old, not_after=NOW), Key("alice", new)])
    found = [keys.find(hashlib.sha256(key.encode()).digest()) for key in (old, new)]
    assert [key and key.id for key in found] == ["alice", "alice"]


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        ({"id": ""}, "a key has an id"),
        ({"metadata": {"key": 1}}, "may not have a member named key"),
        ({"not_before": datetime(2030, 1, 1)}, "not_before needs a time zone"),
        ({"not_after": datetime(2030, 1, 1)}, "not_after needs a time zone"),
        ({"key": ""}, "empty value"),
    ],
)
def test_keys_that_cannot_be(arguments: dict[str, Any], fault: str) -> None:
    """A Key with a fault cannot be made."""
    with pytest.raises(ConfigurationError, match=fault):
        Key(**{"id": "alice", "key": STRONG, **arguments})


def test_a_key_does_not_follow_its_maker() -> None:
    """Changing the metadata that a Key was made from changes nothing."""
    metadata = {"team": "ops"}
    key = Key("alice", STRONG, metadata)
    metadata["team"] = "admin"
    assert key.allowed.principal is not None
    assert key.allowed.principal.attributes == {"team": "ops"}
    with pytest.raises(TypeError):
        key.metadata["team"] = "admin"  # type: ignore[index]


def test_nothing_shows_a_key() -> None:
    """The repr of a Key shows neither key nor digest; that of a store shows a number."""
    key = Key("alice", STRONG, {"team": "ops"})
    assert repr(key).startswith("Key(id='alice'")
    assert STRONG not in repr(key)
    assert DIGEST.hex() not in repr(key)
    assert repr(StaticKeys([key])) == "StaticKeys(1 keys)"


def test_new_keys_are_strong_and_different() -> None:
    """A new key has a prefix for scanners, and is accepted as strong."""
    one, two = new_key(), new_key()
    assert one != two
    assert one.startswith("agk_")
    StaticKeys([one, two])


@pytest.mark.parametrize("key", [STRONG, Secret(STRONG)])
def test_hash_key(key: str | Secret) -> None:
    """`hash_key` gives what a configuration holds in place of a key."""
    assert hash_key(key) == HASH


@pytest.mark.parametrize("key", ["", "a b", "k" * 4097, "schl\xfcssel"])
def test_hash_key_refuses_what_no_client_could_send(key: str) -> None:
    """A key that could never be presented is not hashed."""
    with pytest.raises(ConfigurationError):
        hash_key(key)


@pytest.mark.parametrize("key", [HASH, Secret(HASH)])
def test_a_hash_is_not_hashed_again(key: str | Secret) -> None:
    """The hash of a hash would be that of a key nobody has."""
    with pytest.raises(ConfigurationError, match="this is a hash already"):
        hash_key(key)


@pytest.mark.anyio
async def test_static_keys_are_a_key_store() -> None:
    """StaticKeys is what a KeyStore is, and has nothing to refresh."""
    keys = StaticKeys([STRONG])
    assert isinstance(keys, KeyStore)
    assert not keys.refreshes
    await keys.refresh()


# -- written keys ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "id", "key_id", "metadata"),
    [
        ({"id": "alice", "key": STRONG}, None, "alice", {}),
        ({"id": "alice", "keyHash": HASH, "metadata": {"team": "ops"}}, "file", "alice", {"team": "ops"}),
        ({"key": STRONG}, "file", "file", {}),
        ({"key": STRONG, "metadata": {"name": "bob"}}, None, "bob", {"name": "bob"}),
        ({"key": STRONG, "metadata": {"name": "bob"}}, "file", "file", {"name": "bob"}),
        ({"key": STRONG}, None, "key-" + DIGEST.hex()[:8], {}),
    ],
)
def test_an_entry_is_a_key(entry: dict[str, Any], id: str | None, key_id: str, metadata: dict[str, Any]) -> None:
    """An entry's id is the written one, else its place's, else its metadata's name, else its digest's."""
    key = key_from_entry(entry, id=id)
    assert (key.id, key.digest, key.metadata) == (key_id, DIGEST, metadata)


@pytest.mark.parametrize(
    "moment",
    ["2030-01-01T00:00:00Z", "2030-01-01T00:00:00+00:00", "2030-01-01T01:00:00+01:00", "20300101T000000Z", NOW],
)
def test_an_entry_has_times(moment: object) -> None:
    """Times are ISO 8601 with a zone, or datetimes, as YAML makes them."""
    key = key_from_entry({"id": "a", "key": STRONG, "notBefore": moment, "notAfter": moment})
    assert (key.not_before, key.not_after) == (NOW, NOW)


EXACTLY_ONE = "exactly one of key or keyHash must be set"


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({}, [EXACTLY_ONE]),
        ({"key": STRONG, "keyHash": HASH}, [EXACTLY_ONE]),
        ({"key": 5}, ["key and keyHash are text"]),
        ({"key": None}, ["key and keyHash are text"]),
        ({"keyHash": None}, ["key and keyHash are text"]),
        ({"keyHash": STRONG}, ["keyHash must use the sha256:<hex> format"]),
        ({"keyHash": "md5:abc"}, ["keyHash must use the sha256:<hex> format"]),
        ({"key": HASH}, ["key holds a hash; name it keyHash"]),
        ({"key": STRONG, "metadata": []}, ["metadata is a mapping from names to values"]),
        ({"key": STRONG, "metadata": None}, ["metadata is a mapping from names to values"]),
        ({"key": STRONG, "metadata": {1: 2}}, ["metadata is a mapping from names to values"]),
        ({"key": STRONG, "metadata": {"key": STRONG}}, ["metadata may not have a member named key"]),
        ({"key": STRONG, "id": 5}, ["id is text"]),
        ({"key": STRONG, "metadata": {"name": 5}}, ["id is text"]),
        ({"key": STRONG, "notAfter": "tomorrow"}, [f"notAfter {TIME}"]),
        ({"key": STRONG, "notAfter": "2030-01-01"}, [f"notAfter {TIME}"]),
        ({"key": STRONG, "notBefore": "2030-01-01T00:00:00"}, [f"notBefore {TIME}"]),
        ({"key": STRONG, "notAfter": 1893456000}, [f"notAfter {TIME}"]),
        ({"key": STRONG, "notAfter": NOW.date()}, [f"notAfter {TIME}"]),
        ({"key": STRONG, "allowedModels": [], "x": 1}, ["unknown field allowedModels", "unknown field x"]),
        ({"key": ""}, ["empty value"]),
        (
            {"id": 1, "keyHash": "x", "metadata": 2, "notAfter": 3, "typo": 4},
            [
                "unknown field typo",
                "keyHash must use the sha256:<hex> format",
                "metadata is a mapping from names to values",
                "id is text",
                f"notAfter {TIME}",
            ],
        ),
    ],
)
def test_every_fault_of_an_entry_is_listed(entry: dict[str, Any], expected: list[str]) -> None:
    """An entry's faults come all at once, and quote no key."""
    with pytest.raises(ConfigurationError) as caught:
        key_from_entry(entry)
    assert faults(caught) == expected


@pytest.mark.parametrize(
    "text",
    [
        STRONG,
        STRONG + "\n",
        f"  {STRONG}\r\n",
        HASH + "\n",
        f'{{"key": "{STRONG}"}}',
        f'\n{{"keyHash": "{HASH}", "metadata": {{"team": "ops"}}}}\n',
    ],
)
def test_a_secrets_entry_is_a_key(text: str) -> None:
    """An entry of a mounted Secret is the key, however it ends, or JSON around it."""
    key = key_from_text(text, id="alice")
    assert (key.id, key.digest) == ("alice", DIGEST)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "empty value"),
        (" \n", "empty value"),
        ("{", "not valid JSON"),
        ("{" * 20_000, "not valid JSON"),
        ('{"key": ' + "[" * 100_000, "not valid JSON"),
        ("{}", EXACTLY_ONE),
        (f"{STRONG}\n{OTHER}", NOT_VISIBLE),
        (f'{{"key": "{STRONG}", "key": "{OTHER}"}}', "a member is given twice"),
    ],
)
def test_a_secrets_entry_with_a_fault(text: str, expected: str) -> None:
    """A fault in an entry of a Secret is told without quoting it."""
    with pytest.raises(ConfigurationError) as caught:
        key_from_text(text)
    assert faults(caught) == [expected]
