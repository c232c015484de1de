"""The demo provider's models, and its own `GET models`."""

from __future__ import annotations

from typing import Any

from raven_proxy import ModelInfo

__all__ = ["CREATED", "MODELS", "find"]

# A constant: the same request gets the same bytes.
CREATED = 1_735_689_600

MODELS = (
    ModelInfo(id="demo-chat", created=CREATED, owned_by="demo", context_window=128_000, max_tokens=4_096),
    ModelInfo(id="demo-embed", created=CREATED, owned_by="demo", context_window=8_192),
)


def find(endpoint: str) -> dict[str, Any] | None:
    """Answer `models` and `models/{id}` as OpenAI does; None for anything else."""
    if endpoint == "models":
        return {"object": "list", "data": [_show(model) for model in MODELS]}
    return next((_show(model) for model in MODELS if endpoint == f"models/{model.id}"), None)


def _show(model: ModelInfo) -> dict[str, Any]:
    return {"id": model.id, "object": "model", "created": model.created, "owned_by": model.owned_by}
