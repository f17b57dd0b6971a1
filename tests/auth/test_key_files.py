"""Keys from files: a change is seen, a fault changes nothing, and the log says why without saying a key."""

import asyncio
import itertools
import json
import logging
import os
import threading
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from agentgate import APIKeyAuth, ConfigurationError, DirectoryKeys, FileKeys, Gate, KeyStore, hash_key, new_key
from agentgate.auth import key_files
from agentgate.testing import drive, http_scope

pytestmark = pytest.mark.anyio

ALICE, BOB = new_key(), new_key()


@pytest.fixture(autouse=True)
def look_at_every_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """With no time between two looks, no test has to wait for one."""
    monkeypatch.setattr(key_files, "POLL_SECONDS", 0.0)


def knows(keys: KeyStore, raw: str) -> str | None:
    """The id of the key, if the store has it."""
    key = keys.find(sha256(raw.encode()).digest())
    return None if key is None else key.id


def as_json(**keys: str) -> str:
    return json.dumps({"keys": [{"id": id, "keyHash": hash_key(key)} for id, key in keys.items()]})


def as_yaml(**keys: str) -> str:
    return "keys:\n" + "".join(f"- id: {id}\n  keyHash: {hash_key(key)}\n" for id, key in keys.items())


WRITTEN = {
    "keys.json": as_json(alice=ALICE),
    "keys.yaml": as_yaml(alice=ALICE),
    "keys.yml": f"# whose keys\nkeys:\n- {{id: alice, key: {ALICE}, metadata: {{team: ops}}}}\n",
    "keys": f"keys: [{{id: alice, key: {ALICE}, notBefore: 2020-01-01T00:00:00Z, notAfter: '2999-01-01T00:00:00Z'}}]",
}


@pytest.mark.parametrize("name", WRITTEN)
def test_a_file_of_keys(tmp_path: Path, name: str) -> None:
    """FileKeys reads JSON by its suffix, and anything else as YAML."""
    path = tmp_path / name
    path.write_text(WRITTEN[name])
    keys = FileKeys(path)
    assert (knows(keys, ALICE), knows(keys, BOB)) == ("alice", None)
    assert repr(keys) == f"FileKeys({str(path)!r}: 1 keys)"
    assert isinstance(keys, KeyStore)
    assert keys.refreshes


@pytest.mark.parametrize(("name", "text"), [("keys.json", '{"keys": []}'), ("keys.yaml", "keys: []")])
def test_a_file_with_no_keys_lets_nobody_in(tmp_path: Path, name: str, text: str) -> None:
    """An empty list is not a fault: it is how the last key is taken away."""
    (tmp_path / name).write_text(text)
    assert knows(FileKeys(tmp_path / name), ALICE) is None


LIST = "a keys file holds one list, named keys"


