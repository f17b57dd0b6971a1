"""The conformance suite of the Model Context Protocol, run against a server and against the gateway in front of it."""
