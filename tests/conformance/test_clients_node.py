"""OpenAI's own Node client, whose `baseURL` alone was changed, works against the gateway.

What it does is in `tests/clients/openai.mjs`; `tests/install` installs the client.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from raven_proxy.harness import ADMIN_KEY
from raven_proxy.mock import MockUpstream

from .clients import MODELS, run_program
from .conftest import VENDOR_KEY, VendorStarter

Scenario = Callable[..., Awaitable[Any]]
_FOLDER = Path(__file__).parents[1] / "clients"


@pytest_asyncio.fixture(params=["/v1", "/v1/openai"])
async def node(request: pytest.FixtureRequest, vendor: VendorStarter) -> Scenario:
    """Run a scenario of `openai.mjs`; give what the client saw."""
    program = _find_node()
    gateway = await vendor(models=[*MODELS, "fx-*"], config={"idle_timeout_s": 1})
    usual = {"url": gateway.url + request.param, "key": ADMIN_KEY}

    async def run(scenario: str, **settings: str) -> Any:
        environment = {f"RAVEN_{name.upper()}": value for name, value in (usual | settings).items()}
        done = await run_program(program, "openai.mjs", scenario, environment=environment, folder=_FOLDER)
        assert done.returncode == 0, done.stderr
        return msgspec.json.decode(done.stdout)

    return run


def _find_node() -> str:
    program = shutil.which("node")
    if program is not None and (_FOLDER / "node_modules" / "openai").is_dir():
        return program
    what = "node is not installed" if program is None else "tests/clients/node_modules is missing"
    reason = f"{what}; run tests/install"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


async def test_chat(node: Scenario, upstream: MockUpstream) -> None:
    """A chat is answered, with the headers that say who answered."""
    seen = await node("chat")
    answer, headers = seen["answer"], seen["headers"]
    assert "What is the weather in Paris?" in answer["choices"][0]["message"]["content"]
    assert answer["usage"]["total_tokens"] > 0
    assert seen["request_id"] == headers["x-request-id"]
    assert (headers["x-raven-provider"], headers["x-raven-model"]) == ("vendor", "mock-small")
    assert upstream.seen[0].key == VENDOR_KEY


async def test_stream(node: Scenario) -> None:
    """A stream brings the text, and the usage chunk to those who ask for it."""
    seen = await node("stream")
    texts = [
        "".join(part["delta"].get("content") or "" for chunk in chunks for part in chunk["choices"])
        for chunks in (seen["plain"], seen["asking"])
    ]
    assert "What is the weather in Paris?" in texts[0]
    assert texts[0] == texts[1]
    assert not any(chunk.get("usage") for chunk in seen["plain"])
    assert seen["asking"][-1]["usage"]["total_tokens"] > 0
    assert len(seen["asking"]) == len(seen["plain"]) + 1


async def test_accumulate(node: Scenario) -> None:
    """The client's own accumulator makes a whole reply of a stream."""
    seen = await node("accumulate")
    choice = seen["final"]["choices"][0]
    assert choice["message"]["content"] == seen["text"] != ""
    assert choice["finish_reason"] == "stop"
    assert seen["final"]["usage"]["total_tokens"] > 0


async def test_tools(node: Scenario) -> None:
    """The client's tool runner calls the tool, sends its result and gets the answer."""
    seen = await node("tools")
    assert seen["calls"] == ["sample"]
    assert "It rains on sample." in seen["content"]


async def test_streamed_tools(node: Scenario) -> None:
    """A streamed tool call is put together from its pieces."""
    choice = (await node("streamed_tools"))["final"]["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["tool_calls"][0]["function"]["arguments"] == '{"city":"sample"}'


async def test_structured_output(node: Scenario) -> None:
    """A zod schema is filled in."""
    assert (await node("structured"))["parsed"] == {"city": "sample", "degrees": 1.5, "tags": ["sample"]}


async def test_embeddings(node: Scenario) -> None:
    """Embeddings are the same packed, which is the client's default, and as floats."""
    seen = await node("embeddings")
    assert [item["index"] for item in seen["packed"]] == [0, 1]
    for packed, plain in zip(seen["packed"], seen["floats"], strict=True):
        assert packed["embedding"] == pytest.approx(plain["embedding"], abs=1e-6)
    assert seen["usage"]["total_tokens"] == 2


async def test_legacy_completions(node: Scenario) -> None:
    """The older endpoint works whole and streamed."""
    seen = await node("completions")
    assert "Once upon a time" in seen["whole"]
    assert seen["streamed"] == seen["whole"]


async def test_models(node: Scenario) -> None:
    """The list names what the key may call, and each of them can be asked for."""
    seen = await node("models")
    assert set(seen["listed"]) == set(MODELS)
    assert seen["one"]["id"] == "mock-large"


async def test_a_stream_that_is_left(node: Scenario, upstream: MockUpstream) -> None:
    """A client that leaves its loop stops the provider at once."""
    assert await node("leave", model="fx-endless") == {"left": True}
    await upstream.wait_until(lambda: upstream.seen and upstream.seen[0].closed_early)


@pytest.mark.parametrize(
    ("scenario", "settings", "kind", "status", "code"),
    [
        ("malformed", {}, "BadRequestError", 400, "bad_request"),
        ("chat", {"key": "rk_live_nobody"}, "AuthenticationError", 401, "invalid_api_key"),
        ("chat", {"model": "fx-404"}, "NotFoundError", 404, "model_not_found"),
        ("chat", {"model": "fx-429"}, "RateLimitError", 429, "rate_limit_exceeded"),
        ("stream", {"model": "fx-429"}, "RateLimitError", 429, "rate_limit_exceeded"),
        ("chat", {"model": "fx-401"}, "InternalServerError", 502, "upstream_error"),
        ("stream", {"model": "fx-503"}, "InternalServerError", 503, "service_unavailable"),
        ("chat", {"model": "fx-short"}, "InternalServerError", 502, "upstream_error"),
        ("stream", {"model": "fx-reset-mid"}, "APIError", None, "upstream_error"),
        ("stream", {"model": "fx-no-done"}, "APIError", None, "upstream_error"),
        ("stream", {"model": "fx-stall"}, "APIError", None, "upstream_timeout"),
        ("accumulate", {"model": "fx-error-event"}, "APIError", None, "overloaded"),
        ("chat", {"model": "fx-silent", "timeout_ms": "300"}, "APIConnectionTimeoutError", None, None),
    ],
)
async def test_errors(
    node: Scenario, scenario: str, settings: dict[str, str], kind: str, status: int | None, code: str | None
) -> None:
    """Whatever goes wrong has the class that users of the client expect; a broken stream never just ends."""
    error = (await node(scenario, **settings))["error"]
    assert error["isApiError"]
    assert (error["kind"], error.get("status"), error.get("code")) == (kind, status, code)
    assert error["message"]


async def test_an_unknown_path(node: Scenario) -> None:
    """An endpoint that nobody has is a NotFoundError."""
    error = (await node("unknown_path"))["error"]
    assert (error["kind"], error["status"]) == ("NotFoundError", 404)
