"""What vendors answer in a chat reaches clients whole: recordings, cut anywhere, read by official clients."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import httpx
import msgspec
import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.lib.streaming.chat import ChatCompletionStreamState
from raven_openai.chat.client import CLIENT_SIDE
from raven_openai.chat.vendor import ChatSide
from raven_openai.presets import PRESETS, Preset

from raven_proxy import hub, testing
from raven_proxy.errors import GatewayError
from raven_proxy.exchange import Exchange, ReplyHead
from raven_proxy.translation import Translation, open_translation

Make = Callable[..., Exchange]
ROWS = {"azure_openai": "openai", "bedrock": "bedrock_mantle", "gemini": "gemini_openai"}
ASK = {
    "model": "m",
    "messages": [{"role": "user", "content": "x"}],
    "stream_options": {"include_usage": True},
}


def row(recording: Any) -> Preset:
    return PRESETS[ROWS.get(recording.provider, recording.provider)]


@pytest.fixture
def chats(recordings: list[Any]) -> list[Any]:
    """Every recorded chat that succeeded."""
    return [r for r in recordings if r.surface == "openai.chat" and r.response["status"] < 400 and r.body()]


@pytest.fixture
def translate(make_exchange: Make) -> Callable[..., Translation]:
    """Open the stage between a vendor's chat and a chat client."""

    def run(preset: Preset, *, streamed: bool, wants: bool | None = None, **fields: Any) -> Translation:
        body = {**ASK, "stream": streamed if wants is None else wants, **fields}
        exchange = make_exchange(msgspec.json.encode(body), model="upstreams-name")
        exchange.hub_request = CLIENT_SIDE.read_request(exchange)
        return open_translation(exchange, ChatSide(preset, exchange), streamed=streamed)

    return run


def documents(body: bytes, *, streamed: bool) -> list[Any]:
    """Read a reply's JSON with nothing of the gateway's: the oracle."""
    if not streamed:
        return [msgspec.json.decode(body)]
    lines = body.replace(b"\r\n", b"\n").split(b"\n")
    found = [line[5:].strip() for line in lines if line.startswith(b"data:")]
    return [msgspec.json.decode(line) for line in found if line and line != b"[DONE]"]


def expected(body: bytes, *, streamed: bool) -> list[dict[str, Any]]:
    """Text, thinking, calls and finish of each choice, as the bytes say."""
    answers: dict[int, dict[str, Any]] = {}
    for document in documents(body, streamed=streamed):
        for choice in document.get("choices") or ():
            new = {"text": "", "thinking": "", "calls": [], "finish": None}
            answer = answers.setdefault(choice.get("index") or 0, new)
            said = choice.get("delta" if streamed else "message") or {}
            add(answer, said)
            answer["finish"] = choice.get("finish_reason") or answer["finish"]
    for answer in answers.values():
        if answer["calls"] and answer["finish"] in ("stop", None):
            answer["finish"] = "tool_calls"
        answer["calls"] = [(name, arguments or "{}") for name, arguments, _ in answer["calls"]]
    return [answers[index] for index in sorted(answers)]


def add(answer: dict[str, Any], said: dict[str, Any]) -> None:
    content = said.get("content") or ""
    for piece in content if isinstance(content, list) else [{"text": content}]:
        answer["text"] += piece.get("text") or ""
        answer["thinking"] += "".join(part["text"] for part in piece.get("thinking") or ())
    details = "".join(d.get("text") or d.get("summary") or "" for d in said.get("reasoning_details") or ())
    answer["thinking"] += details or said.get("reasoning_content") or said.get("reasoning") or ""
    for call in said.get("tool_calls") or ():
        function = call.get("function") or {}
        calls, key = answer["calls"], call.get("index")
        if function.get("name") and not any(key is not None and known[2] == key for known in calls):
            calls.append((function["name"], function.get("arguments") or "", key))
        else:
            name, arguments, key = calls[-1]
            calls[-1] = (name, arguments + (function.get("arguments") or ""), key)


def seen(out: bytes, content_type: str, *, streamed: bool) -> Any:
    """Let the official client read it, every type checked; give its ChatCompletion."""

    def answer(request: httpx.Request) -> httpx.Response:
        del request
        return httpx.Response(200, content=out, headers={"content-type": content_type})

    transport = httpx.MockTransport(answer)
    with (
        httpx.Client(transport=transport) as http,
        openai.OpenAI(
            api_key="k", base_url="http://x", http_client=http, _strict_response_validation=True
        ) as client,
    ):
        if not streamed:
            return client.chat.completions.create(model="m", messages=[])
        state: Any = ChatCompletionStreamState()
        for chunk in client.chat.completions.create(model="m", messages=[], stream=True):
            state.handle_chunk(chunk)
        return state.current_completion_snapshot


def told(completion: Any) -> list[dict[str, Any]]:
    return [
        {
            "text": choice.message.content or "",
            "thinking": getattr(choice.message, "reasoning_content", "") or "",
            "calls": [(c.function.name, c.function.arguments) for c in choice.message.tool_calls or ()],
            "finish": choice.finish_reason,
        }
        for choice in completion.choices
    ]


