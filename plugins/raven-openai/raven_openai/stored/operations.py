"""Files, uploads and batches, passed to the vendor that keeps them. Nothing here is metered.

The owner and the place were settled at the gate (`routing`); replies are read in `stages`.
"""

from __future__ import annotations

from raven_openai.operations import Operation
from raven_openai.presets import Preset
from raven_proxy.errors import GatewayError
from raven_proxy.exchange import Exchange, Outgoing, ReplyHead
from raven_proxy.faces import Dialect, Stage
from raven_proxy.providers import UsageTap

from .faces import BATCHES, FILES, UPLOADS
from .routing import NOTE, Placed, query_of

__all__ = ["OPERATIONS"]


class _Passing:
    """One of the dialects."""

    def __init__(self, dialect: Dialect) -> None:
        self.dialect = dialect

    def is_served_by(self, preset: Preset) -> bool:
        """Say whether the vendor has this endpoint itself."""
        return self.dialect.name not in preset.lacks

    def build(self, exchange: Exchange, preset: Preset, headers: dict[str, str]) -> Outgoing:
        """Make the vendor's request: the client's, at the vendor's path."""
        candidate, placed = exchange.candidate, exchange.notes.get(NOTE)
        if candidate is None or not isinstance(placed, Placed) or candidate not in placed.candidates:
            raise GatewayError("This request did not pass the gate for stored things.")
        resource, slash, rest = exchange.face.endpoint.format_map(exchange.params).partition("/")
        resource = preset.endpoints.get(resource, resource)
        target = f"{candidate.upstream.base_path}/{resource}{slash}{rest}{query_of(exchange, placed)}"
        return Outgoing(exchange.request.method, target, headers, exchange.body)

    def open_stage(self, exchange: Exchange, head: ReplyHead, preset: Preset) -> Stage | None:
        """Give nothing: the plugin's own stage serves raw paths too."""
        del exchange, head, preset
        return None

    def open_tap(self, exchange: Exchange, head: ReplyHead, preset: Preset) -> UsageTap | None:
        """Give nothing: what is stored is not metered."""
        del exchange, head, preset
        return None


OPERATIONS: tuple[Operation, ...] = (_Passing(FILES), _Passing(UPLOADS), _Passing(BATCHES))
