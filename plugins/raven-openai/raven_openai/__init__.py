"""The plugin `openai`: what OpenAI clients speak, and the vendors that answer in it.

Registers the faces of `dialect`, and one provider under "openai" and the name of every row in
`presets` (and of those in `[plugin.openai.presets]`).
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from raven_proxy.faces import Face
from raven_proxy.hookspecs import hookimpl

from .dialect import FACES
from .presets import PRESETS, Preset
from .provider import OpenAIProvider

__all__ = ["OpenAI"]


class OpenAI:
    """OpenAI's chat, completions and embeddings, for clients and towards providers."""

    class Config(msgspec.Struct, forbid_unknown_fields=True):
        """`[plugin.openai]`. `presets` adds vendors, or replaces rows of the built-in table."""

        presets: dict[str, Preset] = {}

    def __init__(self, config: Config) -> None:
        self._provider = OpenAIProvider(PRESETS | config.presets)

    @hookimpl
    def register_faces(self, register: Callable[[Face], None]) -> None:
        """Offer `/v1/chat/completions`, `/v1/completions` and `/v1/embeddings`."""
        for face in FACES:
            register(face)

    @hookimpl
    def register_providers(self, register: Callable[..., None]) -> None:
        """Offer OpenAI's API under its own name and under each preset's."""
        register(self._provider, presets=self._provider.preset_names())
