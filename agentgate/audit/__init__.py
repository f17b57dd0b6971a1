"""What an access log tells about many requests at once: who called what, how much was refused and by which rule.

    sources -> lines -> tally -> report (text), page (HTML), document (JSON)

A log may be of any size and hold anything that clients sent, so everything here is bounded, and what it shows is made
harmless where it is shown. It reads logs and nothing else: no policy, no key, no network.
"""
