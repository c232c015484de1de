"""What `/explain` is told of money: what a request costs where, and what bounds its caller."""

from __future__ import annotations

import time

from raven_proxy import Exchange, Finding, GatewayError, Principal
from raven_proxy.counters import Counters
from raven_proxy.exchange import Candidate
from raven_proxy.providers import prompt_bound

from .accounting import Accounting
from .books import Books
from .estimates import estimate_nano
from .pricing import dollars, per_million
from .terms import Place, TermBook

__all__ = ["explain"]


async def explain(
    exchange: Exchange, accounting: Accounting, terms: TermBook, books: Books, counters: Counters
) -> list[Finding]:
    """Find prices, the balance and budgets, and say which would refuse the request now."""
    principal = exchange.principal
    if principal is None or exchange.face.serve is not None or exchange.face.dialect.is_free:
        return [Finding(rule="price", verdict="passes_over", reason="It costs nothing.")]
    found: list[Finding] = []
    places: list[Place] = []
    for candidate in exchange.candidates:
        try:
            places.append(terms.price(exchange, candidate))
        except GatewayError as error:
            return [*found, Finding.refusing(f"price of {_name(candidate)}", error)]
        found.append(_price(candidate, places[-1]))
    estimate = estimate_nano(exchange, places, prompt_bound(exchange.body))
    if not estimate and accounting.costs_nothing(exchange, places):
        return [*found, Finding(rule="balance", verdict="passes_over", reason="It costs nothing.")]
    try:
        found += await _bounds(exchange, principal, estimate, accounting, books, counters)
    except GatewayError as error:
        found.append(Finding.refusing("price", error))
    return found


def _name(candidate: Candidate) -> str:
    return f"{candidate.upstream.label}/{candidate.model or '?'}"


def _price(candidate: Candidate, place: Place) -> Finding:
    rule, tariff = f"price of {_name(candidate)}", place.tariff
    if tariff is None:
        reason = "Nobody knows a price, and models without one may pass here: it costs nothing."
        return Finding(rule=rule, verdict="allows", reason=reason)
    prices = per_million(tariff)
    told = ", ".join(f"{kind.replace('_', ' ')} ${amount}" for kind, amount in prices.items())
    details = {"prices": prices, "modelMultiplier": str(tariff.multiplier), "rateMultiplier": str(place.rate)}
    return Finding(rule=rule, verdict="allows", reason=f"{told}.", details=details)


async def _bounds(
    exchange: Exchange,
    principal: Principal,
    estimate: int,
    accounting: Accounting,
    books: Books,
    counters: Counters,
) -> list[Finding]:
    now = time.time()
    bounds = books.bounds(principal, now)
    if not bounds.counters:
        reason = f"No balance and no budget bounds this caller. It may cost ${dollars(estimate)} at most."
        return [Finding(rule="balance", verdict="passes_over", reason=reason), *_others(books, principal)]
    accounting.check_bounded(exchange)
    found = []
    for counter, limit in zip(bounds.counters, bounds.limits, strict=True):
        used = await counters.used(counter)
        name = books.name_of(counter)
        fits = used + estimate <= limit
        is_balance = not counter.startswith("budget:")
        found.append(
            Finding(
                rule=name,
                verdict="allows" if fits else "refuses",
                reason=f"It may cost ${dollars(estimate)}, and ${dollars(max(0, limit - used))} is left.",
                status=None if fits else 402,
                code=None if fits else ("insufficient_balance" if is_balance else "budget_exceeded"),
                details={"limit": dollars(limit), "inUse": dollars(used), "needed": dollars(estimate)},
            )
        )
    return [*found, *_others(books, principal)]


def _others(books: Books, principal: Principal) -> list[Finding]:
    """Say of the organisation's other budgets why they do not count."""
    return [
        Finding(
            rule=f"budget {budget.name!r}",
            verdict="passes_over",
            reason=f"It is the {budget.scope}'s {budget.target_id}.",
        )
        for budget in books.list_budgets()
        if budget.organization_id == principal.organization_id and not budget.applies_to(principal)
    ]
