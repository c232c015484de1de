"""The plugin `bedrock`: models on Amazon Bedrock for every client, and Bedrock's own API on raw paths.

Registers one provider. Start reading at `provider`.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from raven_proxy.hookspecs import hookimpl

from .provider import BedrockProvider

__all__ = ["Bedrock"]


class Bedrock:
    """Amazon Bedrock as a provider."""

    class Config(msgspec.Struct, forbid_unknown_fields=True):
        """`[plugin.bedrock]`. Nothing can be set here: all of it is an upstream's."""

    def __init__(self, config: Config) -> None:
        del config
        self._provider = BedrockProvider()

    @hookimpl
    def register_providers(self, register: Callable[..., None]) -> None:
        """Offer Bedrock under its own name."""
        register(self._provider)
