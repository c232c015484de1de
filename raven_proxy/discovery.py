"""Asks each provider which models it offers: in the background, at the start and now and then.

A request never waits for it. What a provider said last holds until it says something else, so that a
provider that is down keeps its models; a new pipeline takes over what the old one knew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING

import structlog

from .collector import Collector
from .providers import Listing, ModelInfo
from .refusals import scrub

if TYPE_CHECKING:
    from .pipeline import Pipeline
    from .upstream import Upstream

__all__ = ["ask", "discover", "hand_over", "keep_discovering"]

_log = structlog.get_logger("raven_proxy.discovery")
_MAX_PAGES = 20
_MAX_BYTES = 16 * 2**20  # OpenRouter's list is some 500 KB
_MAX_STORED = (4 * 2**20, 5000)  # bytes of a page, models: where the operator does not say whom to ask
_TIMEOUT_S = 30.0


async def keep_discovering(pipeline: Pipeline) -> None:
    """Discover now and every `models_refresh_s`; 0 never asks anybody."""
    every_s = pipeline.config.models_refresh_s
    while every_s:
        await discover(pipeline)
        await asyncio.sleep(every_s)


async def discover(pipeline: Pipeline) -> None:
    """Ask every upstream of a pipeline at once; what fails is logged and changes nothing."""
    await asyncio.gather(*(ask(upstream) for upstream in pipeline.upstreams.values()))
    pipeline.catalogue.forget()


def hand_over(old: Mapping[str, Upstream], new: Mapping[str, Upstream]) -> None:
    """Let the upstreams of a new pipeline know what those of the old one did."""
    for name, upstream in new.items():
        before = old.get(name)
        if before is not None and (before.preset, before.authority) == (upstream.preset, upstream.authority):
            upstream.learn(before.listed)


async def ask(upstream: Upstream) -> None:
    """Ask one upstream; what fails is logged and changes nothing."""
    provider = upstream.provider
    is_lacking_key = upstream.credential is None and provider.needs_key(upstream.preset)
    if upstream.implicit or is_lacking_key or not isinstance(provider, Listing):
        return
    found: dict[str, ModelInfo] = {}
    page: str | None = None
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            for _ in range(_MAX_PAGES):
                models, page = await _ask_page(upstream, provider, page)
                found |= {model.id: model for model in models}
                if upstream.is_stored and len(found) > _MAX_STORED[1]:
                    raise ValueError(f"more than {_MAX_STORED[1]} models")
                if page is None:
                    break
    except Exception as error:  # whatever a provider or its plugin does, the others are asked
        _log.info("models could not be listed", upstream=upstream.name, reason=scrub(str(error))[:200])
        return
    upstream.learn(found.values())


async def _ask_page(
    upstream: Upstream, provider: Listing, page: str | None
) -> tuple[list[ModelInfo], str | None]:
    outgoing = provider.build_listing(upstream, page)
    if outgoing is None:
        return [], None
    head = upstream.write_request(outgoing)  # first: a key that cannot be sent must cost no connection
    connection = await upstream.acquire(_TIMEOUT_S)
    message = await connection.send(head, outgoing.body, expects_body=True, timeout_s=_TIMEOUT_S)
    most = _MAX_STORED[0] if upstream.is_stored else _MAX_BYTES
    body = await Collector(connection, most, _TIMEOUT_S, _TIMEOUT_S).wait()
    if message.code != 200:
        raise ValueError(f"status {message.code}")
    models, following = provider.read_listing(upstream, body)
    offered = [model for model in models if not upstream.models or upstream.offers(model.id)]
    return offered, following
