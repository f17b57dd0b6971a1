"""Which route a request took: a gateway's, by its name, or the app's own, by the template of its path."""

from collections.abc import Mapping
from typing import Any

from starlette.routing import Mount

from ..record import Record


def route_of(record: Record) -> str | None:
    """The gateway's name of the route; or the template of the path, where a Starlette or FastAPI app is behind."""
    if record.route is not None:
        return record.route
    scope = record.app_scope
    if scope is None:
        return None
    route: Any = scope.get("route")
    included: Any = scope.get("fastapi")  # a router within another knows only the end of the path
    if isinstance(included, Mapping):
        route = included.get("effective_route_context", route)
    template = "" if isinstance(route, Mount) else getattr(route, "path_format", None)  # of an app without routes: ""
    if not isinstance(template, str):
        return None
    below: str = scope.get("root_path") or ""
    for name, value in (scope.get("path_params") or {}).items():
        if f"{{{name}}}" not in template:  # it is one of a mount's, whose path is there as it was sent
            below = below.replace(f"/{value}", f"/{{{name}}}", 1)
    return below.rstrip("/") + template or "/"
