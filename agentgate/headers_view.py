"""`request.headers` and the text of a target as rules see them, with agentgateway's methods.

By name, whatever its case: a text, or all values where a header was sent several times. No value is chosen among
several, and the methods that choose how several look (`join`, `raw`, `split`) are the rule's own word.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final
from urllib.parse import parse_qsl

from agentgate import cel

from .headers import Headers

SENSITIVE: Final = frozenset(
    {"authorization", "proxy-authorization", "cookie", "x-api-key", "api-key", "x-goog-api-key"}
)
"""Headers that `redacted()` shows as `<redacted>`."""


def _one_or_all(values: list[str]) -> str | list[str]:
    return values[0] if len(values) == 1 else cel.Repeated(values)


def _split(values: list[str]) -> list[str]:
    return [part.strip(" \t") for value in values for part in value.split(",")]


class HeadersView(Mapping[str, Any]):
    """Headers in one of the forms that an expression may ask for. `hides` says, by their lower-case names, which of
    them show `<redacted>` in place of their values."""

    __slots__ = ("_form", "_headers", "_hides")

    def __init__(
        self,
        headers: Headers,
        form: Callable[[list[str]], Any] = _one_or_all,
        hides: Callable[[str], bool] | None = None,
    ) -> None:
        self._headers = headers
        self._form = form
        self._hides = hides

    def __getitem__(self, name: str) -> Any:
        values = self._headers.getlist(name)
        if not values:
            raise KeyError(name)
        if self._hides is not None and self._hides(name.lower()):
            values = ["<redacted>"] * len(values)
        return self._form(values)

    def __contains__(self, name: object) -> bool:
        return name in self._headers

    def __iter__(self) -> Iterator[str]:
        return iter(self._headers)

    def __len__(self) -> int:
        return len(self._headers)

    def formed(self, form: Callable[[list[str]], Any]) -> "HeadersView":
        """The same headers in another form."""
        return HeadersView(self._headers, form, self._hides)

    def redacted(self) -> "HeadersView":
        """The same headers without their credentials."""
        return HeadersView(self._headers, self._form, self._hides or SENSITIVE.__contains__)

    def cookie(self, name: str) -> str:
        """The value of a cookie. Two cookies of one name are an error: which of them an app reads is its own affair."""
        pairs = [
            pair.strip(" \t").partition("=") for header in self._headers.getlist("cookie") for pair in header.split(";")
        ]
        values = [value for found, _, value in pairs if found == name]
        if not values:
            raise cel.Fault("no_such_key", "no such cookie")
        if len(values) > 1:
            raise cel.Fault("repeated", "the cookie was sent several times")
        return "<redacted>" if self._hides is not None and self._hides("cookie") else values[0]


def _of_headers(method: Callable[..., Any]) -> Callable[..., Any]:
    def call(view: Any, *arguments: Any) -> Any:
        if not isinstance(view, HeadersView):
            raise cel.Fault("no_overload", "not the headers of a request")
        return method(view, *arguments)

    return call


def _query(target: str, name: str) -> list[str]:
    values = [value for key, value in parse_qsl(target.partition("?")[2], keep_blank_values=True) if key == name]
    if not values:
        raise cel.Fault("no_such_key", "no such query parameter")
    return values


FUNCTIONS: Final[Mapping[str, Callable[..., Any]]] = {
    "<map(string, dyn)>.redacted() -> map(string, dyn)": _of_headers(HeadersView.redacted),
    "<map(string, dyn)>.join() -> map(string, string)": _of_headers(lambda view: view.formed(",".join)),
    "<map(string, dyn)>.raw() -> map(string, list(string))": _of_headers(lambda view: view.formed(list)),
    "<map(string, dyn)>.split() -> map(string, list(string))": _of_headers(lambda view: view.formed(_split)),
    "<map(string, dyn)>.cookie(string) -> string": _of_headers(HeadersView.cookie),
    "<string>.query(string) -> list(string)": _query,
}
"""`request.headers.cookie("session")`, `request.pathAndQuery.query("k")` and the like, for `cel.compile`."""