@pytest.mark.parametrize(
    ("name", "text", "faults"),
    [
        ("keys.json", None, ["{path}: cannot read (FileNotFoundError)"]),
        ("keys.json", b"\xff", ["{path}: cannot read (UnicodeDecodeError)"]),
        ("keys.json", "", ["{path}: not valid JSON"]),
        ("keys.json", "[" * 100_000, ["{path}: not valid JSON"]),
        ("keys.json", "[]", ["{path}: " + LIST]),
        ("keys.json", "{}", ["{path}: " + LIST]),
        ("keys.json", '{"keys": {}}', ["{path}: " + LIST]),
        ("keys.json", '{"keys": [], "mode": "optional"}', ["{path}: " + LIST]),
        ("keys.json", '{"keys": [], "keys": []}', ["{path}: a member is given twice"]),
        ("keys.json", '{"keys": ["x"]}', ["{path}: key 1: a key is a mapping with keyHash"]),
        ("keys.yaml", "", ["{path}: one YAML document is expected, not 0"]),
        ("keys.yaml", "keys: []\n---\nkeys: []", ["{path}: one YAML document is expected, not 2"]),
        ("keys.yaml", "keys: [", ["{path}: line 1, column 8: not valid YAML"]),
        ("keys.yaml", "keys: []\nkeys: []", ["{path}: line 2: a key given twice"]),
        ("keys.yaml", f"keys:\n- key: {ALICE}\n  key: {BOB}", ["{path}: line 3: a key given twice"]),
        ("keys.yaml", "keys: !!python/object:os.system []", ["{path}: line 1, column 7: not valid YAML"]),
        (
            "keys.yaml",
            f"keys:\n- key: sk-123\n- key: {ALICE}\n  note: {BOB}\n- key: {ALICE}\n- key: {ALICE}\n",
            [
                "{path}: key 2: unknown field note",
                "{path}: key 1: 6 characters of this kind are too easy to guess;"
                " make one with `agentgate keys new`, or set allow_weak=True",
                f"{{path}}: key 4: the same key as that of key-{sha256(ALICE.encode()).hexdigest()[:8]}",
            ],
        ),
    ],
)
def test_a_file_with_a_fault_stops_the_start(
    tmp_path: Path, name: str, text: str | bytes | None, faults: list[str]
) -> None:
    """Every fault of a file is listed with file and key, and no key is quoted; nothing starts."""
    path = tmp_path / name
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigurationError) as caught:
        FileKeys(path)
    assert list(caught.value.faults) == [fault.format(path=path) for fault in faults]
    assert ALICE not in str(caught.value)
    assert BOB not in str(caught.value)


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file beyond the limit is a fault, not a lot of memory."""
    path = tmp_path / "keys.json"
    path.write_text(as_json(alice=ALICE))
    monkeypatch.setattr(key_files, "MAX_FILE_BYTES", 10)
    with pytest.raises(ConfigurationError, match="too large"):
        FileKeys(path)


def test_weak_keys_in_a_file_can_be_allowed(tmp_path: Path) -> None:
    """`allow_weak` is for files, too."""
    (tmp_path / "keys.yaml").write_text("keys: [{id: demo, key: sk-123}]")
    assert knows(FileKeys(tmp_path / "keys.yaml", allow_weak=True), "sk-123") == "demo"


changes = itertools.count(1_900_000_000_000_000_000)  # a clock that ticks with every change, as fine as a clock can be


def in_place(path: Path, text: str) -> None:
    path.write_text(text)
    os.utime(path, ns=(moment := next(changes), moment))


def by_renaming(path: Path, text: str) -> None:
    other = path.with_suffix(".new")
    other.write_text(text)
    other.replace(path)


@pytest.mark.parametrize("write", [in_place, by_renaming])
async def test_a_change_is_seen_at_once(tmp_path: Path, write: Any) -> None:
    """Two changes within one second, of the same size, are two changes, however the file is written."""
    path = tmp_path / "keys.json"
    write(path, as_json(alice=ALICE))
    keys = FileKeys(path)
    for raw in (BOB, ALICE, BOB):
        write(path, as_json(alice=raw))
        await keys.refresh()
        assert (knows(keys, raw), knows(keys, BOB if raw == ALICE else ALICE)) == ("alice", None)


BROKEN: dict[str, Callable[[Path], object]] = {
    "no JSON": lambda path: path.write_text('{"keys": [' + json.dumps(BOB)),
    "no list": lambda path: path.write_text("{}"),
    "a bad entry": lambda path: path.write_text(json.dumps({"keys": [{"id": "bob", "key": BOB, "typo": 1}]})),
    "not UTF-8": lambda path: path.write_bytes(b"\xff" + BOB.encode()),
    "deleted": lambda path: path.unlink(),
    "a directory": lambda path: [step() for step in (path.unlink, path.mkdir)],
}


@pytest.mark.parametrize("how", BROKEN)
async def test_a_broken_file_changes_nothing(tmp_path: Path, how: str, caplog: pytest.LogCaptureFixture) -> None:
    """Keys from before stay, the fault is logged once without any key, and the mended file is read."""
    path = tmp_path / "keys.json"
    path.write_text(as_json(alice=ALICE))
    keys = FileKeys(path)
    with caplog.at_level(logging.DEBUG, "agentgate"):
        BROKEN[how](path)
        for _ in range(3):
            await keys.refresh()
            assert (knows(keys, ALICE), knows(keys, BOB)) == ("alice", None)
    (entry,) = caplog.records
    assert entry.levelname == "ERROR"
    assert "keys not changed" in caplog.text
    assert str(path) in caplog.text
    assert BOB not in caplog.text
    if path.is_dir():
        path.rmdir()
    path.write_text(as_json(bob=BOB))
    await keys.refresh()
    assert (knows(keys, ALICE), knows(keys, BOB)) == (None, "bob")


class Odd(FileKeys):
    """Fails as nobody foresaw, once it is told to."""

    odd = False

    def _entries(self) -> Any:
        if self.odd:
            raise RuntimeError(ALICE)
        return super()._entries()


async def test_an_error_that_nobody_foresaw_changes_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever goes wrong while keys are read, the keys from before stay, and the log says where."""
    path = tmp_path / "keys.json"
    path.write_text(as_json(alice=ALICE))
    keys = Odd(path)
    keys.odd = True
    path.write_text(as_json(bob=BOB))
    await keys.refresh()
    assert (knows(keys, ALICE), knows(keys, BOB)) == ("alice", None)
    assert "keys not changed, because of RuntimeError at test_key_files.py" in caplog.text
    assert ALICE not in caplog.text


