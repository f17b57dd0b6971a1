"""Headers: a request's headers by name, over the pairs of bytes that came. It never picks one of several values."""

from collections.abc import Iterable, Iterator, Mapping

RawHeaders = tuple[tuple[bytes, bytes], ...]
HeadersInit = Mapping[str, str] | Iterable[tuple[str, str]]


class Headers(Mapping[str, str]):
    """Request headers by name, whatever its case. A repeated header is all its values joined by `, `, never just one
    of them: a rule cannot be made to look at one value while the app reads another."""

    __slots__ = ("_raw",)

    def __init__(self, raw: RawHeaders) -> None:
        self._raw = raw

    def getlist(self, name: str) -> list[str]:
        """Every value of the header, in order; empty when it is absent."""
        wanted = name.lower().encode("latin-1", "replace")
        return [value.decode("latin-1") for key, value in self._raw if key == wanted]

    def __getitem__(self, name: str) -> str:
        values = self.getlist(name)
        if not values:
            raise KeyError(name)
        return ", ".join(values)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower().encode("latin-1", "replace") in dict(self._raw)

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(key.decode("latin-1") for key, _ in self._raw))

    def __len__(self) -> int:
        return len({key for key, _ in self._raw})

    def __repr__(self) -> str:
        return f"Headers({', '.join(self)})"  # names only: values may be credentials
