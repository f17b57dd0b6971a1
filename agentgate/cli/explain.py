"""`agentgate explain`: what would become of one request by Kubernetes documents, policy by policy and rule by rule.

Nothing is served or forwarded. What is shown of the request are names: values of headers, parameters and claims may be
secrets, and a terminal has a memory.
"""

import ipaddress
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from ..decision import Decision, Reason, Verdict
from ..errors import ConfigurationError
from ..manifests import load_gateway
from ..observe.access_log import AccessLog
from ..proxy.gateway import Gateway, spoken
from ..request import Request
from ..strict_json import StrictJSONError, loads
from . import printable

_WIDTH: Final = 100
_MIN_WHY: Final = 30  # columns for the last column, however long the names are
_MAX_LINES: Final = 4  # of one sub-expression: where it stands is told, too
_OF_CALLS: Final = (("content-type", "application/json"), ("accept", "application/json, text/event-stream"))
_PORT: Final = 50000  # of a client of which only the address is given


class Asked(NamedTuple):
    """The request, as it stands on the command line."""

    method: str | None
    path: str | None
    host: str
    headers: Sequence[str]
    client: str
    api_key: str | None
    jwt: str | None
    body: str | None  # a file
    tool: str | None
    arguments: str | None  # of the tool
    model: str | None


def explain(
    files: Sequence[str], asked: Asked, *, gateway: str | None, listener_port: int | None, public_url: str | None
) -> int:
    """Print the explanation. Returns 0 where the request is allowed or answered here, 1 where it is denied."""
    request = _request(asked)
    # Whether a key is weak does not matter here: nobody can call.
    unheard = AccessLog(lambda line: None)
    found = load_gateway(
        files,
        gateway=gateway,
        listener_port=listener_port,
        public_url=public_url,
        observe=[unheard],
        allow_weak_keys=True,
        warn=lambda text: None,
    )
    _check_spoken(found, request, asked)
    *answers, stands = found.explain(request, every=True)
    print(*_head(found, request, stands), "", *_table(answers or [stands], stands), "", _last(stands), sep="\n")
    return 0 if stands.effect == "allow" or stands.reason is Reason.DIRECT_RESPONSE else 1


# -- the command line to a request -----------------------------------------------------------------------------------


def _request(asked: Asked) -> Request:
    faults: list[str] = []
    headers = [_header(text, faults) for text in asked.headers]
    client = _client(asked.client, faults)
    api_key, jwt = _members("--api-key", asked.api_key, faults), _members("--jwt", asked.jwt, faults)
    path, body = _call(asked, faults)
    if asked.tool is not None or asked.model is not None:
        headers = [*_OF_CALLS, *headers]
    if faults:
        raise ConfigurationError(faults)
    try:
        return Request.http(
            asked.method or ("GET" if asked.tool is None and asked.model is None else "POST"),
            path,
            host=asked.host,
            headers=headers,
            body=body,
            client=client,
            api_key=api_key,
            jwt=jwt,
        )
    except UnicodeEncodeError:
        raise ConfigurationError("the path, the host or a header has a character that no request can have") from None


def _call(asked: Asked, faults: list[str]) -> tuple[str, bytes]:
    """Path and body: what a client would send that makes this call, so that it is read as one."""
    if sum(one is not None for one in (asked.tool, asked.model, asked.body)) > 1:
        faults.append("--tool, --model and --body: only one of them")
    if asked.tool is None and asked.arguments is not None:
        faults.append("--arguments: they are those of a --tool")
    if asked.tool is not None:
        arguments = _members("--arguments", asked.arguments, faults)
        params = {"name": asked.tool, "arguments": arguments or {}}
        message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
        return asked.path or "/mcp", json.dumps(message).encode()
    if asked.model is not None:
        return asked.path or "/v1/chat/completions", json.dumps({"model": asked.model, "messages": []}).encode()
    return asked.path or "/", _body(asked.body, faults)


def _check_spoken(gateway: Gateway, request: Request, asked: Asked) -> None:
    """Refuse to explain a call that nobody there would take for one."""
    wanted = "mcp" if asked.tool is not None else "llm" if asked.model is not None else None
    route = gateway.match(request)
    if wanted is not None and route is not None and spoken(route.backend) != wanted:
        option, name = ("--tool", "MCP") if wanted == "mcp" else ("--model", "an LLM API")
        raise ConfigurationError(f"{option}: the route {route.name} does not speak {name}")


def _header(text: str, faults: list[str]) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not (colon and name):
        faults.append("--header: it is 'NAME: VALUE'")
    return name, value.strip(" \t")


