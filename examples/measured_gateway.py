"""A gateway that Prometheus reads, in front of an upstream at $UPSTREAM or http://127.0.0.1:9000. The metrics are at a
path of the gateway, for everybody who reaches it; `prometheus/` and `grafana/` beside this file have a configuration,
alerts and a dashboard.

In this folder, with `pip install uvicorn prometheus-client` and something that listens there:

    uvicorn measured_gateway:app --port 8080 &
    curl -s localhost:8080/headers > answer
    curl -s -o answer -X DELETE localhost:8080/headers
    curl -s localhost:8080/metrics | grep -v -e _bucket -e _created -e _sum
"""

import os

from agentgate import AccessLog, CELRules, HTTPBackend, Route, create_gateway, shadow

enforced = CELRules(allow={"reading": 'request.method in ["GET", "HEAD"]'})
tried_out = CELRules(deny={"no headers": 'request.path == "/headers"'})

app = create_gateway(
    Route("/", HTTPBackend(os.environ.get("UPSTREAM", "http://127.0.0.1:9000")), name="upstream"),
    authorize=[enforced, shadow(tried_out)],
    observe=[AccessLog()],
    metrics="/metrics",
)
