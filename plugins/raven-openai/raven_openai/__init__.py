"""The plugin `openai`: what OpenAI clients speak, and the vendors that answer in it.

Registers the faces in `registry`, and one provider under "openai" and the name of every row in
`presets` (and of those in `[plugin.openai.presets]`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from raven_proxy.errors import GatewayError
from raven_proxy.exchange import Candidate, Exchange
from raven_proxy.faces import Face, Stage
from raven_proxy.findings import Finding
from raven_proxy.gateway import Gateway
from raven_proxy.hookspecs import hookimpl

from .azure import AzureProvider
from .dialect import CHAT, COMPLETIONS, EMBEDDINGS
from .media.forms import check_form
from .presets import PRESETS, Preset
from .provider import OpenAIProvider
from .registry import FACES
from .responses import routing as stored_responses
from .stored import routing, stages
from .stored.batches import BatchWatch
from .stored.ownership import Ownership

__all__ = ["OpenAI"]

_STATELESS = frozenset({CHAT.name, COMPLETIONS.name, EMBEDDINGS.name})


class OpenAI:
    """OpenAI's chat, completions and embeddings, for clients and towards providers."""

    class Config(msgspec.Struct, forbid_unknown_fields=True):
        """`[plugin.openai]`. `presets` adds vendors, or replaces rows of the built-in table."""

        presets: dict[str, Preset] = {}

    def __init__(self, config: Config) -> None:
        self._provider = OpenAIProvider(PRESETS | config.presets)
        self._ownership: Ownership
        self._batches: BatchWatch

    @hookimpl
    def register_faces(self, register: Callable[[Face], None]) -> None:
        """Offer `/v1/chat/completions`, `/v1/completions` and `/v1/embeddings`."""
        for face in FACES:
            register(face)

    @hookimpl
    def register_providers(self, register: Callable[..., None]) -> None:
        """Offer OpenAI's API under its own name and under each preset's."""
        register(self._provider, presets=self._provider.preset_names())
        register(AzureProvider(), presets=AzureProvider.presets)

    @hookimpl
    async def startup(self, gateway: Gateway) -> None:
        """Bring the table of owners up to date."""
        self._batches = BatchWatch(gateway.publish)
        many = gateway.config.workers > 1
        self._ownership = await Ownership.open(gateway.storage, waits_for_others=many)

    @hookimpl
    async def check_request(self, exchange: Exchange) -> None:
        """Refuse what another organisation owns, and a form whose Content-Type says something else."""
        dialect = exchange.face.dialect.name
        if dialect not in _STATELESS:  # what most requests are; it keeps them from two calls
            check_form(exchange)
            await routing.admit(exchange, self._ownership)
            await stored_responses.admit(exchange, self._ownership)

    @hookimpl
    async def explain_exchange(self, exchange: Exchange) -> list[Finding]:
        """Say where what is stored lies, or that it is another organisation's, or nobody's."""
        if exchange.face.dialect.name in _STATELESS:
            return []
        try:
            await routing.admit(exchange, self._ownership)
            await stored_responses.admit(exchange, self._ownership)
        except GatewayError as error:
            return [Finding.refusing("stored things", error)]
        chosen = await self.choose_upstreams(exchange)
        if not chosen:
            return []
        reason = f"It goes to {chosen[0].upstream.label}, which keeps them."
        return [Finding(rule="stored things", verdict="changes", reason=reason)]

    @hookimpl
    async def choose_upstreams(self, exchange: Exchange) -> Sequence[Candidate] | None:
        """Give the place of what is stored; None for everything else."""
        if not exchange.notes:
            return None
        return routing.choose(exchange) or stored_responses.choose(exchange)

    @hookimpl
    def open_stage(self, exchange: Exchange) -> Stage | None:
        """Note what was made or deleted, and filter lists; None for everything else."""
        return stages.open_stage(exchange, self._ownership, self._batches)
