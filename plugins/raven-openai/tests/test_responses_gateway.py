"""Promises about the Responses API through a running gateway, with official clients."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from aiohttp import ClientPayloadError
from openai import APIError

from raven_proxy.exchange import Exchange, Principal
from raven_proxy.harness import ADMINISTRATOR
from raven_proxy.hookspecs import hookimpl
from raven_proxy.mock import ScriptedReply

TOGETHER = "together"  # a vendor without this API: its clients are translated


@pytest.fixture(autouse=True)
def _keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY_ONE", "sk-one-0123456789")
    monkeypatch.setenv("KEY_TWO", "sk-two-0123456789")


class Orgs:
    """Two organisations' keys."""

    @hookimpl
    async def authenticate(self, exchange: Exchange) -> Principal | None:
        sent = exchange.headers.get("authorization", "").removeprefix("Bearer ")
        if not sent.startswith("org-"):
            return None
        patterns = ("mock/gpt-5",) if sent == "org-limited" else None
        return msgspec.structs.replace(
            ADMINISTRATOR, key_id=sent, organization_id=sent[:5], allowed_models=patterns
        )


class Watch:
    """Keeps what became of each exchange."""

    def __init__(self) -> None:
        self.seen: list[Exchange] = []

    @hookimpl
    async def finish_exchange(self, exchange: Exchange) -> None:
        self.seen.append(exchange)


def together(upstream: Any, **fields: Any) -> dict[str, Any]:
    return {
        "name": "mock",
        "provider": TOGETHER,
        "base_url": upstream.url,
        "key": {"env": "KEY_ONE"},
        **fields,
    }


def find(recordings: Any, name: str) -> Any:
    return next(one for one in recordings if one.id.startswith(name))


def replay(recording: Any, **fields: Any) -> ScriptedReply:
    return ScriptedReply.from_recording({"response": recording.response}, **fields)


async def settle(watch: Watch, count: int = 1) -> Exchange:
    for _ in range(200):
        if len(watch.seen) >= count:
            return watch.seen[-1]
        await asyncio.sleep(0.01)
    raise AssertionError("the exchange did not end")


# -- where the vendor has the API -------------------------------------------------------


async def test_bytes_pass_both_ways(raven: Any, upstream: Any, response_recordings: Any) -> None:
    """A request keeps every byte but its model's, a reply every byte, and both are metered."""
    watch = Watch()
    gateway = await raven([watch], upstreams=[upstream])
    replayed = 0
    for recording in response_recordings:
        if recording.response["status"] != 200 or recording.request.get("method") == "GET":
            continue
        stream = b"true" if recording.streaming else b"false"
        body = b'{ "odd": [1.0],"model":"mock/gpt-5" ,"stream": ' + stream + b',"input":"\\u00e4"}'
        kind = "text/event-stream" if recording.streaming else "application/json"
        upstream.script(replay(recording, headers={"content-type": kind}))
        headers = {"content-type": "application/json"}
        async with gateway.client.post("/v1/responses", data=body, headers=headers) as reply:
            assert await reply.read() == recording.body(), recording.id
        assert upstream.seen[-1].body == body.replace(b"mock/", b"")
        assert upstream.seen[-1].path == "/v1/responses"
        replayed += 1
        exchange = await settle(watch, replayed)
        assert exchange.usage is not None
        assert not exchange.usage.estimated, recording.id
        assert exchange.outcome == "completed"
    assert replayed > 60


async def test_a_stream_that_breaks_off_ends_with_two_errors(
    raven: Any, upstream: Any, response_recordings: Any, client_of: Any
) -> None:
    """`error` and `response.failed` come, nothing says that all is well, and the official client raises."""
    gateway = await raven(upstreams=[upstream])
    recording = find(response_recordings, "openai/responses-tool-call-stream")
    half = recording.body()[:9000].rpartition(b"\n\n")[0] + b"\n\n"
    upstream.script(ScriptedReply(headers={"content-type": "text/event-stream"}, chunks=[half], end="cut"))
    upstream.script(ScriptedReply(headers={"content-type": "text/event-stream"}, chunks=[half], end="cut"))
    asked = {"model": "mock/gpt-5", "input": "x", "stream": True}
    text = b""
    async with gateway.client.post("/v1/responses", json=asked) as reply:
        with suppress(ClientPayloadError):  # the connection is cut too
            async for piece in reply.content.iter_any():
                text += piece
    assert text.startswith(half)
    assert text.count(b"event: error\n") == text.count(b"event: response.failed\n") == 1
    with pytest.raises(APIError, match=r"ended|broke"):
        async for _ in await client_of(gateway).responses.create(**asked):
            pass


