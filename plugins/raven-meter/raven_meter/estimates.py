"""What a request may cost at most, before anybody knows: what is held until it is settled.

The rule, so that healthy traffic is not locked out and small budgets are not overspent:

- prompt: a third of the body's bytes as tokens (a quarter is usual; JSON and other alphabets are dearer),
  and 1,600 for each attachment, which is left out of the bytes
- answer: what the client allows (`max_tokens` and its like), else what the model can give at most, but no
  more than `assumed_output_tokens`; each of `n` answers counts
- everything at the dearest price that its kind can have (a prompt could be written to a cache)
"""

from __future__ import annotations

from raven_proxy import Exchange, Usage
from raven_proxy.providers import prompt_bound

from .pricing import Tariff, cost_nano

__all__ = ["estimate_nano"]


def estimate_nano(
    exchange: Exchange, tariff: Tariff, *, longest: int | None, assumed_output_tokens: int
) -> int:
    """Estimate what an exchange may cost at most, in nano-dollars; `longest` is the model's own bound."""
    call = exchange.call
    answer = call.max_output_tokens
    if answer is None:
        answer = min(longest or assumed_output_tokens, assumed_output_tokens)
    answers = getattr(call, "choices", 1)
    prompt = prompt_bound(exchange.body)
    usual = Usage(
        prompt_tokens=prompt, completion_tokens=answer * answers, images=answers if _draws(exchange) else 0
    )
    written = Usage(prompt_tokens=prompt, completion_tokens=answer * answers, cache_write_tokens=prompt)
    return max(
        cost_nano(usual, tariff), cost_nano(written, tariff) if b"cache_control" in exchange.body else 0
    )


def _draws(exchange: Exchange) -> bool:
    return exchange.face.scope == "images:write"
