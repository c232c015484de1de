"""What a request may cost at most, before anybody knows: what is held until it is settled.

The rule, so that healthy traffic is not locked out and small budgets are not overspent:

- prompt: a third of the body's bytes as tokens (a quarter is usual; JSON and other alphabets are dearer),
  and 1,600 for each attachment, which is left out of the bytes
- answer: what the client allows (`max_tokens` and its like), else what the model can give at most, but no
  more than `assumed_output_tokens`; each of `n` answers counts
- everything at the dearest price that its kind can have (a prompt could be written to a cache)
"""

from __future__ import annotations

import re

from raven_proxy import Exchange, Usage

from .pricing import Tariff, cost_nano

__all__ = ["estimate_nano", "prompt_bound"]

_ATTACHMENT = re.compile(rb"(?<![A-Za-z0-9+/=_-])[A-Za-z0-9+/=_-]{512,}")
_TOKENS_OF_ATTACHMENT = (
    1600  # an image of a megapixel and a half, by Anthropic's formula (width * height / 750)
)


def prompt_bound(body: bytes) -> int:
    """Bound the tokens of a prompt from above, as far as its bytes tell."""
    rest, attachments = _ATTACHMENT.subn(b"", body)
    return -(-len(rest) // 3) + attachments * _TOKENS_OF_ATTACHMENT


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