async def test_stored_responses_belong_to_whom_made_them(
    raven: Any, upstream: Any, response_recordings: Any, client_of: Any
) -> None:
    """Only its organisation can read, list, cancel or delete a response; for others it does not exist."""
    gateway = await raven([Orgs()], upstreams=[upstream])
    recording = find(response_recordings, "openai/responses-tool-result-gpt-4o-mini")
    name = msgspec.json.decode(recording.body())["id"]
    mine, theirs = client_of(gateway, "org-a"), client_of(gateway, "org-b")
    upstream.script(replay(recording))
    made = await mine.responses.create(model="mock/gpt-5", input="Hi")
    assert made.id == name
    asked = len(upstream.seen)
    for path, method in (("", "GET"), ("", "DELETE"), ("/cancel", "POST"), ("/input_items", "GET")):
        for key, raw in (("org-b", ""), ("org-b", "/mock"), ("org-b", "/mock/openai/v1")):
            target = f"/v1{raw}/responses/{name}{path}"
            headers = {"Authorization": f"Bearer {key}"}
            async with gateway.client.request(method, target, headers=headers) as reply:
                assert reply.status == 404, target
    with pytest.raises(APIError, match="no response"):
        await theirs.responses.retrieve("resp_unknown")
    assert len(upstream.seen) == asked, "no provider was asked"

    upstream.script(replay(recording))
    again = await mine.responses.retrieve(name, include=["reasoning.encrypted_content"])
    assert again == made
    assert upstream.seen[-1].target == f"/v1/responses/{name}?include%5B%5D=reasoning.encrypted_content"
    upstream.reply(json={"id": name, "object": "response", "deleted": True})
    await mine.responses.delete(name)
    assert upstream.seen[-1].method == "DELETE"
    with pytest.raises(APIError, match="no response"):
        await mine.responses.retrieve(name)


async def test_what_is_not_stored_is_not_remembered(
    raven: Any, upstream: Any, response_recordings: Any, client_of: Any
) -> None:
    """`store: false` leaves no trace: the id leads nowhere, as at the vendor."""
    gateway = await raven([Orgs()], upstreams=[upstream])
    upstream.script(replay(find(response_recordings, "openai/responses-tool-result-gpt-4o-mini")))
    client = client_of(gateway, "org-a")
    made = await client.responses.create(model="mock/gpt-5", input="Hi", store=False)
    with pytest.raises(APIError, match="no response"):
        await client.responses.retrieve(made.id)


async def test_a_stored_stream_can_be_resumed(
    raven: Any, upstream: Any, response_recordings: Any, client_of: Any
) -> None:
    """The id of a stream is known as soon as it begins; `starting_after` reaches the vendor."""
    gateway = await raven([Orgs()], upstreams=[upstream])
    recording = find(response_recordings, "openai/responses-tool-result-stream-gpt-4-1")
    name = msgspec.json.decode(recording.body().partition(b"data: ")[2].partition(b"\n")[0])["response"]["id"]
    upstream.script(replay(recording))
    client = client_of(gateway, "org-a")
    async for _ in await client.responses.create(model="mock/gpt-5", input="Hi", stream=True):
        pass
    upstream.script(replay(find(response_recordings, "openai/responses-item")))
    events = [event async for event in await client.responses.retrieve(name, stream=True, starting_after=0)]
    assert upstream.seen[-1].target == f"/v1/responses/{name}?starting_after=0&stream=true"
    assert events[-1].type == "response.completed"


