"""Whatever goes wrong, OpenAI's Python client raises the class that its users expect, never a bare end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import openai
import pytest
import pytest_asyncio
from msgspec.structs import replace

from raven_proxy.harness import ADMINISTRATOR
from raven_proxy.mock import MockUpstream

from .clients import MODELS, Client, open_client
from .conftest import VENDOR_KEY, VendorStarter

Opener = Callable[..., Awaitable[Client]]


@pytest_asyncio.fixture(params=["sync", "async"])
async def opened(request: pytest.FixtureRequest, vendor: VendorStarter) -> AsyncIterator[Opener]:
    """Start a gateway, and open a client that speaks to it; options of the gateway in `gateway`."""
    async with AsyncExitStack() as stack:

        async def opener(path: str = "/v1", *, gateway: Any = None, **options: Any) -> Client:
            started = await vendor(models=[*MODELS, "fx-*", "o3"], **(gateway or {}))
            return await stack.enter_async_context(open_client(request.param, started.url + path, **options))

        yield opener


def _check(error: openai.APIStatusError, status: int, code: str, param: str | None = None) -> None:
    """The error carries what the gateway said, in the places where the client's users look."""
    assert (error.status_code, error.code, error.param) == (status, code, param)
    body: Any = error.body
    assert body["status"] == status
    assert body["request_id"] == error.request_id == error.response.headers["X-Request-ID"]
    assert body["message"] in str(error)
    assert VENDOR_KEY not in error.response.text


async def test_an_unknown_model(opened: Opener, upstream: MockUpstream) -> None:
    """An unknown model is a BadRequestError with `param: model`; nobody is called."""
    client = await opened()
    with pytest.raises(openai.BadRequestError) as caught:
        await client.chat(model="no-such-model")
    _check(caught.value, 400, "model_not_found", "model")
    assert caught.value.type == "invalid_request_error"
    assert upstream.seen == []


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "nobody", "content": "?"}]}, "messages[0].role"),
        ({"messages": "Hello"}, "messages"),
        ({"max_tokens": "many"}, "max_tokens"),
        ({"stream_options": 1}, "stream_options"),
    ],
)
async def test_a_malformed_request(opened: Opener, upstream: MockUpstream, wrong: Any, param: str) -> None:
    """A malformed request is a BadRequestError that names the field; nobody is called."""
    client = await opened()
    with pytest.raises(openai.BadRequestError) as caught:
        await client.chat(**wrong)
    _check(caught.value, 400, "bad_request", param)
    assert upstream.seen == []


async def test_a_wrong_key(opened: Opener, upstream: MockUpstream) -> None:
    """A wrong key is an AuthenticationError."""
    client = await opened(api_key="rk_live_nobody")
    with pytest.raises(openai.AuthenticationError) as caught:
        await client.chat()
    _check(caught.value, 401, "invalid_api_key")
    assert upstream.seen == []


async def test_a_missing_scope(opened: Opener, upstream: MockUpstream) -> None:
    """A key without the scope gets a PermissionDeniedError, on the raw path too."""
    for path in ("/v1", "/v1/openai"):
        principal = replace(ADMINISTRATOR, scopes=frozenset({"embeddings:write"}))
        client = await opened(path, gateway={"principal": principal})
        with pytest.raises(openai.PermissionDeniedError) as caught:
            await client.chat()
        _check(caught.value, 403, "missing_scope")
    assert upstream.seen == []


async def test_a_model_that_the_key_may_not_call(opened: Opener, upstream: MockUpstream) -> None:
    """A model outside the key's list is a PermissionDeniedError, on the raw path too."""
    for path in ("/v1", "/v1/openai"):
        principal = replace(ADMINISTRATOR, allowed_models=("mock-*",))
        client = await opened(path, gateway={"principal": principal})
        with pytest.raises(openai.PermissionDeniedError) as caught:
            await client.chat(model="o3")
        _check(caught.value, 403, "model_not_allowed", "model")
    assert upstream.seen == []


async def test_a_model_that_is_not_there(opened: Opener) -> None:
    """Asking for an unknown model's entry is a NotFoundError."""
    client = await opened()
    with pytest.raises(openai.NotFoundError) as caught:
        await client.ask("models.retrieve", model="no/such-model")
    _check(caught.value, 404, "model_not_found", "model")


