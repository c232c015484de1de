"""The events that are told, and the patterns by which a webhook asks for them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from types import MappingProxyType

__all__ = ["TEST", "TOPICS", "covers", "find_unknown"]

TEST = "webhook.test"
TOPICS: Mapping[str, str] = MappingProxyType(
    {
        "exchange.failed": "a provider failed, a reply broke off, or the gateway itself did",
        "guardrail.blocked": "a guardrail refused a request or its reply",
        "budget.threshold": "a budget has spent the share that it warns at; once a day",
        "budget.exceeded": "a budget is used up; once a day",
        "balance.low": "an organisation's balance is at a threshold; once a day",
        "batch.finished": "a batch is over, when somebody first asks for it; what it used",
        "provider.threshold": "a provider's day has come to a threshold",
        "provider.paused": "a provider's day has come to its stop",
        "provider.reactivated": "somebody lifted a pause",
        "key.created": "a key was made",
        "key.changed": "a key was changed",
        "key.rotated": "a key has a new secret",
        "key.revoked": "a key was switched off or deleted",
        "audit.recorded": "anything was changed: an entry of the audit log",
    }
)
"""Every event of this project's plugins, and when it is told. Other plugins may publish more."""

_GROUPS = frozenset(name.partition(".")[0] for name in TOPICS)


def covers(patterns: Iterable[str], type: str) -> bool:
    """Say whether a webhook asks for an event: by its name, as "budget.*" for a group, or "*" for all.

    "*" leaves out the audit log, which says again what other events say.
    """
    return any(
        fnmatchcase(type, pattern) and (pattern != "*" or not type.startswith("audit."))
        for pattern in patterns
    )


def find_unknown(patterns: Iterable[str]) -> str | None:
    """Give a pattern that no event can fit; one of another plugin's group is taken as it is."""
    for pattern in patterns:
        if pattern.partition(".")[0] in _GROUPS and not any(fnmatchcase(name, pattern) for name in TOPICS):
            return pattern
    return None
