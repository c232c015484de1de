"""Recorded traffic passes the gateway byte for byte, both ways, and is metered as the vendor counted it.

Replayed are the replies of OpenAI and of the vendors that speak its dialects, with their status, headers
and body; the client sends the recorded request. What may differ from the recording is stated where it is
expected: the spliced `model` and `stream_options`, the usage event that only the gateway had asked for,
and a finish reason that no client knows.
"""

from __future__ import annotations

import random
import re
from base64 import b64decode
from hashlib import sha256
from typing import Any
from zlib import crc32

import msgspec
import pytest

from raven_proxy.exchange import Exchange, Outcome
from raven_proxy.harness import RunningGateway
from raven_proxy.mock import MockUpstream, ScriptedReply
from raven_proxy.storage import Row

from .conftest import Ledger, VendorStarter
from .recordings import SURFACES, Recording, load, loaded, require

_ASKED = b',"stream_options":{"include_usage":true}'
_TINY = 2500  # bytes; longer streams are not sent in single bytes
_PLAIN_REPLIES = [p for p in loaded() if isinstance(p.values[0], str) or p.values[0].surface != "models"]


def _write(payload: dict[str, Any], style: int) -> bytes:
    """Write a request body as one of four clients does."""
    if style == 0:
        return msgspec.json.encode(payload)
    if style == 1:
        return msgspec.json.format(msgspec.json.encode(payload), indent=0)
    if style == 2:
        return b" \r\n" + msgspec.json.format(msgspec.json.encode(payload), indent=2) + b"\n"
    text = msgspec.json.encode(payload).decode()
    units = re.compile("[^\x00-\x7f]")
    return units.sub(lambda m: _escape(m[0]), text).encode()


def _escape(character: str) -> str:
    packed = character.encode("utf-16-be")
    return "".join(f"\\u{packed[i : i + 2].hex()}" for i in range(0, len(packed), 2))


def _body_of(recording: Recording, **changes: Any) -> bytes:
    payload = recording.payload | changes
    return _write({k: v for k, v in payload.items() if v is not None}, crc32(recording.id.encode()) % 4)


