"""The functions of the language, by topic: each module exports one table, `LIBRARY`.

All of them are pure. There is no clock, no randomness and no look-up: the same input always gives the same decision.
"""

from agentgate.cel.functions import Function, declare
from agentgate.cel.library import (
    collections,
    core,
    encoders,
    formatting,
    mathematics,
    network,
    regex,
    strings,
    temporal,
)

FUNCTIONS: dict[str, Function] = declare(
    entry
    for module in (core, temporal, collections, strings, formatting, regex, mathematics, encoders, network)
    for entry in module.LIBRARY
)
"""Every function and operator, by name. `_+_`, `@in` and the like are what operators are called in the tree."""
