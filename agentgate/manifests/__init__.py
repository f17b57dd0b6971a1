"""Kubernetes documents to a Gateway: HTTPRoute, Secret, ConfigMap, AgentgatewayPolicy and AgentgatewayBackend, read
strictly from files.

No cluster is asked. What a document says and this version cannot do is a fault with its place, never left out.
"""

from .load import load_gateway

__all__ = ["load_gateway"]
