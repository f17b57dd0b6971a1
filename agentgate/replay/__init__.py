"""Replay: the calls of an access log, decided again by other policies.

Nothing is sent and nothing is waited for. What the log does not tell is never made up: a decision that rests on it is
none.
"""
