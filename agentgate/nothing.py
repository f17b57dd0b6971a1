"""NOTHING: the empty mapping that defaults are, which nobody can put anything into."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})
