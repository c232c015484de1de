"""Taking what a request needs, all of it or nothing, and giving back what it did not."""

from __future__ import annotations

import asyncio

import msgspec
import structlog

from raven_proxy import Exchange, Face, GatewayError, RateLimited
from raven_proxy.counters import Claim, Denial
from raven_proxy.gateway import Gateway

from .estimates import Estimates, used_tokens
from .headers import show, show_tokens
from .rules import MINUTE_S, NO_RULES, RuleBook, Rules, describe

__all__ = ["Admissions"]

_log = structlog.get_logger("raven_limits.admission")
_NOTE = "limits"
_PAUSE_S = 1.0
_TRIES = 600


class Admission(msgspec.Struct):
    """What an exchange was admitted with, and what of it is still to be settled: tokens and slots."""

    rules: Rules
    estimate: int
    tokens: list[Claim]
    slot_keys: tuple[str, ...]


class Admissions:
    """Counts the exchanges of one pipeline."""

    def __init__(self, gateway: Gateway, rules: RuleBook, estimates: Estimates) -> None:
        self._counters = gateway.counters
        self._tasks = gateway.tasks
        self._rules = rules
        self._estimates = estimates

    def find(self, exchange: Exchange) -> Rules | None:
        """Give what limits a request; None where nothing does. Raises GatewayError (503)."""
        principal = exchange.principal
        if principal is None or not _is_counted(exchange.face):
            return None
        rules = self._rules.find(exchange, principal)
        if rules is not NO_RULES:
            return rules
        exchange.notes[_NOTE] = None
        return None

    async def admit(self, exchange: Exchange, rules: Rules) -> None:
        """Take a request, its tokens and a slot. Raises RateLimited (429)."""
        estimate, claims = 0, rules.fixed
        tokens: list[Claim] = []
        if rules.tokens:
            estimate = self._estimates.before(exchange)
            if estimate:
                # What is over a limit by itself counts as all of it: admitted when nothing else is in use.
                tokens = [Claim(c.key, min(estimate, c.limit), c.limit, c.window_s) for c in rules.tokens]
                claims = (*claims, *tokens)
        denial = await self._counters.take(claims)
        # What is left of the tokens is told of a whole reply when it is known, just before it leaves.
        is_final = not tokens or exchange.stream or denial is not None
        if denial is None and (tokens or rules.slots):
            exchange.notes[_NOTE] = Admission(rules, estimate, tokens, rules.slot_keys)
        else:
            exchange.notes[_NOTE] = None
        await show(self._counters, rules, exchange.response_headers, tokens=is_final)
        if denial is not None:
            raise _refusal(denial, estimate)

    def settle(self, exchange: Exchange) -> None:
        """Give the slot back, and count the tokens that were really used."""
        admission = exchange.notes.get(_NOTE, self)
        if admission is None:  # nothing is held
            return
        if admission is not self:
            self._tasks.begin(self._give_back(exchange, admission), "limits")
        elif exchange.principal is not None and _is_counted(exchange.face):
            self._tasks.begin(self._show_uncounted(exchange), "limits")

    async def _give_back(self, exchange: Exchange, admission: Admission) -> None:
        counters, rules, tokens = self._counters, admission.rules, admission.tokens
        used = used_tokens(exchange, admission.estimate) if tokens else 0
        is_whole = not exchange.stream  # its headers are still to be written
        for _ in range(_TRIES):
            try:
                while tokens:
                    claim = tokens[-1]
                    if used != claim.amount:
                        await counters.correct(claim.key, claim.window_s, used - claim.amount)
                    tokens.pop()
                if admission.slot_keys:
                    await counters.settle(admission.slot_keys, 1, 0)
                    admission.slot_keys = ()
                if rules.tokens and is_whole:
                    await show_tokens(counters, rules, exchange.response_headers)
                return
            except GatewayError:  # somebody else holds the counters for long
                is_whole = False
                await asyncio.sleep(_PAUSE_S)
        _log.error("what a request held could not be given back", request_id=exchange.id)

    async def _show_uncounted(self, exchange: Exchange) -> None:
        """Tell the limits to a caller whose request was refused before it was counted."""
        principal = exchange.principal
        if principal is None:
            return
        try:
            rules = self._rules.find(exchange, principal)
            await show(self._counters, rules, exchange.response_headers)
        except GatewayError:
            return  # it is an error already


def _is_counted(face: Face) -> bool:
    """Say whether a face is part of the proxy API: managing the gateway is not limited."""
    return face.serve is None or face.path.startswith("/v1/")


def _refusal(denial: Denial, estimate: int) -> RateLimited:
    claim = denial.claim
    wait_s = denial.retry_after_s or 1.0
    whose = describe(claim)
    if not claim.window_s:
        return RateLimited(
            f"Concurrency limit reached: {claim.limit:,} requests at once for {whose}. "
            "Try again when one has ended.",
            retry_after_s=wait_s,
            code="concurrency_limit_exceeded",
        )
    per = "minute" if claim.window_s == MINUTE_S else "day"
    again = f"Try again in {max(1, -int(-wait_s // 1))} s."
    if claim.key.startswith("limits:requests:"):
        return RateLimited(
            f"Rate limit reached: {claim.limit:,} requests per {per} for {whose}. {again}",
            retry_after_s=wait_s,
        )
    needs = f"this request may need {estimate:,}"
    if estimate > claim.limit:
        needs += ", which is more than the limit, so it has to wait until nothing else is in use"
    return RateLimited(
        f"Token limit reached: {claim.limit:,} tokens per {per} for {whose}; {denial.used:,} are in use, and "
        f"{needs}. {again}",
        retry_after_s=wait_s,
        code="token_limit_exceeded",
    )
