"""The demo through a real gateway: faces, raw paths, metering, errors."""

import asyncio
from typing import Any

import msgspec
import pytest

from raven_proxy import Exchange, Outcome, Usage, hookimpl

QUESTION = {"messages": [{"role": "user", "content": "What is a raven?"}]}
CHAT = "/v1/chat/completions"


class Witness:
    """Keeps every exchange that ended."""

    def __init__(self) -> None:
        self.ended: list[Exchange] = []

    @hookimpl
    async def finish_exchange(self, exchange: Exchange) -> None:
        self.ended.append(exchange)

    async def next(self) -> Exchange:
        async with asyncio.timeout(3):
            while not self.ended:
                await asyncio.sleep(0.005)
        return self.ended.pop(0)


@pytest.fixture
def witness():
    return Witness()


@pytest.fixture
async def gateway(raven, witness):
    return await raven([witness], config={"plugin": {"demo": {"delay_s": 0.0}}})


async def post(gateway: Any, path: str, body: Any) -> Any:
    async with gateway.client.post(path, json=body) as reply:
        return reply.status, reply.headers, await reply.read()


@pytest.mark.parametrize("model", ["demo/chat", "demo/anything-else", "demo-chat"])
@pytest.mark.parametrize("path", [CHAT, "/api/v1/chat/completions", "/v1/demo/chat/completions"])
async def test_every_name_and_path_answers(gateway, model, path):
    status, headers, body = await post(gateway, path, QUESTION | {"model": model})
    reply = msgspec.json.decode(body)
    assert status == 200, body
    assert headers["Content-Type"] == "application/json"
    assert headers["X-Raven-Provider"] == "demo"
    assert reply["model"] == model
    assert "What is a raven?" in reply["choices"][0]["message"]["content"]


@pytest.mark.parametrize("path", [CHAT, "/v1/demo/chat/completions"])
@pytest.mark.parametrize("with_usage", [True, False])
async def test_a_stream_is_metered_like_the_whole(gateway, witness, path, with_usage):
    status, _, body = await post(gateway, path, QUESTION | {"model": "demo/chat"})
    whole = await witness.next()
    reported = msgspec.json.decode(body)["usage"]
    assert whole.usage == Usage(
        prompt_tokens=reported["prompt_tokens"],
        completion_tokens=reported["completion_tokens"],
        total_tokens=reported["total_tokens"],
    )
    options = {"stream_options": {"include_usage": True}} if with_usage else {}
    status, headers, body = await post(
        gateway, path, QUESTION | {"model": "demo/chat", "stream": True, **options}
    )
    streamed = await witness.next()
    assert (status, headers["Content-Type"]) == (200, "text/event-stream")
    assert body.endswith(b"data: [DONE]\n\n")
    assert (b'"total_tokens"' in body) == with_usage
    assert streamed.usage == whole.usage
    assert (streamed.outcome, streamed.finish_reason) == (Outcome.COMPLETED, "stop")


async def test_tool_calls_are_metered_like_the_whole(gateway, witness):
    tool = {
        "type": "function",
        "function": {
            "name": "look_up",
            "parameters": {"type": "object", "properties": {"word": {"type": "string"}}},
        },
    }
    body = QUESTION | {"model": "demo/chat", "tools": [tool], "tool_choice": "required"}
    await post(gateway, CHAT, body)
    whole = await witness.next()
    await post(gateway, CHAT, body | {"stream": True})
    streamed = await witness.next()
    assert whole.usage == streamed.usage
    assert whole.usage.completion_tokens > 0
    assert streamed.finish_reason == "tool_calls"


async def test_a_client_that_leaves_pays_for_what_was_said(raven, witness):
    gateway = await raven([witness], config={"plugin": {"demo": {"delay_s": 0.05}}})
    reply = await gateway.client.post(CHAT, json=QUESTION | {"model": "demo/chat", "stream": True})
    for _ in range(6):
        await reply.content.readuntil(b"\n\n")
    reply.close()
    ended = await witness.next()
    assert ended.outcome is Outcome.CANCELLED
    assert 4 <= ended.usage.completion_tokens < 20
    assert ended.usage.prompt_tokens > 0


