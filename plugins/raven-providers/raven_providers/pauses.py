"""Whether an account is paused, and how that ends: the affair of the plugin that pauses upstreams."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from raven_proxy.plugins import Plugin
from raven_proxy.storage import Transaction

__all__ = ["Pauses"]


class _Pausing(Protocol):
    def is_paused(self, upstream: str, organization_id: str) -> bool:
        """Say whether an upstream is paused for an organisation."""

    async def lift_pause(self, transaction: Transaction, upstream: str, organization_id: str) -> None:
        """End the pause."""


class Pauses:
    """What another plugin knows of pauses; without one, nothing is paused."""

    def __init__(self, plugins: Callable[[], Iterable[Plugin]]) -> None:
        self._plugins = plugins

    def is_paused(self, record_id: str, organization_id: str) -> bool:
        """Say whether an account is paused."""
        plugin = self._find()
        return plugin is not None and plugin.is_paused(record_id, organization_id)

    async def lift(self, transaction: Transaction, record_id: str, organization_id: str) -> None:
        """End a pause together with a change that is being written."""
        plugin = self._find()
        if plugin is not None:
            await plugin.lift_pause(transaction, record_id, organization_id)

    def _find(self) -> _Pausing | None:
        for plugin in self._plugins():
            instance: Any = plugin.instance
            if hasattr(instance, "lift_pause"):
                found: _Pausing = instance
                return found
        return None
