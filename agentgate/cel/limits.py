"""How large things may grow. An expression that needs more is refused, at compile time where that can be known."""

MAX_SOURCE = 16 * 1024  # characters of one expression
MAX_DEPTH = 32  # nesting of brackets, and of operations in the tree; the specification asks for 12 to 32
MAX_LOOP = 10_000  # elements visited by all macros of one evaluation together
MAX_STRING = 64 * 1024  # characters or bytes of a string that an expression builds
MAX_LIST = 10_000  # elements of a list or map that an expression builds
MAX_PATTERN = 1024  # characters of a regular expression
