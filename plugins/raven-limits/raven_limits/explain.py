"""What `/explain` is told of limits: which there are for a request, and how much of each is in use."""

from __future__ import annotations

from raven_proxy import Exchange, Finding, GatewayError
from raven_proxy.counters import Claim, Counters

from .estimates import Estimates
from .rules import MINUTE_S, NO_RULES, RuleBook, describe

__all__ = ["explain"]


async def explain(
    exchange: Exchange, rules: RuleBook, estimates: Estimates, counters: Counters
) -> list[Finding]:
    """Find a request's limits, and say which would refuse it now."""
    principal = exchange.principal
    if principal is None:
        return []
    try:
        found = rules.find(exchange, principal)
    except GatewayError as error:
        return [Finding.refusing("plan", error)]
    if found is NO_RULES:
        reason = "Neither its key nor plan, user, organization or model has a limit."
        return [Finding(rule="limits", verdict="passes_over", reason=reason)]
    estimate = estimates.before(exchange)
    claims = [
        *found.requests,
        *found.slots,
        *(Claim(one.key, min(estimate, one.limit), one.limit, one.window_s) for one in found.tokens),
    ]
    in_use = await counters.used_of(claims)
    return [_judge(claim, used) for claim, used in zip(claims, in_use, strict=True)]


def _judge(claim: Claim, used: int) -> Finding:
    kind = claim.key.split(":", 2)[1]
    per = "at once" if not claim.window_s else "per minute" if claim.window_s == MINUTE_S else "per day"
    what = "requests" if kind == "slots" else kind
    fits = used + claim.amount <= claim.limit
    codes = {"requests": "rate_limit_exceeded", "tokens": "token_limit_exceeded"}
    return Finding(
        rule=f"{what} {per} of {describe(claim)}",
        verdict="allows" if fits else "refuses",
        reason=f"{used:,} of {claim.limit:,} {what} are in use, and it needs {claim.amount:,}.",
        status=None if fits else 429,
        code=None if fits else codes.get(kind, "concurrency_limit_exceeded"),
        details={"limit": claim.limit, "used": used, "needed": claim.amount, "windowSeconds": claim.window_s},
    )