async def test_a_path_that_is_not_there(opened: Opener) -> None:
    """An endpoint that the gateway does not have is a NotFoundError."""
    client = await opened()
    with pytest.raises(openai.NotFoundError) as caught:
        await client.ask("fine_tuning.jobs.list")
    _check(caught.value, 404, "not_found")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("model", "kind", "status", "code"),
    [
        ("fx-400", openai.BadRequestError, 400, "bad_request"),
        ("fx-401", openai.InternalServerError, 502, "upstream_error"),
        ("fx-403", openai.InternalServerError, 502, "upstream_error"),
        ("fx-404", openai.NotFoundError, 404, "model_not_found"),
        ("fx-409", openai.ConflictError, 409, "conflict"),
        ("fx-422", openai.UnprocessableEntityError, 422, "bad_request"),
        ("fx-429", openai.RateLimitError, 429, "rate_limit_exceeded"),
        ("fx-500", openai.InternalServerError, 500, "upstream_error"),
        ("fx-html-502", openai.InternalServerError, 502, "upstream_error"),
        ("fx-503", openai.InternalServerError, 503, "service_unavailable"),
        ("fx-529", openai.InternalServerError, 503, "upstream_error"),
        ("fx-close", openai.InternalServerError, 502, "upstream_error"),
        ("fx-reset", openai.InternalServerError, 502, "upstream_error"),
        ("fx-bad-header", openai.InternalServerError, 502, "upstream_error"),
    ],
)
async def test_a_provider_that_refuses(
    opened: Opener, model: str, kind: type[openai.APIStatusError], status: int, code: str, stream: bool
) -> None:
    """A provider's refusal has the class of its status; its 401 and 403 are not the caller's doing."""
    client = await opened()
    with pytest.raises(kind) as caught:
        await client.chat(model=model, stream=stream)
    _check(caught.value, status, code)
    if status == 429:
        assert caught.value.response.headers["retry-after"] == "1"


async def test_a_rate_limit_is_obeyed(opened: Opener, upstream: MockUpstream) -> None:
    """The client's own retries understand the gateway's Retry-After, and then get their answer."""
    client = await opened(max_retries=1)
    headers = {"Retry-After": "1"}
    upstream.reply(json={"error": {"message": "Slow down"}}, status=429, headers=headers)
    answer = await client.chat()
    assert answer.choices[0].message.content
    first, second = upstream.seen
    assert second.received_at - first.received_at > 0.7


@pytest.mark.parametrize("path", ["/v1", "/v1/openai"])
@pytest.mark.parametrize(
    "fault", ["reset-mid", "chunk-cut", "stall", "no-done", "error-event", "close-delimited-no-done"]
)
async def test_a_stream_that_breaks(opened: Opener, path: str, fault: str) -> None:
    """A stream that breaks raises APIError after what had come; it never looks like an end."""
    client = await opened(path, gateway={"config": {"idle_timeout_s": 0.3}})
    with pytest.raises(openai.APIError) as caught:
        await client.chat(model=f"fx-{fault}", stream=True)
    assert not isinstance(caught.value, openai.APIStatusError)
    assert caught.value.message


@pytest.mark.parametrize("model", ["fx-short", "fx-reset-mid", "fx-chunk-cut", "fx-stall", "fx-gzip-cut"])
async def test_a_whole_reply_that_breaks(opened: Opener, model: str) -> None:
    """Half a document is never handed on: a reply that broke off is an InternalServerError."""
    client = await opened(gateway={"config": {"idle_timeout_s": 0.3}})
    with pytest.raises(openai.InternalServerError) as caught:
        await client.chat(model=model)
    assert caught.value.status_code in {502, 504}


async def test_a_silent_provider(opened: Opener) -> None:
    """A provider that says nothing is a 504, an InternalServerError, after the gateway's own limit."""
    client = await opened(gateway={"config": {"first_byte_timeout_s": 0.3}})
    with pytest.raises(openai.InternalServerError) as caught:
        await client.chat(model="fx-silent")
    _check(caught.value, 504, "upstream_timeout")


async def test_a_client_that_loses_patience(opened: Opener, upstream: MockUpstream) -> None:
    """The client's own time-out is its APITimeoutError, and the provider is let go at once."""
    client = await opened(timeout=0.4)
    with pytest.raises(openai.APITimeoutError):
        await client.chat(model="fx-silent")
    await upstream.wait_until(lambda: upstream.seen and upstream.seen[0].closed_early)


async def test_a_provider_that_is_not_there(opened: Opener, upstream: MockUpstream) -> None:
    """A provider that cannot be reached is a 502, an InternalServerError."""
    client = await opened()
    await upstream.close()
    with pytest.raises(openai.InternalServerError) as caught:
        await client.chat()
    _check(caught.value, 502, "upstream_error")


async def test_a_plugin_that_fails(opened: Opener, upstream: MockUpstream) -> None:
    """A failing plugin is an InternalServerError that says nothing of the inside; nothing is sent."""
    from raven_proxy.hookspecs import hookimpl

    class Broken:
        @hookimpl
        async def check_request(self) -> None:
            raise RuntimeError("a secret of the inside")

    client = await opened(gateway={"plugins": [Broken()]})
    with pytest.raises(openai.InternalServerError) as caught:
        await client.chat()
    _check(caught.value, 500, "internal_error")
    assert "inside" not in caught.value.response.text
    assert upstream.seen == []
