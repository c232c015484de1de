"""The plugin `gemini`: Google's models, at AI Studio and at Vertex AI.

Registers one provider under "gemini" and "vertex". It has no face of its own: Google's own API is reached
on the raw paths, and OpenAI's and Anthropic's faces are translated.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from raven_proxy.hookspecs import hookimpl

from .provider import GeminiProvider

__all__ = ["Gemini"]


class Gemini:
    """Gemini for clients of any dialect."""

    class Config(msgspec.Struct, forbid_unknown_fields=True):
        """`[plugin.gemini]` has no keys; what there is to say stands in an upstream's `options`."""

    def __init__(self, config: Config) -> None:
        del config
        self._provider = GeminiProvider()

    @hookimpl
    def register_providers(self, register: Callable[..., None]) -> None:
        """Offer AI Studio and Vertex AI."""
        register(self._provider, presets=("vertex",))