async def test_a_conversation_stays_where_it_began(
    raven: Any, upstream: Any, response_recordings: Any, client_of: Any
) -> None:
    """`previous_response_id` goes to the upstream that holds it, and only for its organisation."""
    upstreams = [
        {"name": "one", "provider": "openai", "base_url": upstream.url, "key": {"env": "KEY_ONE"}},
        {"name": "two", "provider": "openai", "base_url": upstream.url, "key": {"env": "KEY_TWO"}},
    ]
    models = [{"name": "both", "targets": ["one/gpt-5", "two/gpt-5"], "strategy": "priority"}]
    gateway = await raven([Orgs()], upstreams=upstreams, config={"models": models})
    recording = find(response_recordings, "openai/responses-tool-result-gpt-4o-mini")
    upstream.script(*[replay(recording)] * 2)
    mine = client_of(gateway, "org-a")
    made = await mine.responses.create(model="two/gpt-5", input="Hi")
    await mine.responses.create(model="both", input="Go on", previous_response_id=made.id)
    assert upstream.seen[-1].key == "sk-two-0123456789"
    with pytest.raises(APIError, match="lies at two"):
        await mine.responses.create(model="one/gpt-5", input="Go on", previous_response_id=made.id)
    with pytest.raises(APIError, match=rf"Previous response with id '{made.id}' not found\.") as caught:
        await client_of(gateway, "org-b").responses.create(
            model="both", input="x", previous_response_id=made.id
        )
    assert caught.value.code == "previous_response_not_found"


async def test_a_limited_key_reads_nothing_stored(
    raven: Any, upstream: Any, response_recordings: Any, client_of: Any
) -> None:
    """A key that may call some models only cannot tell whose answer a stored response is."""
    gateway = await raven([Orgs()], upstreams=[upstream])
    recording = find(response_recordings, "openai/responses-tool-result-gpt-4o-mini")
    upstream.script(replay(recording))
    client = client_of(gateway, "org-limited")
    made = await client.responses.create(model="mock/gpt-5", input="Hi")
    with pytest.raises(APIError, match="limited to some models"):
        await client.responses.retrieve(made.id)


async def test_raw_paths_are_judged_and_metered(raven: Any, upstream: Any, response_recordings: Any) -> None:
    """`/v1/{upstream}/responses` is byte for byte, counted, and owned like the other."""
    watch = Watch()
    gateway = await raven([Orgs(), watch], upstreams=[upstream])
    recording = find(response_recordings, "openai/responses-tool-result-gpt-4o-mini")
    upstream.script(replay(recording), replay(recording))
    headers = {"Authorization": "Bearer org-a"}
    async with gateway.client.post(
        "/v1/mock/responses", json={"model": "m", "input": "x"}, headers=headers
    ) as reply:
        assert await reply.read() == recording.body()
    exchange = await settle(watch)
    assert exchange.usage is not None
    assert exchange.usage.prompt_tokens == 158
    name = msgspec.json.decode(recording.body())["id"]
    async with gateway.client.get(f"/v1/responses/{name}", headers=headers) as reply:
        assert reply.status == 200


async def test_compacting_and_counting_pass(raven: Any, upstream: Any, client_of: Any) -> None:
    """Both go to the vendor as they are; only what was made is metered."""
    watch = Watch()
    gateway = await raven([watch], upstreams=[upstream])
    client = client_of(gateway, gateway.key)
    usage = {"input_tokens": 7, "output_tokens": 3, "total_tokens": 10}
    upstream.reply(
        json={"id": "resp_1", "object": "response.compaction", "created_at": 1, "output": [], "usage": usage}
    )
    await client.responses.compact(model="mock/gpt-5", input="Hi")
    assert (upstream.seen[-1].path, upstream.seen[-1].json["model"]) == ("/v1/responses/compact", "gpt-5")
    exchange = await settle(watch)
    assert exchange.usage is not None
    assert (exchange.usage.prompt_tokens, exchange.usage.completion_tokens) == (7, 3)
    upstream.reply(json={"object": "response.input_tokens", "input_tokens": 11})
    counted = await client.responses.input_tokens.count(model="mock/gpt-5", input="Hi")
    assert counted.input_tokens == 11
    assert upstream.seen[-1].path == "/v1/responses/input_tokens"
    assert (await settle(watch, 2)).usage is None
