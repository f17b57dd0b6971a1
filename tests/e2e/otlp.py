"""A receiver of OTLP over HTTP on loopback, which decodes what it is sent with the official protobufs."""

import gzip
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from .servers import PATIENCE

KINDS = {1: "INTERNAL", 2: "SERVER", 3: "CLIENT"}


@dataclass(frozen=True)
class Received:
    """One span; ids in hex, `parent` empty for a root."""

    service: str
    scope: str
    name: str
    kind: str
    trace: str
    id: str
    parent: str
    attributes: dict[str, Any] = field(compare=False)


@dataclass
class Receiver:
    """What has come in."""

    port: int = 0
    spans: list[Received] = field(default_factory=list)
    paths: set[str] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def take(self, data: bytes) -> None:
        request = ExportTraceServiceRequest.FromString(data)
        for resource in request.resource_spans:
            (service,) = (a.value.string_value for a in resource.resource.attributes if a.key == "service.name")
            for scope in resource.scope_spans:
                for span in scope.spans:
                    self.spans.append(
                        Received(
                            service,
                            scope.scope.name,
                            span.name,
                            KINDS[span.kind],
                            span.trace_id.hex(),
                            span.span_id.hex(),
                            span.parent_span_id.hex(),
                            {a.key: getattr(a.value, a.value.WhichOneof("value") or "") for a in span.attributes},
                        )
                    )

    def trace_of(self, root: str, *others: str) -> dict[str, Received]:
        """The spans of the trace whose root has this name, by their ids, once spans of the other names are in it."""
        deadline = time.monotonic() + PATIENCE
        while True:
            found = next((span for span in self.spans if span.name == root), None)
            trace = {span.id: span for span in self.spans if found is not None and span.trace == found.trace}
            names = [f"{span.service}: {span.name}" for span in trace.values()]
            if found is not None and all(name in names for name in others):
                return trace
            assert time.monotonic() < deadline, f"no {[root, *others]} among {names} of {self.spans}"
            time.sleep(0.02)


def chains(trace: dict[str, Received]) -> list[list[str]]:
    """Of each span its name and those above it, up to the root. A parent that is not in the trace is a `KeyError`."""
    found = []
    for span in trace.values():
        names = [f"{span.service}: {span.name}"]
        while span.parent:
            span = trace[span.parent]
            names.append(f"{span.service}: {span.name}")
        found.append(names)
    return found


@contextmanager
def receiving() -> Iterator[Receiver]:
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            data = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                data = gzip.decompress(data)
            assert self.headers["content-type"] == "application/x-protobuf"
            receiver.paths.add(self.path)
            receiver.take(data)
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(200)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    receiver.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
