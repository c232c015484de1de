"""The plugin `access`: an organisation's networks, the regions its data may go to, and its domains.

Responsible for saying no in time: before routing for what cannot be served at all, and once more before
each attempt, whoever chose its place. What an organisation allows stands in its settings
(`Gateway.organizations`); here it is enforced.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from raven_proxy import Exchange, Finding, Forbidden, GatewayError, hookimpl
from raven_proxy.findings import Verdict
from raven_proxy.gateway import Gateway
from raven_proxy.headers import is_inside
from raven_proxy.organizations import Organization, Organizations
from raven_proxy.resources import Resource

from .domains import MIGRATIONS, Domains, host_of
from .networks import parse_networks
from .residency import keep_allowed, violation

__all__ = ["Access"]


class Access:
    """Refuses by address (403 `ip_not_allowed`), region (`data_residency_violation`) and host."""

    class Config(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
        """`[plugin.access]`.

        `nameservers` are asked for the TXT records of domains ("192.0.2.53", "192.0.2.53:5353" or an IPv6
        address); empty: those of the system. A claim to a domain that nobody proved ends after `claim_days`.
        """

        nameservers: tuple[str, ...] = ()
        claim_days: int = 7

    def __init__(self, config: Config | None = None) -> None:
        self._config = config or Access.Config()
        self._domains = Domains(self._config.nameservers, self._config.claim_days)
        self._organizations: Organizations
        self._stop_watching: Callable[[], None] | None = None

    @hookimpl
    def register_resources(self, register: Callable[[Resource[Any]], None]) -> None:
        """Add `/domains`."""
        register(self._domains.resource)

    @hookimpl
    async def startup(self, gateway: Gateway) -> None:
        """Read which hosts are whose, and again whenever that changes."""
        await gateway.storage.migrate("access", MIGRATIONS)
        self._organizations = gateway.organizations
        self._stop_watching = gateway.storage.watch(
            self._domains.resource.name, lambda: self._domains.refresh(gateway.records)
        )
        await self._domains.refresh(gateway.records)

    @hookimpl
    async def shutdown(self) -> None:
        """Watch no longer."""
        if self._stop_watching is not None:
            self._stop_watching()

    @hookimpl
    async def check_request(self, exchange: Exchange) -> None:
        """Refuse a caller from elsewhere, on another's host, or for whom no region is left."""
        principal = exchange.principal
        assert principal is not None
        bound_to = self._domains.owner_of(host_of(exchange.headers)) if self._domains.are_any else None
        if bound_to is not None and bound_to != principal.organization_id and not principal.is_operator:
            raise Forbidden("This host belongs to another organisation; use your own, or the gateway's.")
        organization = self._organizations.get(principal.organization_id)
        if organization is None:
            return
        _check_address(exchange, organization)
        if organization.allowed_regions is not None and exchange.candidates:
            exchange.candidates = keep_allowed(exchange.candidates, organization)

    @hookimpl
    async def before_send(self, exchange: Exchange) -> None:
        """Refuse an attempt whose place is not allowed: a hook may have chosen one that was not judged."""
        principal, candidate = exchange.principal, exchange.candidate
        assert principal is not None
        assert candidate is not None
        organization = self._organizations.get(principal.organization_id)
        if organization is not None and not organization.allows(candidate.upstream.region):
            raise violation(organization)

    @hookimpl
    async def explain_exchange(self, exchange: Exchange) -> list[Finding]:
        """Say whether host, address and regions would do, and which places are left out."""
        principal = exchange.principal
        assert principal is not None
        before = exchange.candidates
        organization = self._organizations.get(principal.organization_id)
        try:
            await self.check_request(exchange)
        except GatewayError as error:
            return [Finding.refusing("access", error)]
        if organization is None or (
            organization.ip_allowlist is None and organization.allowed_regions is None
        ):
            reason = "The organization allows every address and every region."
            return [Finding(rule="access", verdict="passes_over", reason=reason)]
        kept = set(exchange.candidates)
        left_out = [one.upstream.label for one in before if one not in kept]
        found = []
        if organization.ip_allowlist is not None:
            reason = f"{exchange.client_address} is in the organization's allowlist."
            found.append(Finding(rule="address", verdict="allows", reason=reason))
        if organization.allowed_regions is not None:
            regions = ", ".join(organization.allowed_regions)
            reason = f"Allowed are {regions}." + (f" Left out: {', '.join(left_out)}." if left_out else "")
            verdict: Verdict = "changes" if left_out else "allows"
            found.append(Finding(rule="data residency", verdict=verdict, reason=reason))
        return found


def _check_address(exchange: Exchange, organization: Organization) -> None:
    if organization.ip_allowlist is None:
        return
    if not is_inside(exchange.client_address, parse_networks(organization.ip_allowlist)):
        raise Forbidden("This organisation may not be used from this address.", code="ip_not_allowed")
