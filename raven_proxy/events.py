"""What happens beside requests and is worth telling: a budget is spent, a provider is paused.

Who sees it happen calls `Gateway.publish`; who wants to know implements `observe_event`. Neither knows of the
other, and nobody waits.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from typing import Any

import msgspec

__all__ = ["Event"]


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened, once, in one of the processes.

    `type` is two words, "budget.exceeded". `organization_id` is whose it is; None where it is the whole
    gateway's. `data` can be written as JSON and holds no secret. `at` is in Unix seconds. An `id` of the
    publisher's own says of two events that they are the same one, seen by two processes.
    """

    type: str
    organization_id: str | None
    data: Mapping[str, Any]
    id: str = msgspec.field(default_factory=lambda: f"evt_{secrets.token_hex(12)}")
    at: float = msgspec.field(default_factory=time.time)
