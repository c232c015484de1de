"""Whatever a vendor's reply holds, chat clients get it in OpenAI's shape, whole or in chunks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from raven_openai.chat.client import CLIENT_SIDE

from raven_proxy import hub
from raven_proxy.exchange import Exchange, Usage

Make = Callable[..., Exchange]
USAGE = Usage(
    prompt_tokens=10,
    completion_tokens=5,
    total_tokens=15,
    cached_tokens=3,
    cache_write_tokens=2,
    reasoning_tokens=4,
)
OTHERS = [hub.Annotation(url="https://b.example"), hub.Annotation(kind="document", title="d")]
URL = hub.Annotation(url="https://a.example", title="A", start=1, end=3)
FULL = hub.ChatReply(
    id="msg_1",
    model="claude",
    created=7,
    service_tier="default",
    system_fingerprint="fp",
    usage=USAGE,
    choices=[
        hub.Choice(
            parts=[
                hub.Reasoning(text="hm", signature="S", format="anthropic"),
                hub.Reasoning(kind="encrypted", data="D", format="anthropic"),
                hub.Text(text="Hello ", annotations=[URL]),
                hub.Text(text="you", annotations=OTHERS),
                hub.Image(media=hub.Media(data="AAAA", media_type="image/png")),
                hub.ToolCall(id="c1", name="f", arguments='{"a":1}', signature="G", format="google"),
                hub.ServerTool(native={}, dialect="anthropic.messages"),
                hub.ToolCall(id="c2", name="g", arguments="{}"),
                hub.Audio(media=hub.Media(data="AAA="), id="a", transcript="hi", expires_at=9),
            ],
            finish="tool_calls",
            native_finish="tool_use",
            logprobs={"content": [{"token": "x", "logprob": -1.0, "bytes": None, "top_logprobs": []}]},
        )
    ],
)  # fmt: skip


@pytest.fixture
def ask(make_exchange: Make) -> Callable[..., Exchange]:
    """Make an exchange of a chat client's."""

    def run(**fields: Any) -> Exchange:
        body = msgspec.json.encode({"model": "m", "messages": [{"role": "user", "content": "x"}], **fields})
        exchange = make_exchange(body, model="upstreams-name")
        exchange.hub_request = CLIENT_SIDE.read_request(exchange)
        return exchange

    return run


def stream(exchange: Exchange, events: Any) -> tuple[list[Any], bytes]:
    writer = CLIENT_SIDE.open_writer(exchange)
    out = b"".join([writer.write(event) for event in events])
    lines = [line[6:] for line in out.split(b"\n") if line.startswith(b"data: ")]
    return [
        ChatCompletionChunk.model_validate_json(line, strict=True) for line in lines if line != b"[DONE]"
    ], out


def gathered(chunks: list[Any]) -> Any:
    state: Any = ChatCompletionStreamState()
    for chunk in chunks:
        state.handle_chunk(chunk)
    return state.current_completion_snapshot


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_a_reply_arrives_with_all_its_parts(ask: Any, *, streamed: bool) -> None:
    """Whole or gathered from chunks, the official types hold the same things."""
    exchange = ask(stream=streamed, stream_options={"include_usage": True})
    if streamed:
        chunks, out = stream(exchange, hub.events_of(FULL))
        completion = gathered(chunks)
    else:
        out = CLIENT_SIDE.write_reply(FULL, exchange)
        completion = ChatCompletion.model_validate_json(out, strict=True)
    (choice,) = completion.choices
    message, extra = choice.message, choice.message.model_extra
    assert (completion.id, completion.created, completion.model) == ("msg_1", 7, "claude")
    assert completion.system_fingerprint == "fp"
    assert (message.role, message.content) == ("assistant", "Hello you")
    assert extra["reasoning_content"] == "hm"
    assert [
        (d["type"], d["index"], d.get("signature"), d.get("data")) for d in extra["reasoning_details"]
    ] == [
        ("reasoning.text", 0, "S", None),
        ("reasoning.encrypted", 1, None, "D"),
    ]
    assert extra["reasoning_details"][0]["text"] == "hm"
    calls = [(c.id, c.function.name, c.function.arguments) for c in message.tool_calls]
    assert calls == [("c1", "f", '{"a":1}'), ("c2", "g", "{}")]
    assert message.tool_calls[0].model_extra["extra_content"] == {"google": {"thought_signature": "G"}}
    pages = [a if isinstance(a, dict) else a.model_dump() for a in message.annotations]
    found = [
        (p["url_citation"]["url"], p["url_citation"]["start_index"], p["url_citation"]["end_index"])
        for p in pages
    ]
    assert found == [("https://a.example", 1, 3), ("https://b.example", 6, 9)]
    assert extra["citations"][0]["title"] == "d"
    assert extra["images"][0]["image_url"]["url"] == "data:image/png;base64,AAAA"
    sound = message.audio if isinstance(message.audio, dict) else message.audio.model_dump()
    assert (sound["id"], sound["data"], sound["transcript"], sound["expires_at"]) == ("a", "AAA=", "hi", 9)
    assert choice.finish_reason == "tool_calls"
    assert b'"native_finish_reason":"tool_use"' in out
    assert choice.logprobs.content[0].token == "x"
    usage = completion.usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (10, 5, 15)
    assert usage.prompt_tokens_details.cached_tokens == 3
    assert usage.completion_tokens_details.reasoning_tokens == 4
    assert usage.prompt_tokens_details.model_dump()["cache_write_tokens"] == 2