@pytest.mark.parametrize("turned", [False, True], ids=["as it came", "the other way"])
def test_every_recorded_chat_reaches_the_official_client_whole(
    chats: list[Any], translate: Any, *, turned: bool
) -> None:
    """Vendor → hub → client keeps text, thinking, calls, finish and ids, as a stream, whole, or turned."""
    failed = 0
    for recording in chats:
        streamed = recording.streaming
        wants = streamed is not turned
        stage = translate(row(recording), streamed=streamed, wants=wants)
        try:
            out = stage.feed(recording.body()) + stage.close()
            completion = seen(out, stage.content_type, streamed=wants)
        except (GatewayError, openai.APIError):
            assert b'"error"' in recording.body(), recording.id
            failed += 1
            continue
        assert told(completion) == expected(recording.body(), streamed=streamed), recording.id
        first = next(d for d in documents(recording.body(), streamed=streamed) if d.get("id") or d["choices"])
        if first.get("id"):
            assert completion.id == first["id"], recording.id
        assert completion.usage.total_tokens == (
            completion.usage.prompt_tokens + completion.usage.completion_tokens
        ), recording.id
        assert stage.tap.close().complete, recording.id
    assert failed <= 1  # Groq's error inside a stream


def test_usage_is_what_the_tap_of_the_same_dialect_reads(
    chats: list[Any], translate: Any, provider: Any, make_exchange: Make
) -> None:
    """A translated reply and one that passes untouched are billed alike."""
    for recording in chats:
        stage = translate(row(recording), streamed=recording.streaming)
        name = ROWS.get(recording.provider, recording.provider)
        body = msgspec.json.encode({**ASK, "stream": recording.streaming})
        exchange = make_exchange(body, preset=name)
        kind = "text/event-stream" if recording.streaming else "application/json"
        tap = provider.open_usage_tap(exchange, ReplyHead(200, {"content-type": kind}))
        tap.feed(recording.body())
        theirs = tap.close()
        if theirs.usage.estimated or theirs.error:
            continue
        stage.feed(recording.body())
        stage.close()
        ours = stage.tap.close()
        assert ours.usage == theirs.usage, recording.id
        assert ours.finish_reason in (theirs.finish_reason, "tool_calls"), recording.id


def test_no_cut_of_a_stream_makes_a_difference(chats: list[Any], translate: Any, cuts: Any) -> None:
    """Whatever the reads look like, the client gets the same bytes."""
    for recording in chats:
        if not recording.streaming or len(recording.body()) > 9_000:
            continue
        outs = set()
        for pieces in itertools.islice(cuts(recording.body()), 24):
            stage = translate(row(recording), streamed=True)
            try:
                outs.add(b"".join([stage.feed(piece) for piece in pieces]) + stage.close())
            except GatewayError as error:
                outs.add(error.message.encode())
        assert len({msgspec.json.encode(without_time(out)) for out in outs}) == 1, recording.id


def without_time(out: bytes) -> Any:
    return [d if "created" not in d else {**d, "created": 0} for d in documents(out, streamed=True)]


def test_a_short_stream_cut_everywhere(translate: Any) -> None:
    """The stage gives the same bytes byte by byte and cut in two at every place."""
    data = (
        b': hi\r\n\r\ndata: {"id":"a","created":1,"model":"m","choices":[{"index":0,"delta":'
        b'{"role":"assistant","reasoning":"hm"}}]}\r\n\r\n'
        b'data: {"choices":[{"index":0,"delta":{"content":"\xc3\xa9"}}]}\n\n'
        b'data: {"choices":[{"index":0,"delta":{"tool_calls":[{"id":"c","function":{"name":"f"}}]}}]}\n\n'
        b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,'
        b'"completion_tokens":2}}\n\ndata: [DONE]\n\n'
    )
    out = testing.run_stage(lambda: translate(Preset(), streamed=True), data)
    (answer,) = told(seen(out, "text/event-stream", streamed=True))
    assert answer == {"text": "é", "thinking": "hm", "calls": [("f", "{}")], "finish": "tool_calls"}
    assert out.endswith(b"data: [DONE]\n\n")


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_cut_of_any_events(data: st.DataObject) -> None:
    """Events made at random and cut at random are read as they are in one piece."""
    names = st.sampled_from(["f", ""])
    function = st.fixed_dictionaries({"name": names, "arguments": st.text(max_size=3)})
    place = {"index": st.integers(0, 2), "id": st.sampled_from(["a", "b"])}
    call = st.fixed_dictionaries({"function": function}, optional=place)
    fields = {
        "content": st.text(max_size=5) | st.none(),
        "reasoning_content": st.text(max_size=5),
        "refusal": st.text(max_size=3),
        "tool_calls": st.lists(call, max_size=2),
    }
    delta = st.fixed_dictionaries({}, optional=fields)
    chunks = data.draw(st.lists(st.fixed_dictionaries({"delta": delta}), max_size=5))
    body = b"".join(b"data: " + msgspec.json.encode({"id": "x", "choices": [c]}) + b"\n\n" for c in chunks)
    body += b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
    points = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=6)))
    side = ChatSide(Preset())
    whole, cut = side.open_reader(), side.open_reader()
    events = [*whole.feed(body), *whole.close()]
    pieces = [body[a:b] for a, b in itertools.pairwise([0, *points, len(body)])]
    assert [e for piece in pieces for e in cut.feed(piece)] + [*cut.close()] == events
    assert isinstance(events[-1], hub.Ended)
    indexes = [e.index for e in events if isinstance(e, hub.ToolCallStarted)]
    assert indexes == [*range(len(indexes))]
