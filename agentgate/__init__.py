"""agentgate: one policy gate in front of agent traffic."""

__version__ = "0.1.0"
