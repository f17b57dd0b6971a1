"""The command `agentgate`: what it is told on the command line, and how its faults are told.

Standard output is for what programs read (the access log, a hash); everything for people goes to standard error.
Exit codes: 0 done, 1 could not listen, 2 a fault in the configuration or on the command line; `explain` has 0 for an
allowed request and 1 for a denied one, `replay` 1 where a call would be decided differently. `keys` never takes a key
from the command line, where every user of the machine could read it.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Final

from .. import __version__
from ..errors import ConfigurationError

MAX_WORKERS: Final = 256
# What the extra `cli` brings; `audit` and `keys` do without.
_EXTRA: Final = ("prometheus_client", "pydantic", "uvicorn", "yaml")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    arguments = _parser().parse_args(argv)
    try:
        run: Callable[[argparse.Namespace], int] = arguments.run
        return run(arguments)
    except ConfigurationError as exc:
        print(*map(printable, exc.faults), sep="\n", file=sys.stderr)  # each begins with its file, where it has one
        return 2
    except KeyboardInterrupt:  # before there was anything to end
        return 130


def printable(text: str) -> str:
    """Without what a terminal would obey; lines and tabs are kept. Files may come from people one does not know."""
    return "".join(c if c.isprintable() or c in "\n\t" else "?" for c in text)


def warn(text: str) -> None:
    """Say what is not as it should be."""
    print(f"agentgate: WARNING: {text}", file=sys.stderr, flush=True)


def complain(text: str, code: int) -> int:
    """Say what is wrong, and return the exit code."""
    print(f"agentgate: {text}", file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="agentgate", description="One policy gate in front of agent traffic.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"agentgate {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    demo = commands.add_parser(
        "demo", help="try it: a gateway that wants an API key, in front of an upstream of its own", allow_abbrev=False
    )
    _serving(demo, _demo)

    serve = commands.add_parser("serve", help="be the gateway that Kubernetes documents describe", allow_abbrev=False)
    _documents(serve)
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    serve.add_argument(
        "--backend",
        action="append",
        default=[],
        metavar="NAMESPACE/NAME:PORT=URL",
        help="where a Service lives, such as httpbin/httpbin:8000=http://127.0.0.1:8000; may be repeated",
    )
    serve.add_argument(
        "--log-file", metavar="PATH", help="write the access log there, where it may be rotated (default: stdout)"
    )
    serve.add_argument(
        "--log-replay", action="store_true", help="log what a policy needs to decide again, claims among it; with json"
    )
    serve.add_argument(
        "--otlp", metavar="URL", help="send traces to this OTLP receiver, such as http://localhost:4318, over HTTP"
    )
    serve.add_argument(
        "--probe-port", type=_port, metavar="PORT", help="port for /healthz and /readyz; without it, there are none"
    )
    serve.add_argument(
        "--drain",
        type=_seconds,
        default=0,
        metavar="SECONDS",
        help="once told to end, how long to go on accepting while /readyz says no (default: %(default)s)",
    )
    serve.add_argument(
        "--grace",
        type=_seconds,
        default=20,
        metavar="SECONDS",
        help="then, how long requests under way may take to end (default: %(default)s)",
    )
    serve.add_argument(
        "--workers", type=_count, default=1, metavar="N", help="processes that share the port (default: %(default)s)"
    )
    serve.add_argument(
        "--session-key-file",
        metavar="PATH",
        help="file with what MCP session ids are sealed with; replicas need the same (default: a random key)",
    )
    _weak_keys(serve)
    serve.add_argument(
        "--metrics-port",
        type=_port,
        metavar="PORT",
        help="port on which Prometheus reads /metrics, with no policy before it; without it, nothing is measured",
    )
    serve.add_argument(
        "--metrics-host",
        default="127.0.0.1",
        metavar="ADDRESS",
        help="address for the --metrics-port (default: %(default)s)",
    )
    _serving(serve, _serve)

    check = commands.add_parser("check", help="list every fault of Kubernetes documents", allow_abbrev=False)
    _documents(check)
    _weak_keys(check)
    check.set_defaults(run=_check)

    explain = commands.add_parser(
        "explain", help="tell what would become of a request, by which rule and why", allow_abbrev=False
    )
    _documents(explain)
    explain.add_argument("--method", help="(default: GET, or POST for a --tool or a --model)")
    explain.add_argument(
        "--path", help="path and query (default: /, /mcp for a --tool, /v1/chat/completions for a --model)"
    )
    explain.add_argument("--host", default="localhost", help="the Host header (default: %(default)s)")
    explain.add_argument(
        "--header", action="append", default=[], metavar="'NAME: VALUE'", help="a header; may be repeated"
    )
    explain.add_argument("--client", default="127.0.0.1", metavar="ADDRESS", help="the peer (default: %(default)s)")
    explain.add_argument("--api-key", metavar="JSON", help="a caller with a key of this metadata")
    explain.add_argument("--jwt", metavar="JSON", help="a caller with a token of these claims")
    explain.add_argument("--body", metavar="FILE", help="what the body holds, for rules that read it")
    explain.add_argument("--tool", metavar="NAME", help="call this tool of an MCP server")
    explain.add_argument("--arguments", metavar="JSON", help="the arguments of the --tool")
    explain.add_argument("--model", metavar="NAME", help="ask this model of an LLM provider")
    explain.set_defaults(run=_explain)

    audit = commands.add_parser(
        "audit", help="tell who called what by an access log, and what was refused by which rule", allow_abbrev=False
    )
    audit.add_argument("files", nargs="+", metavar="FILE", help="access log, gzipped or not; - is standard input")
    audit.add_argument(
        "--by",
        default="principal,called",
        metavar="FIELDS",
        help="what calls are counted by: principal, called, tool, model, route, rule, status, ...; "
        "any field of the log (default: %(default)s)",
    )
    audit.add_argument("--since", metavar="TIME", help="30m, 24h or 7d ago, or a time such as 2026-11-24T10:00:00Z")
    audit.add_argument("--until", metavar="TIME", help="as --since; calls at that time are not counted")
    audit.add_argument("--json", action="store_true", help="print JSON, for programs")
    audit.add_argument("--html", metavar="FILE", help="write a page with charts, too")
    audit.set_defaults(run=_audit)

    replay = commands.add_parser(
        "replay", help="tell which calls of an access log other documents would decide differently", allow_abbrev=False
    )
    replay.add_argument("logs", nargs="+", metavar="LOG", help="access log of --log-replay, gzipped or not; - is stdin")
    replay.add_argument(
        "--against", nargs="+", required=True, metavar="FILE", help="YAML file of Kubernetes documents", dest="files"
    )
    _gateway(replay)
    replay.add_argument("--json", action="store_true", help="print JSON, for programs")
    replay.set_defaults(run=_replay)

    keys = commands.add_parser("keys", help="make and hash API keys", allow_abbrev=False)
    actions = keys.add_subparsers(title="commands", metavar="COMMAND", required=True)
    new = actions.add_parser("new", help="make a key: it is shown once, with its entry for a keys file")
    new.add_argument("--id", help="what the log calls the holder of the key")
    new.set_defaults(run=_keys_new)
    hash = actions.add_parser("hash", help="read a key from standard input and print its hash")
    hash.set_defaults(run=_keys_hash)
    return parser


def _serving(parser: argparse.ArgumentParser, run: Callable[[argparse.Namespace], int]) -> None:
    parser.add_argument("--port", type=_port, default=8080, help="port to listen on (default: %(default)s; 0: any)")
    parser.add_argument(
        "--log-format", choices=("text", "json"), default="text", help="of the access log (default: %(default)s)"
    )
    parser.set_defaults(run=run)


def _documents(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", metavar="FILE", help="YAML file of Kubernetes documents")
    _gateway(parser)


def _gateway(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--gateway", metavar="NAMESPACE/NAME", help="the Gateway that is meant, when there are several")
    parser.add_argument(
        "--listener-port",
        type=_port,
        metavar="PORT",
        help="the port of the listeners that are meant, when they have several",
    )
    parser.add_argument(
        "--public-url", metavar="URL", help="where clients reach the gateway: OAuth clients are told where to log in"
    )


def _weak_keys(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--allow-weak-keys", action="store_true", help="let in keys that are easy to guess or published, with a warning"
    )


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= 65535):
        raise argparse.ArgumentTypeError(f"{text!r} is no port")
    return int(text)


def _seconds(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 6):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds")
    return int(text)


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:5]) <= MAX_WORKERS):
        raise argparse.ArgumentTypeError(f"{text!r} is no number between 1 and {MAX_WORKERS}")
    return int(text)


# Imported when they are needed: the extra may be missing, and uvicorn takes its time.


def _demo(arguments: argparse.Namespace) -> int:
    if _extra_is_missing():
        return 2
    from .demo import demo

    return demo(arguments.port, arguments.log_format)


def _serve(arguments: argparse.Namespace) -> int:
    if _extra_is_missing():
        return 2
    from .serve import serve

    return serve(
        arguments.files,
        host=arguments.host,
        port=arguments.port,
        backends=arguments.backend,
        gateway=arguments.gateway,
        listener_port=arguments.listener_port,
        public_url=arguments.public_url,
        log_format=arguments.log_format,
        log_file=arguments.log_file,
        log_replay=arguments.log_replay,
        allow_weak_keys=arguments.allow_weak_keys,
        metrics_host=arguments.metrics_host,
        metrics_port=arguments.metrics_port,
        otlp=arguments.otlp,
        probe_port=arguments.probe_port,
        drain=arguments.drain,
        grace=arguments.grace,
        workers=arguments.workers,
        session_key_file=arguments.session_key_file,
    )


def _check(arguments: argparse.Namespace) -> int:
    if _extra_is_missing():
        return 2
    from .check import check

    return check(
        arguments.files,
        gateway=arguments.gateway,
        listener_port=arguments.listener_port,
        public_url=arguments.public_url,
        allow_weak_keys=arguments.allow_weak_keys,
    )


def _explain(arguments: argparse.Namespace) -> int:
    if _extra_is_missing():
        return 2
    from .explain import Asked, explain

    asked = Asked(
        method=arguments.method,
        path=arguments.path,
        host=arguments.host,
        headers=arguments.header,
        client=arguments.client,
        api_key=arguments.api_key,
        jwt=arguments.jwt,
        body=arguments.body,
        tool=arguments.tool,
        arguments=arguments.arguments,
        model=arguments.model,
    )
    return explain(
        arguments.files,
        asked,
        gateway=arguments.gateway,
        listener_port=arguments.listener_port,
        public_url=arguments.public_url,
    )


def _audit(arguments: argparse.Namespace) -> int:
    from .audit import audit

    return audit(
        arguments.files,
        by=arguments.by,
        since=arguments.since,
        until=arguments.until,
        as_json=arguments.json,
        html=arguments.html,
    )


def _replay(arguments: argparse.Namespace) -> int:
    if _extra_is_missing():
        return 2
    from .replay import replay

    return replay(
        arguments.logs,
        arguments.files,
        gateway=arguments.gateway,
        listener_port=arguments.listener_port,
        public_url=arguments.public_url,
        as_json=arguments.json,
    )


def _keys_new(arguments: argparse.Namespace) -> int:
    from .keys import new

    return new(arguments.id)


def _keys_hash(arguments: argparse.Namespace) -> int:
    from .keys import hash_one

    return hash_one()


def _extra_is_missing() -> bool:
    missing = [name for name in _EXTRA if find_spec(name) is None]
    if missing:
        complain(f"{', '.join(missing)} not installed: pip install 'agentgate-asgi[cli]'", code=2)
    return bool(missing)
