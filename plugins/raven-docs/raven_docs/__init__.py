"""The plugin `docs`: Swagger UI at `/docs`, and `/docs/quickstart`.

Responsible for the two pages and their files. What they tell of the gateway's routes is the core's
`/openapi.json`.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from raven_proxy import Face, hookimpl

from .pages import faces

__all__ = ["Docs"]


class Docs:
    """Serves the pages; with `public = false` to keys with `models:read` only."""

    class Config(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
        """`[plugin.docs]`."""

        public: bool = True

    def __init__(self, config: Config | None = None) -> None:
        self._config = config or Docs.Config()

    @hookimpl
    def register_routes(self, register: Callable[[Face], None]) -> None:
        """Add the pages and what they load."""
        for face in faces(public=self._config.public):
            register(face)
