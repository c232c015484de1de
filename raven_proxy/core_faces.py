"""The gateway's own routes: health, the list of models, reload."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import msgspec

from .errors import ConfigError, GatewayError, NotFound
from .exchange import Exchange, Reply
from .faces import Face, read_nothing
from .paging import make_page
from .providers import ModelInfo

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

    get = ("GET",)
    plain: dict[str, Any] = {"read_call": read_nothing, "json_body": False}
    return (
        Face(name="live", path="/health/live", methods=get, serve=live, public=True, **plain),
        Face(name="ready", path="/health/ready", methods=get, serve=ready, public=True, **plain),
        Face(name="reload", path="/reload", serve=reload, scope="admin:write", **plain),
        Face(name="models", path="/v1/models", methods=get, serve=_list_models, scope="models:read", **plain),
        Face(
            name="model",
            path="/v1/models/{id:path}",
            methods=get,
            serve=_get_model,
            scope="models:read",
            **plain,
        ),
    )


async def _list_models(exchange: Exchange) -> Reply:
    assert exchange.principal is not None
    models = exchange.pipeline.catalogue.list_models(exchange.principal)
    return _json(make_page([_model(model) for model in models], exchange.request.query))


async def _get_model(exchange: Exchange) -> Reply:
    assert exchange.principal is not None
    wanted = unquote(exchange.params["id"])
    for model in exchange.pipeline.catalogue.list_models(exchange.principal):
        if model.id == wanted:
            return _json(_model(model))
    raise NotFound(f"There is no model {wanted!r} for this key.", code="model_not_found", param="model")


def _model(model: ModelInfo) -> dict[str, Any]:
    return {
        "id": model.id,
        "object": "model",
        "created": model.created,
        "owned_by": model.owned_by,
        "context_window": model.context_window,
        "max_tokens": model.max_tokens,
    }


def _json(value: Any, status: int = 200) -> Reply:
    return Reply(status, dict(_JSON), msgspec.json.encode(value))