async def test_between_two_looks_nothing_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the time has come, a refresh does not look at the file."""
    monkeypatch.setattr(key_files, "POLL_SECONDS", 3600.0)
    path = tmp_path / "keys.json"
    path.write_text(as_json(alice=ALICE))
    keys = FileKeys(path)
    path.write_text(as_json(bob=BOB))
    await keys.refresh()
    assert knows(keys, ALICE) == "alice"


async def test_an_unchanged_file_is_not_read_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Looking at a file that did not change reads nothing and logs nothing."""
    path = tmp_path / "keys.json"
    path.write_text(as_json(alice=ALICE))
    keys = FileKeys(path)
    with caplog.at_level(logging.DEBUG, "agentgate"):
        await keys.refresh()
    assert not caplog.records
    assert knows(keys, ALICE) == "alice"


async def test_a_changed_file_is_loaded_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A hundred requests at once make one load; none of them fails, and afterwards all see the new keys."""
    path = tmp_path / "keys.json"
    path.write_text(as_json(alice=ALICE))
    keys = FileKeys(path)
    path.write_text(as_json(bob=BOB))
    with caplog.at_level(logging.INFO, "agentgate"):
        await asyncio.gather(*(keys.refresh() for _ in range(100)))
    assert [entry.getMessage() for entry in caplog.records] == [f"{path}: 1 keys"]
    assert (knows(keys, ALICE), knows(keys, BOB)) == (None, "bob")


class Slow(FileKeys):
    """Is read when it is told to."""

    def __init__(self, path: Path) -> None:
        self.go = threading.Event()
        self.go.set()
        super().__init__(path)

    def _entries(self) -> Any:
        assert self.go.wait(10)
        return super()._entries()


class Clock:
    """The time, as `key_files` reads it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("quiet", "waits"),
    [
        pytest.param(0.6, False, id="keys looked at a moment ago serve while new ones are read"),
        pytest.param(600.0, True, id="keys that nobody has looked at for long do not"),
    ],
)
async def test_who_waits_for_a_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quiet: float, waits: bool) -> None:
    """A revoked key is not let in because its request comes second, while another one's has the file read."""
    clock = Clock()
    monkeypatch.setattr(key_files, "POLL_SECONDS", 0.5)
    monkeypatch.setattr(key_files, "time", clock)
    path = tmp_path / "keys.json"
    path.write_text(as_json(alice=ALICE))
    keys = Slow(path)
    keys.go.clear()
    path.write_text(as_json(bob=BOB))
    clock.now += quiet
    first = asyncio.create_task(keys.refresh())
    second = asyncio.create_task(keys.refresh())
    await asyncio.sleep(0)  # the first has the file read
    await asyncio.sleep(0)
    assert (first.done(), second.done()) == (False, not waits)
    assert knows(keys, ALICE) == "alice"
    clock.now += 0.5
    third = asyncio.create_task(keys.refresh())  # a load that takes long: in time, nobody goes on without it
    await asyncio.sleep(0)
    assert not third.done()
    keys.go.set()
    await asyncio.gather(first, second, third)
    assert (knows(keys, ALICE), knows(keys, BOB)) == (None, "bob")


def test_a_load_that_another_loop_left_behind(tmp_path: Path) -> None:
    """A loop that ended while it read keys keeps no other one from reading them."""
    path = tmp_path / "keys.json"
    path.write_text(as_json(alice=ALICE))
    keys = Slow(path)
    keys.go.clear()
    path.write_text(as_json(bob=BOB))

    async def begin() -> None:
        asyncio.create_task(keys.refresh())  # noqa: RUF006  (cancelled with the loop, which is the point)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        keys.go.set()

    asyncio.run(begin())
    asyncio.run(keys.refresh())
    assert (knows(keys, ALICE), knows(keys, BOB)) == (None, "bob")


