"""Text completions are served by any vendor: as one message of a chat, with the older dialect's answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from openai.types import Completion
from raven_openai.completions import CLIENT_SIDE
from raven_openai.dialect import FACES

from raven_proxy import hub
from raven_proxy.errors import InvalidRequest
from raven_proxy.exchange import Exchange, ReplyHead, Usage

Make = Callable[..., Exchange]
CHANCES = {
    "content": [
        {"token": "Hi", "logprob": -0.5, "top_logprobs": [{"token": "Hi", "logprob": -0.5}]},
        {"token": "!", "logprob": -1, "top_logprobs": []},
    ]
}
REPLY = hub.ChatReply(
    id="x", created=1, model="m", usage=Usage(prompt_tokens=1, completion_tokens=2, total_tokens=3),
    choices=[
        hub.Choice(parts=[hub.Reasoning(text="hm"), hub.Text(text="Hi!")], finish="length", logprobs=CHANCES),
        hub.Choice(parts=[hub.Text(text="Ho")], finish="tool_calls", native_finish="odd"),
    ],
)  # fmt: skip


@pytest.fixture
def ask(make_exchange: Make) -> Callable[..., Exchange]:
    """Make an exchange of a client's, with its request in the hub."""

    def run(**fields: Any) -> Exchange:
        body = msgspec.json.encode({"model": "m", "prompt": "Say hi. ", **fields})
        exchange = make_exchange(body, face=FACES[1], model="upstreams-name", preset="mistral")
        exchange.hub_request = CLIENT_SIDE.read_request(exchange)
        return exchange

    return run


@pytest.mark.parametrize("prompt", ["a", ["a"]])
def test_a_prompt_is_one_message(ask: Any, prompt: Any) -> None:
    """Parameters keep their values; what a chat cannot be told is named."""
    request = ask(
        prompt=prompt, max_tokens=5, temperature=0.1, stop="x", n=2, logprobs=3, best_of=2, min_p=1
    ).hub_request
    assert request.messages == [hub.Message(role="user", parts=[hub.Text(text="a")])]
    assert (request.model, request.max_tokens, request.stop, request.n) == ("upstreams-name", 5, ["x"], 2)
    assert (request.logprobs, request.top_logprobs) == (True, 3)
    assert request.dropped == ["best_of", "min_p"]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": ["a", "b"]}, "prompt"),
        ({"prompt": [1, 2]}, "prompt"),
        ({"prompt": [[1]]}, "prompt"),
        ({"prompt": None}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"suffix": "x"}, "suffix"),
        ({"logprobs": "x"}, "logprobs"),
    ],
)
def test_what_a_chat_cannot_do_is_refused(ask: Any, fields: Any, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        ask(**fields)
    assert caught.value.param == param


def test_a_reply_is_a_text_completion(ask: Any) -> None:
    """The official type takes it, with log probabilities in the older shape and offsets after the echo."""
    body = CLIENT_SIDE.write_reply(REPLY, ask(echo=True, n=2))
    completion = Completion.model_validate_json(body, strict=True)
    first, second = completion.choices
    assert (first.text, first.finish_reason, second.finish_reason) == ("Say hi. Hi!", "length", "stop")
    assert first.logprobs is not None
    assert first.logprobs.tokens == ["Hi", "!"]
    assert first.logprobs.text_offset == [8, 10]
    assert completion.usage is not None
    assert completion.usage.total_tokens == 3
    assert first.model_extra == {"reasoning_content": "hm"}
    assert second.model_extra == {"native_finish_reason": "odd"}


def test_a_stream_says_the_same(ask: Any) -> None:
    """Chunks add up to the reply, usage comes if it was asked for, and `[DONE]` ends it."""
    writer = CLIENT_SIDE.open_writer(ask(stream=True, echo=True, stream_options={"include_usage": True}))
    out = b"".join([writer.write(event) for event in hub.events_of(REPLY)])
    *lines, done = [line[6:] for line in out.split(b"\n\n") if line]
    chunks = [msgspec.json.decode(line) for line in lines]
    texts = {0: "", 1: ""}
    for chunk in chunks[:-1]:
        (choice,) = chunk["choices"]
        texts[choice["index"]] += choice["text"]
    assert texts == {0: "Say hi. Hi!", 1: "Say hi. Ho"}
    assert {chunk["object"] for chunk in chunks} == {"text_completion"}
    assert (chunks[-1]["choices"], chunks[-1]["usage"]["total_tokens"]) == ([], 3)
    assert done == b"[DONE]"


def test_a_vendor_without_the_endpoint_gets_a_chat(make_exchange: Make, provider: Any) -> None:
    """Mistral has no text completions: the request goes to its chat and comes back as one."""
    body = b'{"model":"m","prompt":"Hi","max_tokens":3,"stream":true}'
    exchange = make_exchange(body, face=FACES[1], preset="mistral")
    outgoing = provider.build_request(exchange)
    assert outgoing.target == "/v1/chat/completions"
    assert msgspec.json.decode(outgoing.body) == {
        "model": "m",
        "messages": [{"role": "user", "content": "Hi"}],
        "stream": True,
        "max_tokens": 3,
    }
    stage = provider.open_translator(exchange, ReplyHead(200, {"content-type": "text/event-stream"}))
    out = stage.feed(
        b'data: {"id":"a","choices":[{"index":0,"delta":{"content":"Ho"},"finish_reason":"stop"}]}\n\n'
    )
    out += stage.feed(b"data: [DONE]\n\n") + stage.close()
    assert b'"text":"Ho"' in out
    assert out.endswith(b"data: [DONE]\n\n")
    assert stage.tap.close().finish_reason == "stop"


def test_a_vendor_with_the_endpoint_gets_the_bytes(make_exchange: Make, provider: Any) -> None:
    body = b'{ "model":"m", "prompt":"Hi" }'
    outgoing = provider.build_request(make_exchange(body, face=FACES[1], preset="vllm"))
    assert (outgoing.target, outgoing.body) == ("/v1/completions", body)
