"""The plugin `cohere`: Cohere's API as a provider, and the face `/v1/rerank` in its dialect."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from raven_proxy.faces import Face
from raven_proxy.hookspecs import hookimpl

from .dialect import FACES
from .provider import CohereProvider

__all__ = ["Cohere"]


class Cohere:
    """Cohere's chat, embeddings and rerank."""

    class Config(msgspec.Struct, forbid_unknown_fields=True):
        """`[plugin.cohere]`: nothing to set."""

    def __init__(self, config: Config) -> None:
        del config
        self._provider = CohereProvider()

    @hookimpl
    def register_faces(self, register: Callable[[Face], None]) -> None:
        """Offer `/v1/rerank`, whoever serves it."""
        for face in FACES:
            register(face)

    @hookimpl
    def register_providers(self, register: Callable[..., None]) -> None:
        """Offer Cohere's API."""
        register(self._provider)