async def test_completions_and_embeddings(gateway, witness):
    status, _, body = await post(gateway, "/v1/completions", {"model": "demo/chat", "prompt": "Once"})
    assert status == 200
    assert "Once" in msgspec.json.decode(body)["choices"][0]["text"]
    assert (await witness.next()).usage.completion_tokens > 0
    status, _, body = await post(gateway, "/v1/embeddings", {"model": "demo-embed", "input": "Once"})
    assert status == 200
    assert len(msgspec.json.decode(body)["data"][0]["embedding"]) == 384
    assert (await witness.next()).usage == Usage(prompt_tokens=1, total_tokens=1)


async def test_its_own_models_endpoint(gateway):
    async with gateway.client.get("/v1/demo/models") as reply:
        listed = await reply.json()
    assert reply.status == 200
    assert [model["id"] for model in listed["data"]] == ["demo-chat", "demo-embed"]
    async with gateway.client.get("/v1/demo/models/demo-chat") as reply:
        assert (await reply.json())["id"] == "demo-chat"
    async with gateway.client.get("/v1/models") as reply:
        assert {"demo-chat", "demo-embed"} <= {model["id"] for model in (await reply.json())["data"]}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/demo/files"),
        ("POST", "/v1/demo/files"),
        ("GET", "/v1/demo/models/x"),
        ("DELETE", "/v1/demo/models"),
    ],
)
async def test_what_it_does_not_have_is_a_404(gateway, witness, method, path):
    async with gateway.client.request(method, path) as reply:
        error = (await reply.json())["error"]
    assert (reply.status, error["type"], error["code"]) == (404, "not_found_error", "not_found")
    assert (await witness.next()).outcome is Outcome.REFUSED


@pytest.mark.parametrize(
    "body",
    [{"model": "demo/x"}, {"model": "demo/x", "messages": []}, {"messages": [{"role": "user"}]}, [], None],
)
@pytest.mark.parametrize("path", [CHAT, "/v1/demo/chat/completions"])
async def test_a_bad_request_is_a_400(gateway, path, body):
    status, _, text = await post(gateway, path, body)
    assert status == 400, text
    assert msgspec.json.decode(text)["error"]["type"] == "invalid_request_error"


async def test_configured_accounts_and_aliases_of_it(raven):
    config = """
        upstreams = [{ name = "play", provider = "demo" }]
        models = [{ name = "fast", target = "play/quick" }]
    """
    gateway = await raven(config=config)
    for model in ("play/quick", "fast"):
        status, headers, body = await post(gateway, CHAT, QUESTION | {"model": model})
        assert status == 200
        assert headers["X-Raven-Provider"] == "play"
        assert headers["X-Raven-Model"] == "quick"
        assert msgspec.json.decode(body)["model"] == model


async def test_it_is_never_connected_to(raven):
    """As a second choice the demo is an error, and not a look-up of demo.invalid."""
    config = """
        upstreams = [{ name = "gone", provider = "ollama", base_url = "http://127.0.0.1:9/v1" }]
        models = [{ name = "both", targets = ["gone/x", "demo/chat"] }]
    """
    gateway = await raven(config=config)
    status, _, body = await post(gateway, CHAT, QUESTION | {"model": "both"})
    assert status == 502
    assert b"first choice" in body


async def test_the_official_client_understands_it(gateway):
    openai = pytest.importorskip("openai")
    async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0) as client:
        stream = await client.chat.completions.create(model="demo/chat", stream=True, **QUESTION)
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
        assert "What is a raven?" in text
        found = await client.embeddings.create(model="demo-embed", input=["a", "b"], dimensions=16)
        assert [len(row.embedding) for row in found.data] == [16, 16]
        with pytest.raises(openai.BadRequestError):
            await client.chat.completions.create(model="demo/chat", messages=[])
