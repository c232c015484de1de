"""Which limits a request has: those of its key and plan, its member, its organisation and its model.

Each limit is one claim on one counter; all are taken together, so that the strictest applies. What a
caller may do is worked out once for each key, not once for each request.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import TypeVar

import msgspec

from raven_proxy import ConfigError, Exchange, GatewayError, Principal
from raven_proxy.config import Plan
from raven_proxy.counters import Claim
from raven_proxy.exchange import Candidate

__all__ = ["DAY_S", "MINUTE_S", "NO_RULES", "RuleBook", "Rules", "describe"]

T = TypeVar("T")
MINUTE_S = 60
DAY_S = 86_400
_MOST_REMEMBERED = 65_536
_OWN = {  # a key's own fields, as `Principal.attributes` has them
    "requests_per_minute": "rate_limit_rpm",
    "requests_per_day": "rate_limit_rpd",
    "tokens_per_minute": "rate_limit_tpm",
    "tokens_per_day": "rate_limit_tpd",
    "max_concurrency": "max_concurrency",
}
_OWNERS = {"key": "this key", "member": "this user", "organization": "this organization"}


class Rules(msgspec.Struct, frozen=True):
    """The claims that a request makes. Those of `tokens` have no amount yet.

    `windows` are those of requests and then of tokens; `fixed` those whose amount is known. Where nothing is
    limited, they are `NO_RULES` itself.
    """

    requests: tuple[Claim, ...] = ()
    tokens: tuple[Claim, ...] = ()
    slots: tuple[Claim, ...] = ()
    windows: tuple[Claim, ...] = ()
    fixed: tuple[Claim, ...] = ()
    slot_keys: tuple[str, ...] = ()

    @classmethod
    def of(cls, requests: tuple[Claim, ...], tokens: tuple[Claim, ...], slots: tuple[Claim, ...]) -> Rules:
        """Make rules of their claims."""
        if not (requests or tokens or slots):
            return NO_RULES
        keys = tuple([slot.key for slot in slots])
        return cls(requests, tokens, slots, requests + tokens, requests + slots, keys)

    def with_others(self, others: Rules) -> Rules:
        """Add the claims of other rules."""
        if others is NO_RULES:
            return self
        return Rules.of(
            self.requests + others.requests, self.tokens + others.tokens, self.slots + others.slots
        )


NO_RULES = Rules()


class RuleBook:
    """The limits of one config. Raises ConfigError for a default plan that does not exist."""

    def __init__(
        self,
        plans: Mapping[str, Plan],
        *,
        default_plan: str | None = None,
        organizations: Mapping[str, Plan] = {},
        members: Mapping[str, Plan] = {},
        models: Mapping[str, Plan] = {},
    ) -> None:
        if default_plan is not None and default_plan not in plans:
            near = difflib.get_close_matches(default_plan, plans, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(plans))}"
            raise ConfigError(f"[plugin.limits] default_plan: there is no plan {default_plan!r}; {hint}")
        self._plans = plans
        self._default_plan = default_plan
        self._organizations = organizations
        self._members = members
        self._models = {pattern: _rules("model", pattern, [plan]) for pattern, plan in models.items()}
        self._of_callers: dict[str, tuple[Principal, Rules]] = {}
        self._of_models: dict[str | None, tuple[tuple[Candidate, ...], Rules]] = {}

    def find(self, exchange: Exchange, principal: Principal) -> Rules:
        """Give all rules of a request. Raises GatewayError (503): the key's plan does not exist."""
        known = self._of_callers.get(principal.key_id)
        # Not by the key's name alone: it may have changed since.
        rules = known[1] if known is not None and known[0] == principal else self._remember(principal)
        if self._models:
            return rules.with_others(self._of_model(exchange))
        return rules

    def _remember(self, principal: Principal) -> Rules:
        rules = self._of_caller(principal)
        if len(self._of_callers) >= _MOST_REMEMBERED:
            self._of_callers.clear()
        self._of_callers[principal.key_id] = principal, rules
        return rules

    def _of_caller(self, principal: Principal) -> Rules:
        attributes = principal.attributes
        own = Plan(**{field: attributes.get(name) for field, name in _OWN.items()})
        name = attributes.get("plan") or self._default_plan
        plans = [own]
        if name is not None:
            if name not in self._plans:
                raise GatewayError(
                    f"The plan {name!r} of this key is not configured; an administrator can add it.",
                    status=503,
                    code="service_unavailable",
                )
            plans.append(self._plans[name])
        rules = _rules("key", principal.key_id, plans)
        member = attributes.get("member_id")
        if member is not None:
            rules = rules.with_others(_rules("member", member, _matching(self._members, (member,))))
        organization = principal.organization_id
        found = _matching(self._organizations, (organization,))
        return rules.with_others(_rules("organization", organization, found))

    def _of_model(self, exchange: Exchange) -> Rules:
        model, candidates = exchange.call.model, exchange.candidates
        known = self._of_models.get(model)
        if known is not None and known[0] is candidates:
            return known[1]
        names = {model or ""}
        for place in candidates:
            bare = place.model or ""
            names |= {bare, f"{place.upstream.name}/{bare}", f"{place.upstream.preset}/{bare}"}
        rules = NO_RULES
        if exchange.face.serve is None:
            for one in _matching(self._models, names):
                rules = rules.with_others(one)
        if len(self._of_models) >= _MOST_REMEMBERED:  # names come from clients
            self._of_models.clear()
        self._of_models[model] = candidates, rules
        return rules


def describe(claim: Claim) -> str:
    """Say in words whose limit a claim is of."""
    _, _, owner, name = claim.key.split(":", 3)
    return _OWNERS.get(owner) or f"all callers of {name} together"


def _matching(table: Mapping[str, T], names: Iterable[str]) -> list[T]:
    return [found for pattern, found in table.items() if any(fnmatchcase(name, pattern) for name in names)]


def _rules(owner: str, name: str, plans: Iterable[Plan]) -> Rules:
    """Make the rules of one owner: of each limit, the lowest that any of the plans sets."""
    found = list(plans)

    def claims(what: str, amount: int, fields: Mapping[str, int]) -> tuple[Claim, ...]:
        key = f"limits:{what}:{owner}:{name}"
        limits = {field: [n for one in found if (n := getattr(one, field)) is not None] for field in fields}
        return tuple(
            Claim(key, amount, min(limits[field]), window_s)
            for field, window_s in fields.items()
            if limits[field]
        )

    return Rules.of(
        claims("requests", 1, {"requests_per_minute": MINUTE_S, "requests_per_day": DAY_S}),
        claims("tokens", 0, {"tokens_per_minute": MINUTE_S, "tokens_per_day": DAY_S}),
        claims("slots", 1, {"max_concurrency": 0}),
    )
