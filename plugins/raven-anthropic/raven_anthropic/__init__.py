"""The plugin `anthropic`: Anthropic's Messages, for clients and towards the vendors that serve it.

Registers the faces of `dialect`, and one provider under "anthropic" and the name of every row in
`presets` (and of those in `[plugin.anthropic.presets]`). Other packages that reach Claude by another way
use `requests.write` and `provider_side`.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from raven_proxy.exchange import Exchange, Reply
from raven_proxy.faces import Face
from raven_proxy.hookspecs import hookimpl

from .counting import answer_count
from .dialect import FACES, MESSAGES
from .presets import PRESETS, Preset
from .provider import AnthropicProvider
from .provider_side import PROVIDER_SIDE, AnthropicSide

__all__ = ["MESSAGES", "PROVIDER_SIDE", "Anthropic", "AnthropicSide"]


class Anthropic:
    """Anthropic's Messages and the counting of its tokens."""

    class Config(msgspec.Struct, forbid_unknown_fields=True):
        """`[plugin.anthropic]`. `presets` adds vendors, or replaces rows of the built-in table."""

        presets: dict[str, Preset] = {}

    def __init__(self, config: Config) -> None:
        self._provider = AnthropicProvider(PRESETS | config.presets)

    @hookimpl
    def register_faces(self, register: Callable[[Face], None]) -> None:
        """Offer `/v1/messages` and `/v1/messages/count_tokens`."""
        for face in FACES:
            register(face)

    @hookimpl
    def register_providers(self, register: Callable[..., None]) -> None:
        """Offer Anthropic's API under its own name and under each preset's."""
        register(self._provider, presets=self._provider.preset_names())

    @hookimpl
    async def answer(self, exchange: Exchange) -> Reply | None:
        """Estimate a count of tokens where nobody can count."""
        return answer_count(exchange)
