"""CEL values as plain Python values, and the operations every expression needs.

| CEL | Python | | CEL | Python |
|---|---|---|---|---|
| int | `int` | | list | `list` (a `tuple` or other `Sequence` is read as one) |
| uint | `UInt` | | map | `dict` (any `Mapping` is read as one) |
| double | `float` | | timestamp, duration | `Timestamp`, `Duration` |
| bool, null | `bool`, `None` | | type | `Type` |
| string, bytes | `str`, `bytes` | | optional | `Optional` |

Nothing here uses Python's own ideas of truth, of equality across types (`True == 1`) or of order: classes are
compared exactly, and a value of another class, a subclass of `str` among them, has no CEL type and is an error.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NoReturn

from agentgate.cel.errors import Unknown
from agentgate.cel.limits import MAX_NODES
from agentgate.cel.types import Type

INT_MIN: Final = -(2**63)
INT_MAX: Final = 2**63 - 1
UINT_MAX: Final = 2**64 - 1


class Fault(Exception):
    """An operation has no result. Internal: `Expression.evaluate` turns it into an EvaluationError with a place."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__()
        self.kind = kind
        self.reason = reason


class Missing(Fault):
    """A declared path is not there for this input: a variable, or the field of a struct."""

    def __init__(self, path: str) -> None:
        field = "." in path
        super().__init__("no_such_field" if field else "no_such_key", f"no such {'field' if field else 'key'}")
        self.path = path


class LimitFault(Fault):
    """A limit of `agentgate.cel.limits` was reached. Neither `&&` nor `||` absorbs it."""


class UInt(int):
    """An unsigned 64-bit integer. `UInt(1) == 1`, as in CEL; only CEL keeps their arithmetic apart."""

    __slots__ = ()

    def __new__(cls, value: int) -> UInt:
        if not 0 <= value <= UINT_MAX:
            raise ValueError("not an unsigned 64-bit integer")
        return super().__new__(cls, value)

    def __repr__(self) -> str:
        return f"UInt({int(self)})"


class Optional:
    """`optional.of(x)` or `optional.none()`. Selecting from it selects inside it: the answer is again an Optional."""

    __slots__ = ("present", "value")

    def __init__(self, value: Any, present: bool = True) -> None:
        self.value = value
        self.present = present

    def __getitem__(self, key: Any) -> Optional:
        return optional_index(self.value, key) if self.present else NONE

    def __repr__(self) -> str:
        return "Optional(...)" if self.present else "Optional()"


NONE: Final = Optional(None, present=False)


class Repeated(list[Any]):
    """Several values where one was expected, such as those of a header that was sent twice. It is a list, but to
    compare it with anything but a list is an error: a rule about one value is neither passed nor evaded by two."""

    __slots__ = ()
    __hash__ = None

    def __eq__(self, other: object) -> bool:
        return list.__eq__(self, other) if isinstance(other, list) else _repeated()

    def __ne__(self, other: object) -> bool:
        return not self == other


def _repeated() -> NoReturn:
    raise Fault("repeated", "several values are compared with one")


class _Unknown:
    """The class of `UNKNOWN`. Every use of it raises `Unknown`, so generated code needs no test for it."""

    __slots__ = ()

    def _raise(self, *_: object) -> NoReturn:
        raise Unknown

    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = __hash__ = __bool__ = _raise
    __getattr__ = __getitem__ = __contains__ = __iter__ = __len__ = _raise
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __neg__ = _raise

    def __repr__(self) -> str:
        return "UNKNOWN"


UNKNOWN: Final[Any] = _Unknown()


class _BoolKey:
    """A bool as a key of a dict, where Python would take `True` for `1`."""

    __slots__ = ("value",)

    def __init__(self, value: bool) -> None:
        self.value = value


_TRUE, _FALSE = _BoolKey(True), _BoolKey(False)

