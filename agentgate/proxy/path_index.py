"""PathIndex: the routes of one host, found by their paths. What a request costs does not grow with their number, apart
from regular expressions, which all have to be tried. Whether a route matches, it leaves to the route."""

from collections.abc import Iterator
from operator import itemgetter
from typing import Any, Final, Generic, TypeVar

from .paths import Exact, Path, Prefix

_T = TypeVar("_T")

_RANK: Final[Any] = itemgetter(0)


class PathIndex(Generic[_T]):
    """Keeps the order in which things are appended to it."""

    def __init__(self) -> None:
        self._exact: dict[str, list[tuple[int, _T]]] = {}
        self._prefixes: dict[str, list[tuple[int, _T]]] = {}  # without the slash at their end
        self._longest = 0  # of the prefixes: what is longer in a path is not looked at
        self._others: list[tuple[int, _T]] = []
        self._count = 0

    def append(self, path: Path, one: _T) -> None:
        """`one` may be for requests with this path."""
        ranked = self._count, one
        self._count += 1
        if isinstance(path, Exact):
            self._exact.setdefault(path.path, []).append(ranked)
        elif isinstance(path, Prefix):
            prefix = path.path.rstrip("/")
            self._longest = max(self._longest, len(prefix))
            self._prefixes.setdefault(prefix, []).append(ranked)
        else:
            self._others.append(ranked)

    def candidates(self, path: str, whole: str) -> Iterator[_T]:
        """Whatever could be for this path, in order. `whole` has what the gateway is mounted at in front: a document
        may be asked for there, too."""
        found = [*self._others, *self._exact.get(path, ())]
        if whole != path:
            found += self._exact.get(whole, ())
        if self._prefixes:
            cut = path.find("/")
            while 0 <= cut <= self._longest:
                found += self._prefixes.get(path[:cut], ())
                cut = path.find("/", cut + 1)
            if len(path) <= self._longest or not path:
                found += self._prefixes.get(path, ())
        if len(found) > 1:
            found.sort(key=_RANK)
        return (one for _, one in found)
