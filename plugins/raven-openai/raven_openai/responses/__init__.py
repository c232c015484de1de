"""The Responses API: for clients that speak it, and for upstreams that serve it.

Where both do, bytes pass and replies are metered (`operations`); whose a stored response is, `routing`
knows. Else a request is read into the hub (`requests`, `turns`, `tools`) and the reply written from it
(`objects`, `writer`); and the other way, for clients of other dialects, `vendor` and `reader`.
"""

from __future__ import annotations

from .dialect import FACES, RESPONSES, find_raw_face
from .operations import OPERATIONS
from .vendor import VENDOR

__all__ = ["FACES", "OPERATIONS", "RESPONSES", "VENDOR", "find_raw_face"]
