"""How many tokens an exchange counts for: before anybody knows, and once it has ended.

Before, so that healthy traffic is not locked out and a limit is not overrun:

- prompt: a third of the body's bytes, and 1,600 for each attachment, which is left out of the bytes
- answer: what the client allows, up to `counted_output_tokens`; `assumed_output_tokens` where it does not
  say; times the answers it asks for. Vectors, images and sound have none
- images, sound, video and uploads: `minimum_tokens` at least
- lists, polls, files and token counts: nothing

Afterwards what the provider reports counts. What no provider reports counts as estimated, and nothing counts
where no provider produced anything.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from raven_proxy.providers import prompt_bound

if TYPE_CHECKING:
    from raven_proxy import Exchange

__all__ = ["Estimates", "used_tokens"]

_TEXT_SCOPES = frozenset({"chat:write", "embeddings:write"})
_COUNTING = re.compile(r"count-?_?tokens|tokenize", re.IGNORECASE)
_MOST = 2**40  # what anybody reports beyond it is nonsense, and sums must fit into 64 bits


class Estimates(msgspec.Struct, frozen=True):
    """The three figures of the rule above, from the config."""

    assumed_output_tokens: int
    counted_output_tokens: int
    minimum_tokens: int

    def before(self, exchange: Exchange) -> int:
        """Estimate what a request may use; 0 for one that is not counted in tokens."""
        face, call = exchange.face, exchange.call
        if face.serve is not None or exchange.request.method != "POST":
            return 0
        if call.model is None and not face.needs_model and not face.raw:
            return 0
        if "oken" in face.endpoint and _COUNTING.search(face.endpoint):
            return 0
        # Without members it is no JSON object: a form, whose files are no text.
        prompt = prompt_bound(exchange.body) if call.members else 0
        if face.scope not in _TEXT_SCOPES or not call.members:
            return max(prompt, self.minimum_tokens)
        if face.scope != "chat:write":
            return min(prompt, _MOST)
        answer = call.max_output_tokens
        answer = self.assumed_output_tokens if answer is None else min(answer, self.counted_output_tokens)
        return min(prompt + answer * getattr(call, "choices", 1), _MOST)


def used_tokens(exchange: Exchange, estimate: int) -> int:
    """Say what an exchange that ended counts for; `estimate` is what it was admitted with."""
    usage = exchange.usage
    is_text = exchange.face.scope in _TEXT_SCOPES
    if usage is not None:
        used = max(usage.prompt_tokens + usage.completion_tokens, 0)
        if is_text or (used and not usage.estimated):
            return min(used, _MOST)
    return estimate if exchange.produced_bytes else 0