async def test_a_cancelled_load_is_taken_up_again(tmp_path: Path) -> None:
    """A request that is cancelled while keys are loaded leaves nothing half done."""
    path = tmp_path / "keys.json"
    path.write_text(as_json(alice=ALICE))
    keys = FileKeys(path)
    path.write_text(as_json(bob=BOB))
    task = asyncio.create_task(keys.refresh())
    await asyncio.sleep(0)  # it has begun
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert knows(keys, ALICE) == "alice"
    await keys.refresh()
    assert knows(keys, BOB) == "bob"


# -- directories -----------------------------------------------------------------------------------------------------


def secret(tmp_path: Path, generation: str, **files: str) -> Path:
    """A directory as Kubernetes mounts a Secret: files link to `..data`, which links to the present generation."""
    folder = tmp_path / f"..{generation}"
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text)
    link = tmp_path / "..data_tmp"
    link.symlink_to(folder.name)
    link.replace(tmp_path / "..data")
    for name in files:
        if not (tmp_path / name).is_symlink():
            (tmp_path / name).symlink_to(Path("..data", name))
    return tmp_path


async def test_a_mounted_secret(tmp_path: Path) -> None:
    """Each file of a mounted Secret is a key, and an update is seen whole when `..data` is swapped."""
    keys = DirectoryKeys(secret(tmp_path, "2030_01", alice=ALICE + "\n", bob=json.dumps({"key": BOB})))
    assert (knows(keys, ALICE), knows(keys, BOB)) == ("alice", "bob")
    assert repr(keys) == f"DirectoryKeys({str(tmp_path)!r}: 2 keys)"
    carol = new_key()
    secret(tmp_path, "2030_02", bob=hash_key(carol))
    await keys.refresh()
    assert [knows(keys, raw) for raw in (ALICE, BOB, carol)] == [None, None, "bob"]


async def test_a_plain_directory(tmp_path: Path) -> None:
    """Without `..data` the directory's own files are the keys; hidden files and folders are left out."""
    (tmp_path / "alice").write_text(ALICE)
    (tmp_path / ".hidden").write_text("not a key")
    (tmp_path / "folder").mkdir()
    keys = DirectoryKeys(tmp_path)
    assert knows(keys, ALICE) == "alice"
    (tmp_path / "alice").write_text(BOB)
    await keys.refresh()
    assert (knows(keys, ALICE), knows(keys, BOB)) == (None, "alice")
    (tmp_path / "alice").unlink()
    await keys.refresh()
    assert knows(keys, BOB) is None


def test_a_directory_with_faults_stops_the_start(tmp_path: Path) -> None:
    """Every file with a fault is named; a directory that is not there is one."""
    (tmp_path / "alice").write_text("")
    (tmp_path / "bob").write_text('{"keyHash": "x"}')
    (tmp_path / "carol").write_bytes(b"\xff")
    with pytest.raises(ConfigurationError) as caught:
        DirectoryKeys(tmp_path)
    assert list(caught.value.faults) == [
        f"{tmp_path}: alice: empty value",
        f"{tmp_path}: bob: keyHash must use the sha256:<hex> format",
        f"{tmp_path}: carol: cannot read (UnicodeDecodeError)",
    ]
    with pytest.raises(ConfigurationError, match=r"missing: cannot list \(FileNotFoundError\)"):
        DirectoryKeys(tmp_path / "missing")


async def test_a_broken_update_changes_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An update with one bad key, or without any files, leaves all keys as they were, and says so."""
    keys = DirectoryKeys(secret(tmp_path, "2030_01", alice=ALICE))
    secret(tmp_path, "2030_02", alice="two words")
    await keys.refresh()
    assert knows(keys, ALICE) == "alice"
    assert "alice: a key is visible ASCII characters without blanks" in caplog.text
    os.unlink(tmp_path / "..data")
    (tmp_path / "..data").symlink_to("nowhere")
    await keys.refresh()
    assert knows(keys, ALICE) == "alice"
    assert "cannot list" in caplog.text


# -- in a Gate -------------------------------------------------------------------------------------------------------


async def hello(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body"})


async def test_a_gate_follows_its_file(tmp_path: Path) -> None:
    """A key added to the file is let in by the next request, and a key taken out is refused by it."""
    path = tmp_path / "keys.json"
    path.write_text(as_json(alice=ALICE))
    gate = Gate(hello, authenticate=[APIKeyAuth(FileKeys(path))])

    async def status(raw: str) -> int | None:
        return (await drive(gate, http_scope(headers={"authorization": f"Bearer {raw}"}))).status

    assert (await status(ALICE), await status(BOB)) == (200, 401)
    path.write_text(as_json(bob=BOB))
    assert (await status(ALICE), await status(BOB)) == (401, 200)
