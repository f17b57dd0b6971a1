"""The Common Expression Language: text -> cel-python's parser -> our checker -> one flat Python function.

    rule = cel.compile('jwt.sub == "alice" && request.path.startsWith("/v1/")', result="bool")
    rule.evaluate({"jwt": {"sub": "alice"}, "request": {"path": "/v1/chat"}})   # True

Nothing here knows of HTTP, reads a clock or keeps state. An expression cannot loop without bound, grow a value
without bound, or reach Python. cel-python is imported when the first expression is compiled.
"""

from agentgate.cel.errors import CELError, CheckError, CompileError, EvaluationError, ParseError, Problem, Unknown
from agentgate.cel.expression import Expression, Step, compile
from agentgate.cel.time import Duration, Timestamp
from agentgate.cel.types import Struct, Type, TypeLike, closed_map
from agentgate.cel.values import UNKNOWN, Fault, Missing, Optional, Repeated, UInt, to_cel

__all__ = [
    "UNKNOWN",
    "CELError",
    "CheckError",
    "CompileError",
    "Duration",
    "EvaluationError",
    "Expression",
    "Fault",
    "Missing",
    "Optional",
    "ParseError",
    "Problem",
    "Repeated",
    "Step",
    "Struct",
    "Timestamp",
    "Type",
    "TypeLike",
    "UInt",
    "Unknown",
    "closed_map",
    "compile",
    "to_cel",
]
