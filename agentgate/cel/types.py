"""Types of the checker, and how they are written.

`bool int uint double string bytes timestamp duration null_type dyn type list(T) map(K, V) optional_type(T) net.IP
net.CIDR`, any other name for an abstract type, `param(A)` for a type parameter, and `struct{path: string, body?:
bytes}` for a closed struct: a field that is not listed is a compile error, `?` marks one that may be absent.

A dict is a struct, too: `{"path": "string", "body?": "bytes"}`. The name of a variable becomes the name of its struct
in messages.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from agentgate.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Type:
    """A type: what the checker deduces, and what `type(x)` gives at run time (then without parameters)."""

    name: str
    params: tuple[Type, ...] = ()

    def __str__(self) -> str:
        return f"{self.name}({', '.join(map(str, self.params))})" if self.params else self.name


@dataclass(frozen=True, slots=True)
class Struct(Type):
    """A closed struct. `fields` gives the type of each field; those in `absent` may be missing from a value."""

    fields: Mapping[str, Type] = field(default_factory=dict, compare=False, hash=False)
    absent: frozenset[str] = field(default=frozenset(), compare=False)


@dataclass(frozen=True, slots=True)
class ClosedMap(Type):
    """A map with text keys of which no others are known than these: `closed_map` makes one."""

    fields: Mapping[str, Type] = field(default_factory=dict, compare=False, hash=False)
    label: str = field(default="map", compare=False)


TypeLike = str | Type | Mapping[str, "TypeLike"]

DYN, NULL, BOOL, INT, UINT, DOUBLE = map(Type, ("dyn", "null_type", "bool", "int", "uint", "double"))
STRING, BYTES, TIMESTAMP, DURATION = map(Type, ("string", "bytes", "timestamp", "duration"))

_TYPE_NAMES = """
    bool int uint double string bytes list map null_type type optional_type net.IP net.CIDR
    google.protobuf.Timestamp google.protobuf.Duration
