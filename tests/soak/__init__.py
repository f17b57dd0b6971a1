"""Soak: a real gateway in a process of its own, an upstream that does everything wrong, and many callers at once.

    python -m tests.soak

Every request carries a text that no other has, and every byte of its answer must be of that text: so one caller's byte
in another's answer is found, wherever it comes from. Then the counts must agree: what callers sent, what the upstream
received and answered, what the access log says; and at rest nothing may be left over.

`words` is what both ends agree on, `upstream` and `gateway` are the processes, `callers` who asks, `client` one
connection, `traffic` and `streams` the two loads, `watch` what is sampled meanwhile, `judge` what must hold, `plot` the
picture.
"""