def _client(text: str, faults: list[str]) -> tuple[str, int]:
    address, _, port = text.rpartition(":")
    for host, number in ((text, str(_PORT)), (address.removeprefix("[").removesuffix("]"), port)):
        try:
            if number.isascii() and number.isdigit() and int(number) <= 65535:
                return str(ipaddress.ip_address(host)), int(number)
        except ValueError:
            pass
    faults.append("--client: it is an IP address, or one with a port, such as 10.0.0.1:50000 or [::1]:50000")
    return "", 0


def _members(option: str, text: str | None, faults: list[str]) -> Mapping[str, Any] | None:
    if text is None:
        return None
    try:
        value = loads(text.encode("utf-8", "surrogateescape"))
    except StrictJSONError as exc:
        faults.append(f"{option}: {exc}")
        return None
    if not isinstance(value, dict):
        faults.append(f"{option}: it is a JSON object")
        return None
    return value


def _body(file: str | None, faults: list[str]) -> bytes:
    try:
        return b"" if file is None else Path(file).read_bytes()
    except OSError as exc:
        faults.append(f"--body: cannot read {file} ({type(exc).__name__})")
        return b""


# -- what is printed -------------------------------------------------------------------------------------------------


def _head(gateway: Gateway, request: Request, stands: Decision) -> Iterator[str]:
    found = gateway.match(request)
    route = "none matches" if found is None else found.name
    yield _plain(f"{request.method} {request.scheme}://{request.authority}{request.path}")
    for name, value in (
        ("query", ", ".join(request.query)),
        ("headers", ", ".join(name for name in request.headers if name != "host")),
        ("client", request.peer[0] if request.peer else ""),
        ("caller", ", ".join(f"{who.id} ({who.source})" for who in request.principals)),
        ("route", "not looked for" if stands.policy == "edge" else route),
    ):
        if value:
            yield f"{name:8} {_plain(value)}"


Row = tuple[bool, str, str, str]
"""Whether it is what stands; what is said; who says it; why."""


def _table(answers: Sequence[Decision], stands: Decision) -> Iterator[str]:
    rows = [row for answer in answers for row in _rows(answer, answer is stands)]
    says = max(len("says"), *(len(row[1]) for row in rows))
    who = max(len("policy, rule"), *(len(row[2]) for row in rows))
    why = max(_MIN_WHY, _WIDTH - 2 - says - 2 - who - 2)
    yield f"  {'says':{says}}  {'policy, rule':{who}}  because"
    yield f"  {'-' * says}  {'-' * who}  {'-' * why}"
    for marked, said, by, because in rows:
        first, *more = _lines(because, why)
        yield f"{'>' if marked else ' '} {said:{says}}  {by:{who}}  {first}".rstrip()
        for line in more:
            yield f"  {'':{says}}  {'':{who}}  {line}"


def _rows(answer: Decision, stands: bool) -> Iterator[Row]:
    effect = answer.effect if answer.enforced else f"{answer.effect}, not enforced"
    yield stands, effect, answer.policy or "", _because(answer)
    for verdict in answer.verdicts:
        who, outcome = f"  {verdict.set} {verdict.rule}", f"  {verdict.outcome}"
        for number, why in enumerate(_whys(verdict) or [""]):
            yield (stands and verdict.decides, outcome, who, why) if number == 0 else (False, "", "", why)


def _because(answer: Decision) -> str:
    if answer.effect == "allow":
        return answer.principal.id if answer.principal else answer.rule or "nothing is against it"
    if answer.verdicts:
        return answer.rule or answer.detail  # how a rule failed stands in its own line
    return ": ".join(filter(None, (answer.rule, answer.detail or answer.message)))


def _whys(verdict: Verdict) -> list[str]:
    """Place and text of each sub-expression; its outcome where that is not the rule's own."""
    return [
        f"{step.line}:{step.column} " + (f"{step.outcome}: " if step.outcome != verdict.outcome else "") + step.text
        for step in verdict.why
    ]


def _last(stands: Decision) -> str:
    if stands.effect == "allow":
        return "allowed"
    if stands.reason is Reason.DIRECT_RESPONSE:
        return f"answered here: {stands.status}"
    return _plain(f"denied: {stands.status} {stands.message}" + (f" ({stands.rule})" if stands.rule else ""))


def _plain(text: str) -> str:
    """In one line."""
    return printable(" ".join(text.split()))


def _lines(text: str, width: int) -> list[str]:
    """Cut where the column ends, as code has no better places. At least one line."""
    text = _plain(text)
    if len(text) > width * _MAX_LINES:
        text = text[: width * _MAX_LINES - 4] + " ..."
    return [text[start : start + width] for start in range(0, len(text), width)] or [""]
