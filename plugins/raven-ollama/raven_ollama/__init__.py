"""The plugin `ollama`: Ollama's own API as the provider `ollama_native`.

Ollama's OpenAI-compatible endpoints are the preset `ollama` of the plugin `openai`. This one has what
they lack: `think`, `options`, `keep_alive`, and the raw paths of `/api/…`.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from raven_proxy.hookspecs import hookimpl

from .provider import OllamaProvider

__all__ = ["Ollama"]


class Ollama:
    """Ollama's chat, generate and embed."""

    class Config(msgspec.Struct, forbid_unknown_fields=True):
        """`[plugin.ollama]`: nothing to set."""

    def __init__(self, config: Config) -> None:
        del config
        self._provider = OllamaProvider()

    @hookimpl
    def register_providers(self, register: Callable[..., None]) -> None:
        """Offer Ollama's own API."""
        register(self._provider)