async def _send(gateway: RunningGateway, path: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
    headers = {"Content-Type": "application/json", "X-Vendor-Header": "kept"}
    async with gateway.client.post(path, data=body, headers=headers) as reply:
        return reply.status, {k.lower(): v for k, v in reply.headers.items()}, await reply.read()


async def _noted(gateway: RunningGateway, upstream: MockUpstream, ledger: Ledger, count: int = 1) -> Exchange:
    # The ledger is told before the meter, in the same task.
    await upstream.wait_until(lambda: len(ledger.exchanges) >= count and not len(gateway.gateway.tasks))
    assert len(ledger.exchanges) == count
    return ledger.exchanges[-1]


async def _row_of(gateway: RunningGateway, exchange: Exchange) -> Row:
    storage = gateway.gateway.storage
    await storage.flush()
    row = await storage.fetch_one("SELECT * FROM exchanges WHERE request_id = ?", (exchange.id,))
    assert row is not None
    return row


def _same(got: bytes, expected: bytes) -> None:
    assert sha256(got).hexdigest() == sha256(expected).hexdigest(), (got[:400], expected[:400])


def _on_the_face(recording: Recording, *, asked_for_us: bool) -> bytes:
    """The bytes that a client of the face gets: the recording's, but for three documented changes."""
    expected = recording.body
    if asked_for_us:  # the event that the client had not asked for
        for event in recording.usage_events:
            assert expected.count(event) == 1
            expected = expected.replace(event, b"")
    # A finish reason that is none of the five words, which only Snowflake's "" is here.
    foreign = re.compile(rb'("finish_reason": ?)""')
    assert bool(foreign.search(expected)) == (recording.provider == "snowflake")
    expected = foreign.sub(rb'\1"tool_calls","native_finish_reason":""', expected)
    if recording.provider == "perplexity" and recording.surface == "openai.embeddings":
        # Base64 of int8, which no client of this dialect asked for or could tell from float32.
        packed = re.compile(rb'(?<="embedding":)"([^"]*)"')
        expected = packed.sub(
            lambda found: msgspec.json.encode([float(x) for x in memoryview(b64decode(found[1])).cast("b")]),
            expected,
        )
    return expected


async def _check_metering(gateway: RunningGateway, exchange: Exchange, recording: Recording) -> None:
    """The exchange, and its row in the database, say what the recording says."""
    metered = exchange.usage
    assert metered is not None
    row = await _row_of(gateway, exchange)
    told = ("prompt_tokens", "completion_tokens", "total_tokens", "cached_tokens", "reasoning_tokens")
    assert {name: row[name] for name in told} == {name: getattr(metered, name) for name in told}
    assert (row["estimated"], row["outcome"]) == (metered.estimated, exchange.outcome)
    assert (row["status"], row["provider"], row["attempts"]) == (recording.status, "vendor", 1)
    assert (row["stream"], row["finish_reason"]) == (recording.streaming, recording.finish_reason)
    assert exchange.outcome is (Outcome.TRUNCATED if recording.has_stream_error else Outcome.COMPLETED)
    assert exchange.finish_reason == recording.finish_reason
    assert metered.prompt_tokens > 0
    expected = recording.usage
    assert metered.estimated == (expected is None)
    if expected is None:  # the vendor did not say, so it is estimated by what was seen
        assert (metered.completion_tokens > 0) == recording.says_something
        assert metered.total_tokens == metered.prompt_tokens + metered.completion_tokens
        return
    # Vercel reports 61 reasoning tokens in 9 completion tokens; a part is cut to its whole.
    expected |= {"reasoning_tokens": min(expected["reasoning_tokens"], expected["completion_tokens"])}
    assert {name: getattr(metered, name) for name in expected} == expected


def test_nothing_is_left_out() -> None:
    """Every face has its recordings, of two dozen vendors and more."""
    if load():
        assert {r.surface for r in load()} == SURFACES
        assert len({r.provider for r in load()}) >= 25
        assert len(load()) >= 130


@pytest.mark.parametrize("naming", ["bare", "upstream", "alias"])
@pytest.mark.parametrize("recording", _PLAIN_REPLIES)
async def test_a_recorded_reply_on_its_face(
    recording: Recording | str, naming: str, vendor: VendorStarter, upstream: MockUpstream, ledger: Ledger
) -> None:
    """R RR AV RX: request and reply pass byte for byte, whatever the model is called, and are metered."""
    rec = require(recording)
    model = rec.payload["model"]
    gateway = await vendor(rec.preset, rec.base_path, aliases={"my alias \N{SNOWMAN}": model})
    upstream.script(ScriptedReply.from_recording({"response": rec.response}))
    name = {"bare": model, "upstream": f"vendor/{model}", "alias": "my alias \N{SNOWMAN}"}[naming]
    status, headers, reply = await _send(gateway, f"/v1/{rec.endpoint}", _body_of(rec, model=name))

    [seen] = upstream.seen
    asked = seen.json.get("stream_options") != rec.payload.get("stream_options")
    _same(seen.body.replace(_ASKED, b"") if asked else seen.body, _body_of(rec))
    assert seen.body.count(_ASKED) <= 1
    assert (seen.path, seen.key) == (rec.path, "sk-vendor-0123456789abcdef")
    assert seen.headers["x-vendor-header"] == "kept"
    assert status == rec.status, reply[:400]
    # A stream whose vendor forgot to say what it is gets its type here.
    said = rec.response["headers"].get("content-type") or ("text/event-stream" if rec.streaming else None)
    assert headers.get("content-type") == said
    assert headers["x-request-id"].startswith("req_")
    assert (headers["x-raven-provider"], headers["x-raven-model"]) == ("vendor", model)
    _same(reply, _on_the_face(rec, asked_for_us=asked))
    await _check_metering(gateway, await _noted(gateway, upstream, ledger), rec)


@pytest.mark.parametrize("recording", loaded())
async def test_a_recorded_reply_on_the_raw_path(
    recording: Recording | str, vendor: VendorStarter, upstream: MockUpstream, ledger: Ledger
) -> None:
    """PK: on /v1/{provider}/… path, query, request and reply pass byte for byte, and are metered."""
    rec = require(recording)
    gateway = await vendor(rec.preset, rec.base_path)
    upstream.script(ScriptedReply.from_recording({"response": rec.response}))
    path = f"/v1/{rec.preset}" + rec.target.removeprefix(rec.base_path)
    if rec.request["method"] == "GET":
        async with gateway.client.get(path) as answer:
            status, reply = answer.status, await answer.read()
        body = b""
    else:
        body = _body_of(rec)
        status, _, reply = await _send(gateway, path, body)

    [seen] = upstream.seen
    _same(seen.body, body)
    assert (seen.method, seen.target) == (rec.request["method"], rec.target)
    assert seen.key == "sk-vendor-0123456789abcdef"
    assert status == rec.status, reply[:400]
    _same(reply, rec.body)
    exchange = await _noted(gateway, upstream, ledger)
    if rec.surface != "models":
        await _check_metering(gateway, exchange, rec)


@pytest.mark.parametrize("recording", loaded(hidden=True))
async def test_the_usage_event_that_nobody_asked_for_is_hidden(
    recording: Recording | str, vendor: VendorStarter, upstream: MockUpstream, ledger: Ledger
) -> None:
    """A client that asks for no usage gets the recording without exactly that event, which is metered."""
    rec = require(recording)
    gateway = await vendor(rec.preset, rec.base_path)
    for asking in ({"stream_options": None}, {"stream_options": {"include_usage": False}}):
        upstream.seen.clear()
        upstream.script(ScriptedReply.from_recording({"response": rec.response}))
        body = _body_of(rec, **asking)
        _, _, reply = await _send(gateway, f"/v1/{rec.endpoint}", body)

        [seen] = upstream.seen
        assert seen.json["stream_options"] == {"include_usage": True}
        if asking["stream_options"] is None:
            _same(seen.body.replace(_ASKED, b""), body)
        else:
            _same(seen.body, re.sub(rb'("include_usage":\s?)false', rb"\1true", body))
        _same(reply, _on_the_face(rec, asked_for_us=True))
        assert len(reply) < len(rec.body)
    exchange = await _noted(gateway, upstream, ledger, 2)
    await _check_metering(gateway, exchange, rec)


@pytest.mark.parametrize("recording", loaded(streams=True))
async def test_a_recorded_stream_however_it_is_cut(
    recording: Recording | str, vendor: VendorStarter, upstream: MockUpstream, ledger: Ledger
) -> None:
    """The chunks of the network change neither bytes nor metering: all at once, at random, single bytes."""
    rec = require(recording)
    gateway = await vendor(rec.preset, rec.base_path)
    options = {"stream_options": None} if rec.usage_events else {}
    cuttings = _cuttings(rec.body, random.Random(rec.id))
    for count, chunks in enumerate(cuttings, 1):
        upstream.seen.clear()
        replayed = ScriptedReply.from_recording({"response": rec.response})
        upstream.script(msgspec.structs.replace(replayed, chunks=chunks))
        _, _, reply = await _send(gateway, f"/v1/{rec.endpoint}", _body_of(rec, **options))
        asked = "stream_options" not in rec.payload or "stream_options" in options
        _same(reply, _on_the_face(rec, asked_for_us=asked))
        await _check_metering(gateway, await _noted(gateway, upstream, ledger, count), rec)


def _cuttings(body: bytes, chance: random.Random) -> list[list[bytes | float]]:
    """Cut a stream: whole, in thirds, near each border of events, at random, and into single bytes."""
    after = [m.end() for m in re.finditer(rb"\r?\n\r?\n", body)]
    places = [
        [],
        [len(body) // 3, 2 * len(body) // 3],
        sorted({place - 1 for place in after}),
        sorted({min(place + 1, len(body)) for place in after}),
        *(sorted(chance.sample(range(1, len(body)), min(40, len(body) - 1))) for _ in range(3)),
    ]
    if len(body) <= _TINY:
        places.append(list(range(1, len(body))))
    return [_cut(body, borders) for borders in places]


def _cut(body: bytes, borders: list[int]) -> list[bytes | float]:
    pieces = [body[a:b] for a, b in zip([0, *borders], [*borders, len(body)], strict=True)]
    return [part for piece in pieces if piece for part in (piece, 0.0)]  # 0.0: a write of its own
