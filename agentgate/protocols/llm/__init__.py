"""The APIs of LLM providers: which model is asked for, how a refusal is said, and what was used.

Nothing is translated: a request goes on in the API that it came in.
"""

from .apis import ProviderName
from .protocol import LLM

__all__ = ["LLM", "ProviderName"]
