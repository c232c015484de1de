"""What a rule would do with a request: the answer of `explain_exchange` hooks, for `/explain`."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from .errors import GatewayError

__all__ = ["Finding", "Verdict"]

Verdict = Literal["allows", "refuses", "changes", "passes_over"]
"""It lets the request pass, stops it, passes it on changed, or has nothing to do with it."""


class Finding(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One rule, what it would do, and why. `details` are figures and names for who reads on.

    `status` and `code` are those of the error where it refuses. Nothing in it is a secret, nor another
    organisation's.
    """

    rule: str
    verdict: Verdict
    reason: str
    status: int | None = None
    code: str | None = None
    details: dict[str, Any] = {}

    @classmethod
    def refusing(cls, rule: str, error: GatewayError, **details: Any) -> Finding:
        """Say that a rule would answer with an error."""
        return cls(
            rule=rule,
            verdict="refuses",
            reason=error.message,
            status=error.status,
            code=error.code,
            details=details,
        )
