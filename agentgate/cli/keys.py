"""`agentgate keys`: keys are made here or read from standard input; only their hashes go to standard output."""

import getpass
import json
import re
import sys

from ..auth.keys import MAX_KEY_BYTES, Key, hash_key, new_key
from ..errors import ConfigurationError


def new(id: str | None) -> int:
    """Make a key. It is shown on standard error, so that `agentgate keys new >> keys.yaml` keeps the hash alone."""
    if id is not None and not (id and id.isprintable()):
        raise ConfigurationError("an id is printable text")
    key = new_key()
    print("# the key, which is shown this once:", key, sep="\n", file=sys.stderr)
    print("# its entry in the list `keys` of a keys file:", file=sys.stderr, flush=True)
    if id is None:
        print(f"- keyHash: {hash_key(key)}")
    else:
        plain = re.fullmatch("[A-Za-z][A-Za-z0-9_.@-]*", id) and id.lower() not in _YAML_WORDS
        print(f"- id: {id if plain else json.dumps(id)}\n  keyHash: {hash_key(key)}")
    return 0


_YAML_WORDS = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})


def hash_one() -> int:
    """Print the hash of one key; a terminal does not show what is typed."""
    if sys.stdin.isatty():
        text = getpass.getpass("key: ")
    else:
        try:
            text = sys.stdin.buffer.read(MAX_KEY_BYTES + 3).decode("utf-8")
        except UnicodeDecodeError:
            raise ConfigurationError("a key is visible ASCII characters without blanks") from None
    key = text.rstrip("\r\n")  # `echo` adds a line end, which could never be part of a key
    if key.startswith("sha256:"):
        raise ConfigurationError("this is a hash already")
    hashed = hash_key(key)
    weakness = Key("key", key).weakness
    if weakness:
        print(f"agentgate: WARNING: {weakness}; make one with `agentgate keys new`", file=sys.stderr)
    print(hashed)
    return 0
