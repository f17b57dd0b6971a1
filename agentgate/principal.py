"""Principal: who is asking, once it has been proved. It holds no credential."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from .nothing import NOTHING

# What proved it, as rules name it.
API_KEY: Final = "apiKey"
JWT: Final = "jwt"


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is asking: an `id` that is safe to log, and what is known about them.

    `source` says which kind of credential proved it (`apiKey`, `jwt`, or a name of your own); `attributes` are the
    key's metadata or the token's claims.
    """

    id: str
    source: str = "custom"
    attributes: Mapping[str, Any] = field(default_factory=lambda: NOTHING, repr=False)
