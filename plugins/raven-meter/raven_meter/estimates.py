"""What a request may cost at most, before anybody knows: what is held until it is settled.

The rule, so that healthy traffic is not locked out and small budgets are not overspent:

- prompt: a third of the body's bytes as tokens (a quarter is usual; JSON and other alphabets are dearer),
  1,600 for each attachment, which is left out of the bytes, and what vendors write around a prompt: 64
  tokens, or 600 where tools are offered (measured: the README has the table)
- answer: what the client allows (`max_tokens` and its like), else what the model can give at most, but no
  more than `assumed_output_tokens`; each of `n` answers counts
- everything at the dearest price that its kind can have (a prompt could be written to a cache)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from raven_proxy import Exchange, Usage
from raven_proxy.providers import prompt_bound

from .pricing import ONE, cost_nano
from .terms import Place

__all__ = ["estimate_nano", "largest_usage", "tokens_around"]

_TOOLS = frozenset({"tools", "toolConfig", "functions"})


def tokens_around(members: Iterable[str]) -> int:
    """Give what vendors write around a prompt, by the top-level members of its request."""
    return 64 if _TOOLS.isdisjoint(members) else 600


def estimate_nano(exchange: Exchange, places: Sequence[Place], prompt: int) -> int:
    """Estimate what an exchange may cost at most at the dearest of places, in nano-dollars.

    `prompt` is its body's bound (`prompt_bound`).
    """
    call, most = exchange.call, 0
    is_marked = b"cache_control" in exchange.body
    is_usual = not is_marked and not _draws(exchange)  # most requests
    prompt += tokens_around(call.members)
    answers, allowed = getattr(call, "choices", 1), call.max_output_tokens
    for place in places:
        tariff = place.tariff
        if tariff is None:
            continue
        written = (place.answer if allowed is None else allowed) * answers
        estimate = tariff.price_text(prompt, written) if is_usual else None
        if estimate is None:
            usage = _usage_of(exchange, prompt, written, answers)
            estimate = cost_nano(usage, tariff)
            if is_marked:
                usage.images, usage.cache_write_tokens = 0, usage.prompt_tokens
                estimate = max(estimate, cost_nano(usage, tariff))
        if place.rate is not ONE:
            estimate = int(estimate * place.rate)
        if estimate > most:
            most = estimate
    return most


def largest_usage(exchange: Exchange, answer: int) -> Usage:
    """Give what an exchange may use at most; it is what an endpoint that nobody knows is charged for.

    `answer` is how many tokens count for one whose length the client leaves open.
    """
    call = exchange.call
    prompt = prompt_bound(exchange.body) + tokens_around(call.members)
    answers = getattr(call, "choices", 1)
    written = (answer if call.max_output_tokens is None else call.max_output_tokens) * answers
    return _usage_of(exchange, prompt, written, answers)


def _usage_of(exchange: Exchange, prompt: int, written: int, answers: int) -> Usage:
    usage = Usage(prompt_tokens=prompt, completion_tokens=written, total_tokens=prompt + written)
    usage.estimated = True
    if _draws(exchange):
        usage.images = answers
    return usage


def _draws(exchange: Exchange) -> bool:
    return exchange.face.scope == "images:write" or exchange.face.opaque  # it may