"""
TYPE_NAMES: dict[str, Type] = {name: Type(name) for name in _TYPE_NAMES.split()}
"""Names that stand for a type in an expression (`type(x) == int`): what type() gives at run time."""


def list_of(element: Type) -> Type:
    """list(element)"""
    return Type("list", (element,))


def map_of(key: Type, value: Type) -> Type:
    """map(key, value)"""
    return Type("map", (key, value))


def optional_of(value: Type) -> Type:
    """optional_type(value)"""
    return Type("optional_type", (value,))


_TYPE_TOKEN = re.compile(r"\s*([A-Za-z_][A-Za-z0-9_.]*|[(){},:?;])")
_ARITY = {"list": 1, "map": 2, "optional_type": 1}


def parse_type(like: TypeLike, name: str = "struct") -> Type:
    """The Type that `like` writes. `name` is what a struct is called in messages. Raises ConfigurationError."""
    if isinstance(like, Type):
        return like
    if isinstance(like, Mapping):
        return _struct(name, {key: parse_type(value, f"{name}.{key.rstrip('?')}") for key, value in like.items()})
    tokens = _TYPE_TOKEN.findall(like)
    if "".join(tokens) != re.sub(r"\s", "", like):
        raise ConfigurationError(f"not a type: {like!r}")
    tokens.append("")
    parsed, end = _parse(tokens, 0, name, like)
    if tokens[end]:
        raise ConfigurationError(f"not a type: {like!r}")
    return parsed


def _parse(tokens: list[str], at: int, name: str, text: str) -> tuple[Type, int]:
    head = tokens[at]
    at += 1
    if not head or not (head[0].isalpha() or head[0] == "_"):
        raise ConfigurationError(f"not a type: {text!r}")
    if head == "struct" and tokens[at] == "{":
        return _parse_fields(tokens, at + 1, name, text)
    params: list[Type] = []
    if tokens[at] == "(":
        if head == "param":  # param(A): the parameter's name is not a type
            return Type("param", (Type(tokens[at + 1]),)), at + 3
        while tokens[at] in ("(", ","):
            param, at = _parse(tokens, at + 1, name, text)
            params.append(param)
        if tokens[at] != ")":
            raise ConfigurationError(f"not a type: {text!r}")
        at += 1
    wanted = _ARITY.get(head)
    if wanted is not None and not params:
        params = [DYN] * wanted
    if wanted is not None and len(params) != wanted:
        raise ConfigurationError(f"{head} takes {wanted} parameter(s): {text!r}")
    return Type(head, tuple(params)), at


def _parse_fields(tokens: list[str], at: int, name: str, text: str) -> tuple[Type, int]:
    fields: dict[str, Type] = {}
    while tokens[at] not in ("}", ""):
        key = tokens[at]
        mark = tokens[at + 1] == "?"
        at += 2 if mark else 1
        if tokens[at] != ":":
            raise ConfigurationError(f"not a type: {text!r}")
        fields[key + "?" * mark], at = _parse(tokens, at + 1, f"{name}.{key}", text)
        if tokens[at] == ",":
            at += 1
    if tokens[at] != "}":
        raise ConfigurationError(f"not a type: {text!r}")
    return _struct(name, fields), at + 1


def _struct(name: str, fields: Mapping[str, Type]) -> Struct:
    names = {key.rstrip("?"): value for key, value in fields.items()}
    for key in names:
        # A field may be read as an attribute of a view: never one that Python or the view keeps for itself.
        if not key.isidentifier() or key.startswith("_"):
            raise ConfigurationError(f"not a name for a field: {key!r}")
    return Struct(name, (), names, frozenset(key[:-1] for key in fields if key.endswith("?")))


def closed_map(name: str, keys: Mapping[str, TypeLike]) -> ClosedMap:
    """A map whose keys are known, whatever they are spelt like: claims, for one. To select another key is a fault;
    each may be absent. Nested dicts are closed maps, too. Raises ConfigurationError."""
    fields = {
        key: closed_map(f"{name}.{key}", like) if isinstance(like, Mapping) else parse_type(like, f"{name}.{key}")
        for key, like in keys.items()
    }
    return ClosedMap("map", (STRING, DYN), fields, name)


class Substitution:
    """What is known of the type variables of one expression, and which type may stand for which.

    The rules are those of the reference checker: `dyn` agrees with everything, a variable takes the first type it
    meets and is widened to the more general of two that agree, and null is a value of every abstract, struct,
    timestamp and duration type.
    """

    def __init__(self) -> None:
        self._known: dict[Type, Type] = {}
        self._count = 0

    def fresh(self) -> Type:
        """A new type variable."""
        self._count += 1
        return Type("param", (Type(str(self._count)),))

    def find(self, t: Type) -> Type:
        """The type a variable stands for, other types as they are."""
        while t.name == "param" and t in self._known:
            t = self._known[t]
        return t

    def resolve(self, t: Type, open_as: Type | None = None) -> Type:
        """`t` with all known variables replaced; unknown ones become `open_as` if it is given."""
        t = self.find(t)
        if t.name == "param":
            return open_as or t
        if not t.params or isinstance(t, ClosedMap):
            return t
        return Type(t.name, tuple(self.resolve(p, open_as) for p in t.params))

    def instantiate(self, types: tuple[Type, ...], names: dict[Type, Type]) -> tuple[Type, ...]:
        """`types` with declared parameters replaced by fresh variables, the same in all of them."""
        return tuple(self._instantiate(t, names) for t in types)

    def _instantiate(self, t: Type, names: dict[Type, Type]) -> Type:
        if t.name == "param":
            if t not in names:
                names[t] = self.fresh()
            return names[t]
        return Type(t.name, self.instantiate(t.params, names)) if t.params else t

    def assignable_all(self, given: list[Type], wanted: tuple[Type, ...]) -> bool:
        """Whether every given type may stand where the wanted one is. What was learned is kept only if all do."""
        saved = dict(self._known)
        if len(given) == len(wanted) and all(self._assignable(a, b) for a, b in zip(given, wanted, strict=True)):
            return True
        self._known = saved
        return False

    def assignable(self, given: Type, wanted: Type) -> bool:
        """Whether `given` may stand where `wanted` is."""
        return self.assignable_all([given], (wanted,))

    def join(self, a: Type, b: Type) -> Type | None:
        """The more general of two types that agree, None if they do not."""
        return self.most_general(a, b) if self.assignable(a, b) else None

    def most_general(self, a: Type, b: Type) -> Type:
        """Of two types that agree, the one that says less."""
        a, b = self.resolve(a), self.resolve(b)
        return a if _no_more_specific(a, b) else b

    def _assignable(self, a: Type, b: Type) -> bool:
        for one, other in ((b, a), (a, b)):
            if one.name == "param":
                agreed = self._bind(one, other)
                if agreed is not None:
                    return agreed
        if "dyn" in (a.name, b.name) or a == b:
            return True
        if "null_type" in (a.name, b.name):
            other = b if a.name == "null_type" else a
            return isinstance(other, Struct) or other.name not in _NOT_NULLABLE
        if a.name == b.name == "type":  # types are compared when they are values
            return True
        return a.name == b.name and len(a.params) == len(b.params) and all(map(self._assignable, a.params, b.params))

    def _bind(self, variable: Type, t: Type) -> bool | None:
        """Let the variable stand for `t`: True or False, None if nothing follows and the other side has to be tried."""
        if variable == t:
            return True
        known = self._known.get(variable)
        if known is None:
            if self._occurs(variable, t):
                return None
            self._known[variable] = t
            return True
        if known == t:
            return True
        if not self._assignable(t, known):
            return False
        general = self.most_general(t, known)
        if not self._occurs(variable, general):
            self._known[variable] = general
        return True

    def _occurs(self, variable: Type, t: Type) -> bool:
        t = self.find(t)
        return t == variable or any(self._occurs(variable, p) for p in t.params)


_NOT_NULLABLE = frozenset(["bool", "int", "uint", "double", "string", "bytes", "list", "map", "type"])


def _no_more_specific(a: Type, b: Type) -> bool:
    if a.name in ("dyn", "param") or b.name == "null_type":
        return True
    if b.name in ("dyn", "param"):
        return False
    return a.name == b.name and len(a.params) == len(b.params) and all(map(_no_more_specific, a.params, b.params))
