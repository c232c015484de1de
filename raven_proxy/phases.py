"""The requests of one turn of the event loop go through each phase together.

A request runs through more code than the first caches of a core hold. Ten requests that each go the whole
way bring all of it in ten times; where each waits at the end of a phase for those beside it, a phase is
brought in once for the ten. A few requests gain nothing by that, and do not wait.
"""

from __future__ import annotations

import types
from collections.abc import Generator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .exchange import Exchange

__all__ = ["others"]

_FEW = 4


@types.coroutine
def others(exchange: Exchange) -> Generator[None, None, None]:
    """Let the others come as far as this one, and go on in the loop's next turn."""
    if exchange.pipeline.in_flight > _FEW:
        yield
