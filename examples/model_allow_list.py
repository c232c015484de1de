"""Serve a list of models and no others.

Put this file into the folder of `--plugins-dir`, and in the config:

    [plugin.model_allow_list]
    models = ["gpt-4o-mini", "demo/*"]
"""

from fnmatch import fnmatchcase

import msgspec

from raven_proxy import Exchange, Refused, hookimpl


class Plugin:
    """A gate: it looks at every request, and one that it refuses never leaves the gateway."""

    class Config(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
        """`models` are names as clients write them; `*` and `?` stand for any letters."""

        models: tuple[str, ...]

    def __init__(self, config: Config) -> None:
        self._models = config.models

    @hookimpl
    async def check_request(self, exchange: Exchange) -> None:
        """Refuse a model that is not listed, with 403 in the client's own dialect."""
        if exchange.model is None:  # a request about no model, such as GET /v1/models
            return
        if not any(fnmatchcase(exchange.model, pattern) for pattern in self._models):
            raise Refused(
                f"The model {exchange.model!r} is not on the list; use one of {', '.join(self._models)}.",
                code="model_not_allowed",
                param="model",
            )
