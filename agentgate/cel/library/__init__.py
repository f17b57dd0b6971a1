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

_IMPURE = "is not here: the same request must always get the same decision"
_UNPROVEN = "is not here: what nobody has verified decides nothing"
_SECRET = "is not here: rules see that there is a credential, never the credential"
_REWRITES = "is not here: rules decide about a request and do not change it"
_LOGS = "is not here: it makes fields of a log, and rules have none"

REFUSED: dict[str, str] = {
    "random": _IMPURE,
    "uuid": _IMPURE,
    "variables": "is not here: a rule names the variables it reads",
    "unvalidatedJwtPayload": _UNPROVEN,
    "<>.unvalidatedJwtPayload": _UNPROVEN,
    "<>.unredacted": _SECRET,
    "<>.addQuery": _REWRITES,
    "<>.setQuery": _REWRITES,
    "flatten": _LOGS,
    "flattenRecursive": _LOGS,
    "<>.flattenRecursive": _LOGS,
}
"""agentgateway's functions that no expression may call, and why; members are written with `<>.` in front."""

FUNCTIONS: dict[str, Function] = declare(
    entry
    for module in (core, temporal, collections, strings, formatting, regex, mathematics, encoders, network)
    for entry in module.LIBRARY
)
"""Every function and operator, by name. `_+_`, `@in` and the like are what operators are called in the tree."""
