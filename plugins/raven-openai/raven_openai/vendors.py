"""The protocol of a vendor's dialect: what a request of the hub is written as, and how replies are read.

For clients whose own dialect the vendor does not serve. The provider looks it up by the kind of the
hub's request; `raven_openai.responses` exports one for chats as `VENDOR`, which is used where an upstream
says `options.api = "responses"`.
"""

from __future__ import annotations

from typing import Any, Protocol

from raven_proxy.dialects import ProviderSide
from raven_proxy.exchange import Exchange

from .presets import Preset

__all__ = ["Vendor"]


class Vendor(Protocol):
    """One dialect that vendors of this family speak. Stateless.

    `endpoint` is the usual path under the base URL ("chat/completions"); `Preset.endpoints` may differ.
    """

    endpoint: str

    def write_request(self, request: Any, exchange: Exchange, preset: Preset) -> bytes:
        """Write the vendor's body of a request of the hub, which may be changed.

        Notes what was lost in `request.dropped`; the provider judges it. Raises InvalidRequest for what
        cannot be left out without changing the meaning.
        """

    def provider_side(self, exchange: Exchange, preset: Preset) -> ProviderSide:
        """Give the reader of this vendor's replies."""