# The name of each exact class, as `type(x)` gives it. time.py and network.py add theirs.
KINDS: dict[type, str] = {
    bool: "bool",
    int: "int",
    UInt: "uint",
    float: "double",
    str: "string",
    bytes: "bytes",
    type(None): "null_type",
    list: "list",
    tuple: "list",
    Repeated: "list",
    dict: "map",
    Type: "type",
    Optional: "optional_type",
}
NUMBERS = frozenset({int, UInt, float})
ORDERED: set[type] = {bool, int, UInt, float, str, bytes}
_COMPARABLE: set[type] = {bool, int, UInt, float, str, bytes, type(None), Type}  # `==` of Python is that of CEL


def register(cls: type, name: str, *, ordered: bool = False) -> None:
    """Make a class a CEL type whose `==` (and `<`) are its own. For use while modules are imported."""
    KINDS[cls] = name
    _COMPARABLE.add(cls)
    if ordered:
        ORDERED.add(cls)


def kind_of(cls: type) -> str | None:
    """The CEL type of a class, None for a class that is no CEL value."""
    name = KINDS.get(cls)
    if name is None:
        name = (
            "map"
            if issubclass(cls, Mapping)
            else "list"
            if issubclass(cls, Sequence) and not issubclass(cls, str | bytes)
            else None
        )
    return name


def kind(value: Any) -> str:
    """The CEL type of a value. Raises Unknown for UNKNOWN and Fault for what is no CEL value."""
    return kind_of(value.__class__) or no_overload(value)


def no_overload(*values: Any) -> NoReturn:
    """Raise what an operation without an overload for these values raises: Unknown if one of them is unknown."""
    if any(value is UNKNOWN for value in values):
        raise Unknown
    raise Fault("no_overload", "no such overload")


def equal(a: Any, b: Any) -> bool:
    """`a == b` of CEL: never an error between CEL values, numbers compare across types, NaN equals nothing."""
    left, right = a.__class__, b.__class__
    if left is right and left in _COMPARABLE:
        return bool(a == b)
    if left in NUMBERS and right in NUMBERS:
        return float(a) == float(b) if left is float or right is float else int(a) == int(b)
    name = kind(a)
    if name != kind(b):
        return _repeated() if left is Repeated or right is Repeated else False
    if name == "list":
        return len(a) == len(b) and all(map(equal, a, b))
    if name == "map":
        return len(a) == len(b) and all(key in b and equal(a[key], b[key]) for key in a)
    return bool(a.present == b.present and equal(a.value, b.value))


