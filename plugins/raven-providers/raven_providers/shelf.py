"""The upstreams of what is stored: made anew where an account changed, kept with their connections where not.

Keys are opened from their seal here and nowhere else, and live in memory only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import structlog

from raven_proxy import ConfigError, Credential
from raven_proxy.discovery import hand_over
from raven_proxy.holdings import Held, Holding, Holdings
from raven_proxy.providers import Lending, find_provider
from raven_proxy.resources import Record, Records, Resource
from raven_proxy.sealing import SealBroken
from raven_proxy.upstream import Upstream

from .account import Account, Status, config_of
from .rules import judge_place

__all__ = ["Shelf", "lacks_key"]

_log = structlog.get_logger("raven_providers")
_MAKE = ("provider", "base_url", "region", "models", "options", "api_key", "is_enabled")
"""The columns that a change of which makes another upstream; of others it keeps its connections."""


class _Kept(msgspec.Struct):
    columns: tuple[Any, ...]
    upstream: Upstream


class Shelf:
    """The upstreams of one pipeline's stored accounts."""

    def __init__(self, records: Records, resource: Resource[Account], holdings: Holdings) -> None:
        self._records = records
        self._resource = resource
        self._holdings = holdings
        self._kept: dict[str, _Kept] = {}
        self._told: set[tuple[str, Any]] = set()
        self._refreshing = asyncio.Lock()
        self.changed = asyncio.Event()  # there are upstreams that were not there before

    async def refresh(self) -> None:
        """Read what is stored, and put it in the place of what was there."""
        async with self._refreshing:
            records = await self._records.load(self._resource)
            before, self._kept = self._kept, {}
            held: dict[str, list[Held]] = {}
            for record in records:
                if (one := self._hold(record, before)) is not None:
                    held.setdefault(record.organization_id, []).append(one)
            self._holdings.replace({owner: Holding(of_owner) for owner, of_owner in held.items()})
            self._retire(before, {record.id for record in records if record.body.is_enabled})

    def inherit(self, before: Holdings) -> None:
        """Take over what the upstreams of another pipeline know of their models."""
        if before is not self._holdings:
            hand_over(_by_id(before), self.upstreams())

    def upstreams(self) -> dict[str, Upstream]:
        """Map the upstreams by id."""
        return {name: kept.upstream for name, kept in self._kept.items()}

    def asked(self) -> list[Upstream]:
        """List the upstreams that get requests."""
        return [one for one in self.upstreams().values() if one.name in _by_id(self._holdings)]

    def judge(self, record: Record[Account]) -> Status:
        """Say how an account is, but for pauses."""
        if not record.body.is_enabled:
            return "disabled"
        try:
            upstream = self.build(record)
        except ConfigError:
            return "unusable"
        except SealBroken:
            return "unreadable_key"
        upstream.close()
        return "no_key" if lacks_key(upstream) else "active"

    def build(self, record: Record[Account]) -> Upstream:
        """Make the upstream of an account. Raises SealBroken, and ConfigError where it cannot be used."""
        key = self._records.reveal(self._resource, record, "api_key")
        return self._build(record, Credential(key, source="stored") if key is not None else None)

    def close(self) -> None:
        """Let go of all connections."""
        for kept in self._kept.values():
            kept.upstream.close()

    def _hold(self, record: Record[Account], before: Mapping[str, _Kept]) -> Held | None:
        columns = tuple(record.columns[name] for name in _MAKE)
        kept = before.get(record.id)
        if kept is not None and kept.columns == columns:
            kept.upstream.label = record.columns["slug"]
        else:
            upstream = self._make(record)
            if upstream is None:
                return None
            if kept is not None:
                hand_over({record.id: kept.upstream}, {record.id: upstream})
            kept = _Kept(columns, upstream)
            self.changed.set()
        self._kept[record.id] = kept
        body = record.body
        return Held(
            upstream=kept.upstream, priority=body.priority, weight=body.weight, is_active=body.is_enabled,
            lacks_key=lacks_key(kept.upstream),
        )  # fmt: skip

    def _make(self, record: Record[Account]) -> Upstream | None:
        try:
            try:
                return self.build(record)
            except SealBroken as error:
                self._tell(record, str(error))
                return self._build(record, None)  # who brings a key can still use it
        except Exception as error:  # whatever a provider's plugin makes of it: the others are served
            self._tell(record, str(error))
            return None

    def _build(self, record: Record[Account], credential: Credential | None) -> Upstream:
        provider = find_provider(self._holdings.providers, record.body.provider)
        judge_place(record.body, provider, allow_private=self._holdings.allow_private)
        return self._holdings.build(config_of(record.id, record.body), record.columns["slug"], credential)

    def _tell(self, record: Record[Account], reason: str) -> None:
        seen = record.id, record.columns["api_key"]
        if seen not in self._told:
            self._told.add(seen)
            _log.error("a stored provider cannot be used", provider=record.id, reason=reason)

    def _retire(self, before: Mapping[str, _Kept], enabled: Iterable[str]) -> None:
        for name, kept in before.items():
            now = self._kept.get(name)
            if now is not None and now.upstream is kept.upstream:
                continue
            if name in enabled:
                kept.upstream.close()  # who chose it before may still use it
            else:
                kept.upstream.withdraw()


def lacks_key(upstream: Upstream) -> bool:
    provider = upstream.provider
    is_lent = isinstance(provider, Lending) and provider.lends_credentials
    return upstream.credential is None and (is_lent or provider.needs_key(upstream.preset))


def _by_id(holdings: Holdings) -> dict[str, Upstream]:
    return {name: one for holding in holdings.all() for name, one in holding.upstreams().items()}
