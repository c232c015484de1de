"""The protocol of an operation: one thing that vendors of this family do, in OpenAI's own dialect.

The provider looks up the operation by the face's dialect. Chat, completions, embeddings, Responses,
images, audio, moderations, rerank, files and batches are one each, in modules of their own.
"""

from __future__ import annotations

from typing import Protocol

from raven_proxy.exchange import Exchange, Outgoing, ReplyHead
from raven_proxy.faces import Dialect, Stage
from raven_proxy.providers import UsageTap

from .presets import Preset

__all__ = ["Operation"]


class Operation(Protocol):
    """Makes requests and reads replies of one dialect, for every vendor that has it."""

    dialect: Dialect

    def is_served_by(self, preset: Preset) -> bool:
        """Say whether the vendor has this endpoint itself; else the request is translated, or refused."""

    def build(self, exchange: Exchange, preset: Preset, headers: dict[str, str]) -> Outgoing:
        """Make the vendor's request of a client's of the same dialect: bytes stay but for what must change.

        `headers` are what goes on of the client's, with the credential. Not called for raw faces.
        """

    def open_stage(self, exchange: Exchange, head: ReplyHead, preset: Preset) -> Stage | None:
        """Give the stage that the reply needs; None passes bytes untouched. Not called for raw faces."""

    def open_tap(self, exchange: Exchange, head: ReplyHead, preset: Preset) -> UsageTap | None:
        """Meter the reply; None where there is nothing to meter. Called for raw faces too."""