def _ordering(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def ordered(a: Any, b: Any) -> bool:
        left, right = a.__class__, b.__class__
        if left is right and left in ORDERED:
            return compare(a, b)
        if left in NUMBERS and right in NUMBERS:
            # An integer next to a double is compared as a double, lossy beyond 2^53, as the specification has it.
            return compare(float(a), float(b)) if left is float or right is float else compare(int(a), int(b))
        no_overload(a, b)

    return ordered


less, less_equal = _ordering(operator.lt), _ordering(operator.le)
greater, greater_equal = _ordering(operator.gt), _ordering(operator.ge)


def map_key(key: Any) -> Any:
    """A CEL value as a key of a dict: bools are wrapped, whole doubles find integers. Raises Fault for other types."""
    cls = key.__class__
    if cls is str or cls is int or cls is UInt:
        return key
    if cls is bool:
        return _TRUE if key else _FALSE
    if cls is float:
        return int(key) if key.is_integer() else key
    if key is UNKNOWN:
        raise Unknown
    raise Fault("no_overload", "unsupported key type")


def keys(mapping: Mapping[Any, Any]) -> list[Any]:
    """The keys of a map as CEL values."""
    return [key.value if key.__class__ is _BoolKey else key for key in mapping]


def new_map(items: list[tuple[Any, Any]]) -> dict[Any, Any]:
    """The map of these pairs. Raises Fault for a repeated key and for a key that is no int, uint, bool or string."""
    result: dict[Any, Any] = {}
    for key, value in items:
        if key.__class__ is float:
            raise Fault("no_overload", "unsupported key type")
        name = map_key(key)
        if name in result:
            raise Fault("duplicate_key", "repeated key in a map")
        result[name] = value
    return result


def index(operand: Any, key: Any) -> Any:
    """`operand[key]`: an entry of a map or an element of a list. Raises KeyError or Fault where there is none."""
    cls = operand.__class__
    if cls is dict:
        return operand[map_key(key)]
    if cls is Optional:
        return operand[key]
    name = kind(operand)
    if name == "map":
        return operand[map_key(key)]
    if name != "list":
        no_overload(operand, key)
    if key.__class__ is float and key.is_integer():
        key = int(key)
    elif key.__class__ is not int and key.__class__ is not UInt:
        no_overload(key)
    if not 0 <= key < len(operand):
        raise Fault("index", "index out of bounds")
    return operand[key]


def optional_index(operand: Any, key: Any) -> Optional:
    """`operand[?key]` and `operand.?key`: none where there is no such entry."""
    if operand.__class__ is Optional:
        return operand[key] if operand.present else NONE
    try:
        value = index(operand, key)
        return Optional(value) if value is not UNKNOWN else no_overload(value)
    except KeyError:
        return NONE
    except Fault as fault:
        if fault.kind == "index":
            return NONE
        raise


def contains(item: Any, container: Any) -> bool:
    """`item in container`: an element of a list (by CEL equality) or a key of a map."""
    name = kind(container)
    if name == "list":
        return any(equal(item, element) for element in container)
    if name == "map":
        return map_key(item) in container
    no_overload(item, container)


def has(operand: Any, field: str) -> bool:
    """`has(operand.field)` where the operand is no plain struct. Raises Unknown for a field that is UNKNOWN."""
    if operand.__class__ is Optional:
        return bool(operand[field].present)
    if kind(operand) != "map":
        no_overload(operand)
    if field not in operand:
        return False
    return operand[field] is not UNKNOWN or no_overload(UNKNOWN)


def to_python(value: Any) -> Any:
    """A result as the caller sees it: bool keys unwrapped. Raises Unknown where an UNKNOWN is part of it."""
    cls = value.__class__
    if cls is list or cls is tuple or cls is Repeated:
        return [to_python(element) for element in value]
    if cls is dict:
        result = {key.value if key.__class__ is _BoolKey else key: to_python(element) for key, element in value.items()}
        if len(result) != len(value):
            raise Fault("no_overload", "a map with both `true` and `1` as keys has no Python form")
        return result
    if value is UNKNOWN:
        raise Unknown
    return value


def to_cel(value: Any, depth: int = 64, nodes: int = MAX_NODES) -> Any:
    """Foreign data (parsed JSON, claims, YAML) as CEL values: bool keys are told from 1, whole numbers beyond 64 bits
    become doubles.

    Raises ValueError for values of no CEL type, for text with lone surrogates, past `depth` levels, and past `nodes`
    values in all.
    """
    return _to_cel(value, depth, [nodes])


def _to_cel(value: Any, depth: int, left: list[int]) -> Any:
    left[0] -= 1
    if depth < 0 or left[0] < 0:
        raise ValueError("data too large or nested too deeply")
    cls = value.__class__
    if cls is str:
        if not value.isascii():
            value.encode()  # UnicodeEncodeError is a ValueError
        return value
    if cls is int:
        return value if INT_MIN <= value <= INT_MAX else float(value)
    if cls is bool or cls is float or value is None:
        return value
    if cls is dict or isinstance(value, Mapping):
        result: dict[Any, Any] = {}
        for key, element in value.items():
            simple = key.__class__ is str and key.isascii()
            result[key if simple else map_key(_to_cel(key, 0, left))] = _to_cel(element, depth - 1, left)
        left[0] -= len(result)
        return result
    if cls is list or (isinstance(value, Sequence) and not isinstance(value, str | bytes)):
        depth -= 1
        return [_to_cel(element, depth, left) for element in value]
    if kind_of(cls) is None or value is UNKNOWN:
        raise ValueError(f"a {cls.__name__} is no CEL value")
    return value
