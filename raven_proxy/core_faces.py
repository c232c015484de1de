"""The gateway's own routes: health, models, reload."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from .errors import ConfigError, GatewayError
from .exchange import Exchange, Reply
from .faces import Face, read_nothing
from .model_list import get_model, list_models

if TYPE_CHECKING:
    from .gateway import Gateway

__all__ = ["core_faces"]

_JSON = {"Content-Type": "application/json"}


def core_faces(gateway: Gateway) -> tuple[Face, ...]:
    """Build the faces that need no plugin."""

    async def live(exchange: Exchange) -> Reply:
        del exchange
        return _json({"status": "ok"})

    async def ready(exchange: Exchange) -> Reply:
        del exchange
        if gateway.is_draining:
            return _json({"status": "draining"}, status=503)
        return _json({"status": "ok"})

    async def reload(exchange: Exchange) -> Reply:
        del exchange
        if gateway.reload is None:
            raise GatewayError("This gateway was started without a reload.", status=409)
        try:
            await gateway.reload()
        except ConfigError as error:
            raise GatewayError(
                f"The new configuration is not in force: {error}", status=400, type="validation_error"
            ) from error
        return _json({"success": True, "plugins": [plugin.name for plugin in gateway.pipeline.plugins]})

    async def openapi(exchange: Exchange) -> Reply:
        return Reply(200, dict(_JSON), exchange.pipeline.document())

    get = ("GET",)
    plain: dict[str, Any] = {"read_call": read_nothing, "json_body": False}
    return (
        Face(name="live", path="/health/live", methods=get, serve=live, public=True, **plain),
        Face(name="ready", path="/health/ready", methods=get, serve=ready, public=True, **plain),
        Face(name="reload", path="/reload", serve=reload, scope="admin:write", **plain),
        Face(name="openapi", path="/openapi.json", methods=get, serve=openapi, public=True, **plain),
        Face(name="models", path="/v1/models", methods=get, serve=list_models, scope="models:read", **plain),
        Face(
            name="model",
            path="/v1/models/{id:path}",
            methods=get,
            serve=get_model,
            scope="models:read",
            **plain,
        ),
    )


def _json(value: Any, status: int = 200) -> Reply:
    return Reply(status, dict(_JSON), msgspec.json.encode(value))
