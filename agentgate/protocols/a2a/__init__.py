"""A2A, 1.0 and 0.3, JSON-RPC and REST: which operation is asked for, how a refusal is said, and whereto cards lead."""

from .protocol import A2A

__all__ = ["A2A"]
