"""How large things may grow. An expression that needs more is refused, at compile time where that can be known."""

MAX_SOURCE = 16 * 1024  # characters of one expression
MAX_DEPTH = 32  # nesting of brackets, and of operations in the tree; the specification asks for 12 to 32
MAX_WORK = 10_000  # steps of one evaluation: elements that macros visit, and what long texts and lists cost (cost.py)
MAX_STRING = 64 * 1024  # characters or bytes of a string that an expression builds
MAX_LIST = 10_000  # elements of a list or map that an expression builds
MAX_PATTERN = 1024  # characters of a regular expression
MAX_NODES = 10_000  # values in one piece of foreign data (a claim, an argument of a tool) that an expression reads
