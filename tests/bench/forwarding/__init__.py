"""What forwarding costs, beside what others do: real servers on loopback, all in one run.

    python -m tests.bench.forwarding

nginx and wrk come from Debian, the Python peers from the extra `bench`. What is missing is left out, and said.
"""