def test_thinking_that_was_written_comes_back_the_same(ask: Any) -> None:
    """A client that sends `reasoning_details` and the calls back gives the vendor its signatures."""
    message = msgspec.json.decode(CLIENT_SIDE.write_reply(FULL, ask()))["choices"][0]["message"]
    kept = {k: message[k] for k in ("role", "content", "reasoning_details", "tool_calls")}
    results = [{"role": "tool", "tool_call_id": c["id"], "content": "1"} for c in message["tool_calls"]]
    user = {"role": "user", "content": "x"}
    request = ask(messages=[user, kept, *results]).hub_request
    given = [p for p in FULL.choices[0].parts if isinstance(p, hub.Reasoning | hub.ToolCall)]
    assert [p for p in request.messages[1].parts if not isinstance(p, hub.Text)] == given


def test_a_stream_begins_with_the_role_and_ends_with_done(ask: Any) -> None:
    """Usage comes only if it was asked for, pings are comments, and each chunk is complete."""
    events = [hub.Started(id="x", model="m", created=1), hub.Pinged(), hub.TextDelta("a")]
    events += [hub.Finished(finish="stop"), hub.UsageReported(USAGE), hub.Ended()]
    chunks, out = stream(ask(stream=True), events)
    assert [c.choices[0].delta.model_dump(exclude_unset=True) for c in chunks] == [
        {"role": "assistant", "content": "", "refusal": None},
        {"content": "a"},
        {},
    ]
    assert {(c.id, c.created, c.model, c.object) for c in chunks} == {("x", 1, "m", "chat.completion.chunk")}
    assert b"\n\n: ping\n\n" in out
    assert out.endswith(b"data: [DONE]\n\n")
    chunks, _ = stream(ask(stream=True, stream_options={"include_usage": True}), events)
    assert (chunks[-1].choices, chunks[-1].usage.total_tokens) == ([], 15)


def test_a_vendor_without_name_and_id_gets_the_exchanges(ask: Any) -> None:
    reply = hub.ChatReply(choices=[hub.Choice(parts=[hub.Text(text="x")])])
    document = msgspec.json.decode(CLIENT_SIDE.write_reply(reply, ask()))
    assert (document["id"], document["model"]) == ("chatcmpl-test", "upstreams-name")
    assert document["created"] > 1_700_000_000
    chunks, _ = stream(ask(stream=True), [hub.TextDelta("x"), hub.Ended()])
    assert chunks[0].id == "chatcmpl-test"


def test_several_answers_keep_apart(ask: Any) -> None:
    """Each has its own first chunk, and thinking of one does not end where another speaks."""
    events = [
        hub.Started(id="x", model="m", created=1),
        hub.ReasoningDelta("h", choice=1),
        hub.TextDelta("a"),
        hub.ReasoningDelta("m", choice=1, signature="S"),
        hub.TextDelta("b", choice=1),
        hub.Finished(finish="stop"),
        hub.Finished(finish="length", choice=1),
        hub.Ended(),
    ]
    snapshot = gathered(stream(ask(stream=True, n=2), events)[0])
    first, second = snapshot.choices
    assert (first.message.content, second.message.content) == ("a", "b")
    assert second.message.model_extra["reasoning_details"][0]["text"] == "hm"
    assert (first.finish_reason, second.finish_reason) == ("stop", "length")


def test_the_words_of_before_tools_are_answered(ask: Any) -> None:
    """A client that sent `functions` gets `function_call`, whole or streamed."""
    part = hub.ToolCall(id="c", name="f", arguments="{}")
    reply = hub.ChatReply(choices=[hub.Choice(parts=[part], finish="tool_calls")])
    document = msgspec.json.decode(CLIENT_SIDE.write_reply(reply, ask(functions=[{"name": "f"}])))
    assert document["choices"][0]["message"]["function_call"] == {"name": "f", "arguments": "{}"}
    assert document["choices"][0]["finish_reason"] == "function_call"
    chunks, _ = stream(ask(stream=True, functions=[{"name": "f"}]), hub.events_of(reply))
    assert [
        c.choices[0].delta.function_call.arguments for c in chunks if c.choices[0].delta.function_call
    ] == ["", "{}"]
    assert chunks[-1].choices[0].finish_reason == "function_call"


def test_custom_calls_carry_their_text(ask: Any) -> None:
    part = hub.ToolCall(id="c", name="f", arguments="free", custom=True)
    reply = hub.ChatReply(choices=[hub.Choice(parts=[part], finish="tool_calls")])
    message = ChatCompletion.model_validate_json(CLIENT_SIDE.write_reply(reply, ask())).choices[0].message
    assert message.tool_calls is not None
    assert message.tool_calls[0].model_dump()["custom"] == {"name": "f", "input": "free"}
    writer = CLIENT_SIDE.open_writer(ask(stream=True))
    out = b"".join([writer.write(event) for event in hub.events_of(reply)])
    assert b'"custom":{"input":"free"}' in out


@pytest.mark.parametrize(
    "parts", [[], [hub.Refusal(text="no")], [hub.ToolCall(id="c", name="f", arguments="{}")]]
)
def test_a_reply_without_text_is_valid(ask: Any, parts: Any) -> None:
    """No text is "" where nothing else was said, and null beside a call or a refusal."""
    reply = hub.ChatReply(choices=[hub.Choice(parts=parts)])
    completion = ChatCompletion.model_validate_json(CLIENT_SIDE.write_reply(reply, ask()), strict=True)
    assert completion.choices[0].message.content == (None if parts else "")


def test_foreign_service_tiers_do_not_break_strict_clients(ask: Any) -> None:
    reply = hub.ChatReply(choices=[hub.Choice()], service_tier="on_demand")
    assert b"service_tier" not in CLIENT_SIDE.write_reply(reply, ask())
