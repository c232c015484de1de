"""`GET /v1/models`: what this key may call, in the shape of the client that asks.

OpenAI's and Anthropic's clients use the same path; Anthropic's always send `anthropic-version`.
Shapes: OpenAI API reference, models/list; Anthropic API reference, models-list.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

import msgspec

from .errors import NotFound
from .exchange import Exchange, Reply
from .holdings import holding_of
from .paging import make_page
from .providers import ModelInfo

__all__ = ["get_model", "list_models"]

_JSON = {"Content-Type": "application/json"}
_ANTHROPIC_PAGE = 20  # models, where `limit` does not say


async def list_models(exchange: Exchange) -> Reply:
    """Answer `GET /v1/models`. Raises InvalidRequest for a cursor or limit that makes no sense."""
    query = exchange.request.query
    if not _is_anthropic(exchange):
        return _json(make_page([_openai(model) for model in _models(exchange)], query))
    asked = {"limit": str(_ANTHROPIC_PAGE)} | _rename(query)
    page = make_page([_anthropic(model) for model in _models(exchange)], asked)
    del page["object"]
    return _json(page)


async def get_model(exchange: Exchange) -> Reply:
    """Answer `GET /v1/models/{id}`. Raises NotFound for a model that this key may not call, too."""
    wanted = unquote(exchange.params["id"])
    shape = _anthropic if _is_anthropic(exchange) else _openai
    for model in _models(exchange):
        if model.id == wanted:
            return _json(shape(model))
    raise NotFound(f"There is no model {wanted!r} for this key.", code="model_not_found", param="model")


def _models(exchange: Exchange) -> list[ModelInfo]:
    assert exchange.principal is not None
    return exchange.pipeline.catalogue.list_models(exchange.principal, holding_of(exchange))


def _is_anthropic(exchange: Exchange) -> bool:
    return "anthropic-version" in exchange.headers


def _rename(query: Mapping[str, str]) -> dict[str, str]:
    names = {"after_id": "after", "before_id": "before", "limit": "limit"}
    return {names[name]: value for name, value in query.items() if name in names}


def _openai(model: ModelInfo) -> dict[str, Any]:
    return {
        "id": model.id,
        "object": "model",
        "created": model.created,
        "owned_by": model.owned_by,
        "context_window": model.context_window,
        "max_tokens": model.max_tokens,
    }


def _anthropic(model: ModelInfo) -> dict[str, Any]:
    return {
        "type": "model",
        "id": model.id,
        "display_name": model.display_name or model.id,
        "created_at": datetime.fromtimestamp(model.created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "max_input_tokens": model.context_window,
        "max_tokens": model.max_tokens,
    }


def _json(value: Any) -> Reply:
    return Reply(200, dict(_JSON), msgspec.json.encode(value))
