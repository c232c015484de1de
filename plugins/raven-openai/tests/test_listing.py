"""A vendor's list of its models, in the shapes that were seen."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from raven_openai.listing import build_listing, read_listing

from raven_proxy import Credential
from raven_proxy.discovery import discover
from raven_proxy.mock import MockUpstream, ScriptedReply

UPSTREAM: Any = SimpleNamespace(preset="groq", base_path="/v1", credential=Credential("sk-listing"))


@pytest.mark.parametrize(
    ("row", "window", "limit"),
    [
        ({"id": "m"}, None, None),
        ({"id": "m", "context_window": 131072, "max_completion_tokens": 8192}, 131072, 8192),
        ({"id": "m", "context_length": 200000}, 200000, None),
        ({"id": "m", "max_context_length": 32768}, 32768, None),
        ({"id": "m", "max_model_len": 4096}, 4096, None),
        ({"id": "m", "context_length": None, "context_window": "many", "max_output_tokens": 0}, None, None),
    ],
)
@pytest.mark.parametrize("is_bare", [False, True])
def test_what_lookalikes_say_of_a_model_is_read(row: Any, window: Any, limit: Any, is_bare: bool) -> None:
    [model] = read_listing(UPSTREAM, msgspec.json.encode([row] if is_bare else {"data": [row]}))
    assert (model.id, model.context_window, model.max_tokens) == ("m", window, limit)


def test_a_row_without_a_usable_name_is_passed_over() -> None:
    rows = [{"id": 5}, {}, {"id": ""}, {"id": "a\nb"}, {"id": "x" * 600}, {"id": "m", "owned_by": "them"}]
    [model] = read_listing(UPSTREAM, msgspec.json.encode({"data": rows}))
    assert (model.id, model.owned_by) == ("m", "them")


@pytest.mark.parametrize("body", [b"", b"<html>", b"{}", b'{"data": 5}', b'"x"', b"[1]"])
def test_anything_else_is_an_error(body: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        read_listing(UPSTREAM, body)


def test_it_is_asked_for_with_the_key() -> None:
    asked = build_listing(UPSTREAM)
    assert (asked.method, asked.target, asked.headers) == (
        "GET", "/v1/models", {"authorization": "Bearer sk-listing"},
    )  # fmt: skip


async def test_what_a_vendor_lists_is_found_by_its_bare_name(raven: Any, upstream: MockUpstream) -> None:
    """And shown by `GET /v1/models`."""
    gateway = await raven(upstreams=[upstream], base=("openai",))
    upstream.script(ScriptedReply.of_json({"data": [{"id": "listed", "created": 7}]}))
    await discover(gateway.gateway.pipeline)
    async with gateway.client.get("/v1/models") as reply:
        [model] = (await reply.json())["data"]
    assert (model["id"], model["created"], model["owned_by"]) == ("listed", 7, "openai")
    [place] = gateway.gateway.pipeline.catalogue.resolve("listed")
    assert place.upstream.name == "mock"
