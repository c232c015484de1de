"""What `[plugin.webhooks]` may hold: webhooks of who runs the gateway, beside those of the organisations."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from raven_proxy.config import Secret

__all__ = ["EndpointSettings", "Settings"]


class EndpointSettings(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """One `[[plugin.webhooks.endpoints]]`: it hears the events of every organisation that `organization` (a
    glob) fits, and of the gateway as a whole. Private addresses are refused unless it says otherwise.
    """

    name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,60}\Z")]
    url: str
    secret: Secret
    events: tuple[str, ...] = ("*",)
    organization: str = "*"
    allow_private: bool = False


class Settings(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """`[plugin.webhooks]`.

    `allow_private` lets the webhooks of organisations go to private addresses too, and to http://. What was
    delivered, or could not be, is remembered for `keep_days`.
    """

    allow_private: bool = False
    keep_days: Annotated[int, Meta(ge=1, le=3650)] = 14
    endpoints: tuple[EndpointSettings, ...] = ()
