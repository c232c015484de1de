"""Images, sound and moderation through a running gateway, asked for by the official client."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from openai import APIStatusError, AsyncOpenAI, BadRequestError

from raven_proxy import Exchange, Principal, hookimpl
from raven_proxy.harness import ADMINISTRATOR, GatewayStarter, RunningGateway
from raven_proxy.mock import MockUpstream, ScriptedReply

ALIASES = {"models": [{"name": "ours", "target": "mock/theirs"}]}
PIXEL = base64.b64encode(b"\x89PNG not really").decode()
IMAGE_USAGE = {
    "input_tokens": 11,
    "output_tokens": 272,
    "total_tokens": 283,
    "input_tokens_details": {"text_tokens": 11, "image_tokens": 0},
}


class Finished:
    def __init__(self) -> None:
        self.exchanges: list[Exchange] = []

    @hookimpl
    async def finish_exchange(self, exchange: Exchange) -> None:
        self.exchanges.append(exchange)


def client(gateway: RunningGateway) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0)


async def finished(plugin: Finished) -> list[Exchange]:
    async with asyncio.timeout(2):
        while not plugin.exchanges:
            await asyncio.sleep(0.005)
    return plugin.exchanges


async def test_images_are_made_and_metered(raven: GatewayStarter, upstream: MockUpstream) -> None:
    seen = Finished()
    gateway = await raven([seen], upstreams=[upstream], config=ALIASES)
    upstream.reply(json={"created": 1, "data": [{"b64_json": PIXEL}] * 2, "usage": IMAGE_USAGE})
    async with client(gateway) as openai:
        images = await openai.images.generate(model="ours", prompt="A raven", n=2)
    assert [image.b64_json for image in images.data or ()] == [PIXEL, PIXEL]
    assert upstream.seen[0].path == "/v1/images/generations"
    assert upstream.seen[0].json == {"model": "theirs", "prompt": "A raven", "n": 2}
    (exchange,) = await finished(seen)
    assert exchange.usage is not None
    assert (exchange.usage.images, exchange.usage.completion_tokens) == (2, 272)


async def test_partial_images_stream_untouched(raven: GatewayStarter, upstream: MockUpstream) -> None:
    seen = Finished()
    gateway = await raven([seen], upstreams=[upstream])
    big = base64.b64encode(os.urandom(300_000)).decode()
    payloads: list[dict[str, Any]] = [
        {"type": "image_generation.partial_image", "b64_json": big, "partial_image_index": 0},
        {"type": "image_generation.completed", "b64_json": big, "usage": IMAGE_USAGE},
    ]
    upstream.reply(events=payloads)
    async with client(gateway) as openai:
        stream = await openai.images.generate(model="mock/gpt-image-1", prompt="A", stream=True)
        got = [event async for event in stream]
    assert [event.type for event in got] == [payload["type"] for payload in payloads]
    assert all(event.b64_json == big for event in got)
    (exchange,) = await finished(seen)
    assert exchange.usage is not None
    assert (exchange.usage.images, exchange.usage.completion_tokens) == (1, 272)
    assert exchange.outcome == "completed"


async def test_an_image_is_edited_from_a_form_and_from_json(
    raven: GatewayStarter, upstream: MockUpstream
) -> None:
    gateway = await raven([], upstreams=[upstream], config=ALIASES)
    reply = {"created": 1, "data": [{"b64_json": PIXEL}]}
    upstream.reply(json=reply)
    upstream.reply(json=reply)
    picture = os.urandom(50_000)
    async with client(gateway) as openai:
        _ = await openai.images.edit(model="ours", image=[("a.png", picture), ("b.png", picture)], prompt="x")
    form = upstream.seen[0]
    assert form.headers["content-type"].startswith("multipart/form-data; boundary=")
    assert form.body.count(picture) == 2
    assert b'name="model"\r\n\r\ntheirs\r\n' in form.body
    body = b' {"images":[{"image_url":"https://x/y.png"}], "model":"ours","prompt":"x"}'
    headers = {"Content-Type": "application/json"}
    async with gateway.client.post("/v1/images/edits", data=body, headers=headers) as answer:
        assert answer.status == 200
    assert upstream.seen[1].body == body.replace(b'"ours"', b'"theirs"')


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")  # the client's own word
async def test_a_variation_needs_a_model_and_says_so(raven: GatewayStarter, upstream: MockUpstream) -> None:
    gateway = await raven([], upstreams=[upstream])
    async with client(gateway) as openai:
        with pytest.raises(BadRequestError, match="dall-e-2") as caught:
            await openai.images.create_variation(image=b"png")
    assert caught.value.param == "model"
    assert upstream.seen == []


async def test_a_recorded_image_error_keeps_its_words(
    raven: GatewayStarter, upstream: MockUpstream, recorded: Callable[[str], list[dict[str, Any]]]
) -> None:
    gateway = await raven([], upstreams=[upstream])
    for recording in recorded("openai/images-error-*"):
        upstream.script(ScriptedReply.from_recording(recording))
        body = msgspec.json.encode(recording["request"]["body"])
        headers = {"Content-Type": "application/json"}
        async with gateway.client.post("/v1/images/edits", data=body, headers=headers) as answer:
            error = (await answer.json())["error"]
        theirs = msgspec.json.decode(recording["response"]["body"])["error"]
        assert answer.status == recording["response"]["status"]
        assert (error["message"], error["code"]) == (theirs["message"], theirs["code"])
        assert error["param"] == theirs["param"]
        assert upstream.seen[-1].body == body


async def test_speech_streams_as_it_comes(raven: GatewayStarter, upstream: MockUpstream) -> None:
    seen = Finished()
    gateway = await raven([seen], upstreams=[upstream])
    chunks: list[bytes | float] = [os.urandom(4000), 0.05, os.urandom(4000)]
    sound = b"".join(chunk for chunk in chunks if isinstance(chunk, bytes))
    upstream.script(ScriptedReply(headers={"Content-Type": "audio/mpeg"}, chunks=chunks))
    async with client(gateway) as openai:
        speech = openai.audio.speech.with_streaming_response.create(
            model="mock/tts-1", voice="alloy", input="Nevermore"
        )
        async with speech as reply:
            assert reply.headers["content-type"] == "audio/mpeg"
            pieces = [piece async for piece in reply.iter_bytes()]
    assert b"".join(pieces) == sound
    assert len(pieces) >= 2
    (exchange,) = await finished(seen)
    assert exchange.usage is not None
    assert (exchange.usage.prompt_tokens, exchange.usage.estimated) == (3, True)


async def test_recorded_speech_and_transcripts_pass_byte_for_byte(
    raven: GatewayStarter, upstream: MockUpstream, recorded: Callable[[str], list[dict[str, Any]]]
) -> None:
    gateway = await raven([], upstreams=[upstream])
    for recording in [*recorded("openai/audio-*"), *recorded("openai/moderations-*")]:
        request, response = recording["request"], recording["response"]
        upstream.script(ScriptedReply.from_recording(recording))
        sent = base64.b64decode(request.get("body_b64") or "") or msgspec.json.encode(request["body"])
        path = "/v1/" + request["url"].partition("/v1/")[2]
        headers = {"Content-Type": request["headers"]["content-type"]}
        async with gateway.client.post(path, data=sent, headers=headers) as answer:
            got = await answer.read()
        assert got == base64.b64decode(response.get("body_b64") or "") or got == response["body"].encode()
        assert answer.headers["content-type"] == response["headers"]["content-type"]
        assert upstream.seen[-1].body == sent


@pytest.mark.parametrize("model", ["mock/whisper-1", "ours"])
async def test_twenty_megabytes_go_up_byte_for_byte(
    raven: GatewayStarter, upstream: MockUpstream, model: str
) -> None:
    gateway = await raven([], upstreams=[upstream], config=ALIASES)
    upstream.reply(json={"text": "Caw.", "usage": {"type": "duration", "seconds": 9}})
    sound = os.urandom(20 * 2**20)
    async with client(gateway) as openai:
        heard = await openai.audio.transcriptions.create(model=model, file=("a.wav", sound, "audio/wav"))
    assert heard.text == "Caw."
    body = upstream.seen[0].body
    start = body.index(sound[:64])
    assert hashlib.sha256(body[start : start + len(sound)]).digest() == hashlib.sha256(sound).digest()
    expected = b"whisper-1" if model != "ours" else b"theirs"
    assert b'name="model"\r\n\r\n%b\r\n' % expected in body


@pytest.mark.parametrize("kind", ["text", "srt", "vtt"])
async def test_transcripts_that_are_no_json_pass(
    raven: GatewayStarter, upstream: MockUpstream, kind: Any
) -> None:
    gateway = await raven([], upstreams=[upstream])
    text = b"1\r\n00:00:00,000 --> 00:00:01,500\r\nCaw.\r\n"
    upstream.script(ScriptedReply(headers={"Content-Type": "text/plain; charset=utf-8"}, body=text))
    async with client(gateway) as openai:
        heard: Any = await openai.audio.transcriptions.create(
            model="mock/whisper-1", file=b"RIFF", response_format=kind
        )
    assert heard == text.decode()


async def test_a_transcript_streams(raven: GatewayStarter, upstream: MockUpstream) -> None:
    gateway = await raven([], upstreams=[upstream])
    upstream.reply(
        events=[
            {"type": "transcript.text.delta", "delta": "Ca"},
            {"type": "transcript.text.done", "text": "Caw", "usage": {"type": "duration", "seconds": 1}},
        ]
    )
    async with client(gateway) as openai:
        stream = await openai.audio.transcriptions.create(
            model="mock/gpt-4o-transcribe", file=b"RIFF", stream=True
        )
        assert [event.type async for event in stream] == ["transcript.text.delta", "transcript.text.done"]


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")  # the client's own word
async def test_a_recording_is_translated(raven: GatewayStarter, upstream: MockUpstream) -> None:
    gateway = await raven([], upstreams=[upstream])
    upstream.reply(json={"text": "Caw."})
    async with client(gateway) as openai:
        heard = await openai.audio.translations.create(model="mock/whisper-1", file=b"RIFF")
    assert heard.text == "Caw."
    assert upstream.seen[0].path == "/v1/audio/translations"


async def test_moderation_without_a_model_has_openais_default(
    raven: GatewayStarter, upstream: MockUpstream
) -> None:
    gateway = await raven([], upstreams=[upstream])
    body = b'{"input":"I love ravens"}'
    headers = {"Content-Type": "application/json"}
    for _ in range(2):
        upstream.reply(json={"id": "modr-1", "model": "omni-moderation-latest", "results": []})
    async with gateway.client.post("/v1/moderations", data=body, headers=headers) as answer:
        assert answer.status == 200
        assert answer.headers["X-Raven-Model"] == "omni-moderation-latest"
    assert upstream.seen[0].body == body
    async with client(gateway) as openai:
        _ = await openai.moderations.create(model="mock/text-moderation-007", input="x")
    assert upstream.seen[1].json == {"model": "text-moderation-007", "input": "x"}


async def test_a_moderation_default_may_be_an_alias(raven: GatewayStarter, upstream: MockUpstream) -> None:
    config = {"models": [{"name": "omni-moderation-latest", "target": "mock/mistral-moderation"}]}
    gateway = await raven([], upstreams=[upstream], config=config)
    upstream.reply(json={"id": "1", "model": "m", "results": []})
    async with gateway.client.post("/v1/moderations", json={"input": "x"}) as answer:
        assert answer.status == 200
    assert upstream.seen[0].json == {"input": "x", "model": "mistral-moderation"}


@pytest.mark.parametrize(
    ("path", "scope"),
    [
        ("/v1/images/generations", "images:write"),
        ("/v1/images/edits", "images:write"),
        ("/v1/audio/speech", "audio:write"),
        ("/v1/audio/transcriptions", "audio:write"),
        ("/v1/openai/images/variations", "images:write"),
        ("/v1/mock/audio/translations", "audio:write"),
        ("/v1/moderations", "chat:write"),
    ],
)
async def test_each_has_its_scope_on_raw_paths_too(
    raven: GatewayStarter, upstream: MockUpstream, path: str, scope: str
) -> None:
    others = Principal(key_id="key_x", scopes=ADMINISTRATOR.scopes - {scope})
    gateway = await raven([], upstreams=[upstream], principal=others)
    async with gateway.client.post(path, json={"model": "m", "input": "x", "prompt": "x"}) as answer:
        assert answer.status == 403
        assert (await answer.json())["error"]["code"] == "missing_scope"
    assert upstream.seen == []


@pytest.mark.parametrize("path", ["/v1/audio/transcriptions", "/v1/mock/audio/transcriptions"])
async def test_another_boundary_in_the_header_is_refused(
    raven: GatewayStarter, upstream: MockUpstream, path: str
) -> None:
    gateway = await raven([], upstreams=[upstream])
    body = b'--a\r\nContent-Disposition: form-data; name="model"\r\n\r\nmock/whisper-1\r\n--a--\r\n'
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    async with gateway.client.post(path, data=body, headers=headers) as answer:
        assert answer.status == 400
        assert (await answer.json())["error"]["param"] == "Content-Type"
    assert upstream.seen == []


async def test_a_raw_form_goes_up_as_it_is(raven: GatewayStarter, upstream: MockUpstream) -> None:
    gateway = await raven([], upstreams=[upstream], config=ALIASES)
    body = b'--a\r\nContent-Disposition: form-data; name="model"\r\n\r\nours\r\n--a--\r\n'
    headers = {"Content-Type": "multipart/form-data; boundary=a"}
    upstream.reply(json={"text": "Caw."})
    async with gateway.client.post("/v1/mock/audio/transcriptions?x=1", data=body, headers=headers) as answer:
        assert await answer.json() == {"text": "Caw."}
    assert (upstream.seen[0].body, upstream.seen[0].target) == (body, "/v1/audio/transcriptions?x=1")


async def test_a_broken_image_list_is_a_502(raven: GatewayStarter, upstream: MockUpstream) -> None:
    gateway = await raven([], upstreams=[upstream])
    upstream.script(ScriptedReply(headers={"Content-Type": "application/json"}, body=b'{"data":[{"b64'))
    async with client(gateway) as openai:
        with pytest.raises(APIStatusError) as caught:
            await openai.images.generate(model="mock/gpt-image-1", prompt="x")
    assert caught.value.status_code == 502
