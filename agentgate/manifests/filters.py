"""The filters of HTTPRoute documents to filters, each made once for a rule; what is wrong with them is noted."""

from collections.abc import Callable, Sequence
from typing import Any

from ..errors import ConfigurationError
from ..proxy.cors import CORS
from ..proxy.destination import Backend
from ..proxy.filters import Filter
from ..proxy.header_changes import RequestHeaders, ResponseHeaders
from ..proxy.mirror import Mirror
from ..proxy.targets import Redirect, Rewrite
from .filter_kinds import CORSFilter, HeaderModifier, ObjectRef, RequestRedirect, RouteFilter, URLRewrite
from .read import Document, Faults
from .route_kinds import HTTPRoute

BackendOf = Callable[[ObjectRef, str], Backend | None]
"""The backend that a reference at a place leads to; None where it leads nowhere."""


def make_filters(
    route: Document[HTTPRoute], written: Sequence[RouteFilter], path: str, backend_of: BackendOf, faults: Faults
) -> list[Filter]:
    """The filters at this place of a route. A mirror that leads nowhere is left out, as the Gateway API says."""
    made: list[Filter] = []
    for number, one in enumerate(written):
        place = f"{path}[{number}]"
        try:
            found = _make(one, place, backend_of)
        except ConfigurationError as exc:
            for text in exc.faults:
                faults.add(route.at(place, text), route.order)
        else:
            if found is not None:
                made.append(found)
    return made


def _make(one: RouteFilter, place: str, backend_of: BackendOf) -> Filter | None:
    if one.request_header_modifier is not None:
        return RequestHeaders(**changes(one.request_header_modifier))
    if one.response_header_modifier is not None:
        return ResponseHeaders(**changes(one.response_header_modifier))
    if one.request_redirect is not None:
        return _redirect(one.request_redirect)
    if one.url_rewrite is not None:
        return Rewrite(**_target(one.url_rewrite))
    if one.request_mirror is not None:
        backend = backend_of(one.request_mirror.backend_ref, f"{place}.requestMirror.backendRef")
        return None if backend is None else Mirror(backend, fraction=one.request_mirror.share)
    return None if one.cors is None else cors(one.cors)


def changes(written: HeaderModifier) -> dict[str, Any]:
    return {
        "set": {one.name: one.value for one in written.set},
        "add": {one.name: one.value for one in written.add},
        "remove": written.remove,
    }


def _target(written: URLRewrite) -> dict[str, str | None]:
    path = written.path
    return {
        "host": written.hostname,
        "path": None if path is None else path.replace_full_path,
        "prefix": None if path is None else path.replace_prefix_match,
    }


def _redirect(written: RequestRedirect) -> Redirect:
    return Redirect(scheme=written.scheme, port=written.port, status=written.status_code, **_target(written))


def cors(written: CORSFilter) -> CORS:
    return CORS(
        written.allow_origins,
        methods=written.allow_methods,
        headers=written.allow_headers,
        expose=written.expose_headers,
        credentials=written.allow_credentials,
        max_age=written.max_age,
    )
