"""The gateway's own routes: health, models, reload, its plugins, its own description."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta

from .errors import ConfigError, Forbidden, GatewayError
from .exchange import Exchange, Reply
from .explain import explain_face
from .faces import Doc, Face, Query, read_nothing
from .model_list import get_model, list_models
from .plugin_list import plugins_face
from .resources.routes import caller_of

if TYPE_CHECKING:
    from .gateway import Gateway
    from .resources import Caller

__all__ = ["core_faces"]

_JSON = {"Content-Type": "application/json"}


_GET = ("GET",)
_PLAIN: dict[str, Any] = {"read_call": read_nothing, "json_body": False}
_PAGING = (
    Query(name="limit", type=Annotated[int, Meta(ge=1, le=1000)], summary="At most so many; all if left out"),
    Query(name="after", summary="The id of the last one that you have seen"),
    Query(name="before", summary="The id of the first one that you have seen"),
)


class Health(msgspec.Struct):
    """How the gateway is: "ok", or "draining" (503)."""

    status: str


class Reloaded(msgspec.Struct):
    """The plugins that are on now."""

    success: bool
    plugins: list[str]


def core_faces(gateway: Gateway) -> tuple[Face, ...]:
    """Build the faces that need no plugin."""
    return (*_health(gateway), _reload(gateway), explain_face(), plugins_face(), _OPENAPI, *_MODELS)


def _health(gateway: Gateway) -> tuple[Face, ...]:
    async def live(exchange: Exchange) -> Reply:
        del exchange
        return _json({"status": "ok"})

    async def ready(exchange: Exchange) -> Reply:
        del exchange
        if gateway.is_draining:
            return _json({"status": "draining"}, status=503)
        return _json({"status": "ok"})

    alive = Doc(summary="Whether the process answers", tag="gateway", reply=Health)
    willing = Doc(summary="Whether it takes new requests", tag="gateway", reply=Health)
    return (
        Face(name="live", path="/health/live", methods=_GET, serve=live, public=True, doc=alive, **_PLAIN),
        Face(
            name="ready", path="/health/ready", methods=_GET, serve=ready, public=True, doc=willing, **_PLAIN
        ),
    )


def _reload(gateway: Gateway) -> Face:
    async def reload(exchange: Exchange) -> Reply:
        if exchange.principal is None or not exchange.principal.is_operator:
            raise Forbidden("Only who runs the gateway reloads it.")
        if gateway.reload is None:
            raise GatewayError("This gateway was started without a reload.", status=409)
        # A task of its own: a caller who leaves must not leave half a reload behind.
        work = gateway.tasks.spawn(_change_over(gateway, gateway.reload, caller_of(exchange)), "reload")
        failure = await asyncio.shield(work)
        if failure is not None:
            raise GatewayError(
                f"The new configuration is not in force: {failure}", status=400, type="validation_error"
            ) from failure
        return _json({"success": True, "plugins": [plugin.name for plugin in gateway.pipeline.plugins]})

    doc = Doc(summary="Read config and plugins again", tag="gateway", reply=Reloaded)
    return Face(
        name="reload", path="/reload", serve=reload, scope="admin:write", role="owner", doc=doc, **_PLAIN
    )


async def _change_over(
    gateway: Gateway, reload: Callable[[], Awaitable[None]], caller: Caller
) -> ConfigError | None:
    try:
        await reload()
    except ConfigError as error:
        return error
    await gateway.records.note(caller, "gateway.reload", "")
    return None


async def _show_document(exchange: Exchange) -> Reply:
    return Reply(200, dict(_JSON), exchange.pipeline.document())


_OPENAPI = Face(
    name="openapi", path="/openapi.json", methods=_GET, serve=_show_document, public=True,
    doc=Doc(summary="This document", tag="gateway", reply=dict[str, Any]), **_PLAIN,
)  # fmt: skip
_MODELS = (
    Face(
        name="models", path="/v1/models", methods=_GET, serve=list_models, scope="models:read",
        **_PLAIN,
        doc=Doc(summary="What this key may call", tag="models", reply=dict[str, Any], query=_PAGING),
    ),
    Face(
        name="model", path="/v1/models/{id:path}", methods=_GET, serve=get_model, scope="models:read",
        doc=Doc(summary="One model", tag="models", reply=dict[str, Any]), **_PLAIN,
    ),
)  # fmt: skip


def _json(value: Any, status: int = 200) -> Reply:
    return Reply(status, dict(_JSON), msgspec.json.encode(value))
