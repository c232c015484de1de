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

from collections.abc import Iterable

from raven_proxy import Exchange, Usage
from raven_proxy.providers import prompt_bound

from .pricing import Tariff, cost_nano

__all__ = ["estimate_nano", "largest_usage", "tokens_around"]

_TOOLS = frozenset({"tools", "toolConfig", "functions"})


def tokens_around(members: Iterable[str]) -> int:
    """Give what vendors write around a prompt, by the top-level members of its request."""
    return 64 if _TOOLS.isdisjoint(members) else 600


def estimate_nano(
    exchange: Exchange, tariff: Tariff, *, prompt: int, longest: int | None, assumed_output_tokens: int
) -> int:
    """Estimate what an exchange may cost at most, in nano-dollars.

    `prompt` is its body's bound (`prompt_bound`), `longest` the model's own bound of an answer.
    """
    is_marked = b"cache_control" in exchange.body
    if not is_marked and not _draws(exchange):  # most requests
        written, _ = _largest_answer(exchange, longest, assumed_output_tokens)
        usual = tariff.price_text(prompt + tokens_around(exchange.call.members), written)
        if usual is not None:
            return usual
    usage = largest_usage(exchange, longest=longest, assumed_output_tokens=assumed_output_tokens)
    usual = cost_nano(usage, tariff)
    if not is_marked:
        return usual
    usage.images, usage.cache_write_tokens = 0, usage.prompt_tokens
    return max(usual, cost_nano(usage, tariff))


def largest_usage(exchange: Exchange, *, longest: int | None, assumed_output_tokens: int) -> Usage:
    """Give what an exchange may use at most; it is what an endpoint that nobody knows is charged for."""
    prompt = prompt_bound(exchange.body) + tokens_around(exchange.call.members)
    written, answers = _largest_answer(exchange, longest, assumed_output_tokens)
    usage = Usage(prompt_tokens=prompt, completion_tokens=written, total_tokens=prompt + written)
    usage.estimated = True
    if _draws(exchange):
        usage.images = answers
    return usage


def _largest_answer(exchange: Exchange, longest: int | None, assumed_output_tokens: int) -> tuple[int, int]:
    """Give how many tokens all answers together may have, and how many answers that is."""
    call = exchange.call
    answer = call.max_output_tokens
    if answer is None:
        answer = min(longest or assumed_output_tokens, assumed_output_tokens)
    answers = getattr(call, "choices", 1)
    return answer * answers, answers


def _draws(exchange: Exchange) -> bool:
    return exchange.face.scope == "images:write" or exchange.face.opaque  # it may
