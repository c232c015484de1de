"""Facts of OpenAI's and its lookalikes' wire that no other test states; see `tests/conformance/WIRE.md`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from openai.types.chat import ChatCompletion
from raven_openai.chat.client import CLIENT_SIDE
from raven_openai.chat.vendor import VENDOR, ChatSide
from raven_openai.presets import PRESETS, Preset
from raven_openai.replies import open_stage
from raven_openai.responses.reader import open_reader
from raven_openai.taps import Metering, WholeTap

from raven_proxy import hub
from raven_proxy.errors import GatewayError
from raven_proxy.exchange import Exchange
from raven_proxy.harness import GatewayStarter
from raven_proxy.mock import MockUpstream

Make = Callable[..., Exchange]
HI = hub.Message(role="user", parts=[hub.Text(text="Hi")])
BODY = b'{"model":"m","messages":[{"role":"user","content":"x"}]}'


@pytest.fixture
def write(make_exchange: Make) -> Callable[..., dict[str, Any]]:
    """Write a request of Anthropic's dialect for a vendor; `lost` is filled with what was dropped."""

    def run(preset: str, lost: list[str] | None = None, **fields: Any) -> dict[str, Any]:
        fields = {"model": "m", "messages": [HI], "family": "anthropic.messages", **fields}
        request = hub.ChatRequest(**fields)
        body = VENDOR.write_request(request, make_exchange(BODY, preset=preset), PRESETS[preset])
        if lost is not None:
            lost += request.dropped
        return msgspec.json.decode(body)  # type: ignore[no-any-return]

    return run


# -- requests ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "limit"),
    [
        ({"max_completion_tokens": 5, "max_tokens": 9}, 5),
        ({"max_tokens": 9}, 9),
        ({"max_completion_tokens": None, "max_tokens": 9}, 9),
        ({}, None),
    ],
)
def test_the_newer_limit_comes_before_the_older(make_exchange: Make, fields: Any, limit: int | None) -> None:
    """`max_completion_tokens`, else `max_tokens`, else nothing."""
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}], **fields}
    assert CLIENT_SIDE.read_request(make_exchange(msgspec.json.encode(body))).max_tokens == limit


def test_openai_takes_four_stops(write: Any) -> None:
    """The rest is left out and said."""
    lost: list[str] = []
    assert write("openai", lost, stop=list("abcdef"), model="gpt-4o")["stop"] == list("abcd")
    assert lost == ["stop"]


def test_one_call_at_a_time_is_said_with_tools_alone(write: Any) -> None:
    """`parallel_tool_calls` is refused where there are no tools."""
    assert write("openai", tools=[hub.Tool(name="f")], parallel_tool_calls=False)["parallel_tool_calls"] is (
        False
    )
    assert "parallel_tool_calls" not in write("openai", parallel_tool_calls=False)


@pytest.mark.parametrize(
    ("budget", "effort"), [(3499, "low"), (3500, "medium"), (6499, "medium"), (6500, "high")]
)
def test_a_budget_is_an_effort_by_its_share(write: Any, budget: int, effort: str) -> None:
    """Of `max_tokens`: below .35 low, below .65 medium, else high."""
    thinking = hub.Thinking(enabled=True, budget_tokens=budget)
    assert write("openai", model="o3", max_tokens=10_000, thinking=thinking)["reasoning_effort"] == effort


def test_a_result_without_content_is_an_empty_text(write: Any) -> None:
    """OpenAI wants the field."""
    call = hub.Message(role="assistant", parts=[hub.ToolCall(id="a", name="f", arguments="{}")])
    result = hub.Message(role="tool", parts=[hub.ToolResult(call_id="a", content=[])])
    assert write("openai", messages=[HI, call, result])["messages"][2] == {
        "role": "tool",
        "tool_call_id": "a",
        "content": "",
    }


# -- replies -------------------------------------------------------------------------


def _read(*chunks: Any, preset: str = "openai_compatible") -> list[Any]:
    data = b"".join(b"data: %b\n\n" % msgspec.json.encode(one) for one in chunks) + b"data: [DONE]\n\n"
    reader = ChatSide(PRESETS[preset]).open_reader()
    return [*reader.feed(data), *reader.close()]


def _chunk(finish: str | None = None, **delta: Any) -> dict[str, Any]:
    return {"id": "x", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


def test_azures_filter_chunks_may_have_no_delta() -> None:
    """The asynchronous filter's results come in chunks of their own."""
    filtered = {
        "id": "", "model": "", "object": "", "choices": [
            {"index": 0, "finish_reason": None, "content_filter_results": {}, "content_filter_offsets": {}}
        ],
    }  # fmt: skip
    events = _read(_chunk(content="Hi"), filtered, _chunk("stop"), filtered)
    reply = hub.gather(events)
    assert (reply.id, reply.choices[0].parts) == ("x", [hub.Text(text="Hi")])
    assert reply.choices[0].finish == "stop"


def test_what_is_repeated_in_each_chunk_is_read_once() -> None:
    """OpenRouter and Ollama repeat the role, some the type of a call, OpenAI pads with `obfuscation`."""
    call = {"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    more = {**call, "id": None, "function": {"name": None, "arguments": ""}}
    chunks = [
        {**_chunk(role="assistant", content="H"), "obfuscation": "xyz"},
        _chunk(role="assistant", content="i"),
        _chunk(role="assistant", tool_calls=[call]),
        _chunk(role="assistant", tool_calls=[more]),
        _chunk("stop", role="assistant", content=""),
    ]
    (choice,) = hub.gather(_read(*chunks)).choices
    assert choice.parts == [hub.Text(text="Hi"), hub.ToolCall(id="a", name="f", arguments="{}")]


def test_log_probabilities_of_thinking_do_not_break_clients(make_exchange: Make) -> None:
    """DeepSeek has a list of its own for them."""
    chance = {"token": "x", "logprob": -1.0, "bytes": None, "top_logprobs": []}
    body = {
        "id": "x",
        "choices": [
            {
                "index": 0,
                "message": {"content": "x", "reasoning_content": "hm"},
                "logprobs": {"content": [chance], "reasoning_content": [chance]},
                "finish_reason": "stop",
            }
        ],
    }
    reply = ChatSide(PRESETS["deepseek"]).read_reply(msgspec.json.encode(body))
    written = CLIENT_SIDE.write_reply(reply, make_exchange(BODY))
    found = ChatCompletion.model_validate_json(written, strict=True).choices[0].logprobs
    assert found is not None
    assert found.content is not None
    assert found.content[0].token == "x"


@pytest.mark.parametrize(
    ("error", "is_hidden"), [(None, True), ({"message": "no"}, False), ("no", False), ([], False)]
)
def test_a_usage_chunk_with_an_error_is_not_hidden(error: Any, is_hidden: bool) -> None:
    """Whatever shape the error has, it is the client's to see; null is none."""
    frame = b"data: %b\n\n" % msgspec.json.encode(
        {"choices": [], "usage": {"prompt_tokens": 1}, "error": error}
    )
    stage = open_stage(streamed=True, hide_usage=True, words=None)
    assert stage is not None
    assert stage.feed(frame) + stage.close() == (b"" if is_hidden else frame)


def test_events_under_jsons_content_type_are_metered() -> None:
    """And count as complete, so that they pass."""
    tap = WholeTap(Metering(BODY))
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    chunks = [_chunk(content="Hi"), {**_chunk("stop"), "usage": usage}]
    tap.feed(b"".join(b"data: %b\n\n" % msgspec.json.encode(one) for one in chunks) + b"data: [DONE]\n\n")
    tally = tap.close()
    assert tally.usage is not None
    assert (tally.complete, tally.finish_reason, tally.usage.total_tokens) == (True, "stop", 3)


@pytest.mark.parametrize("size", [1, 9, 10_000])
def test_a_document_in_the_place_of_a_stream_is_a_reply(size: int) -> None:
    """Of a chat and of Responses; an error there is an error."""
    chat = {"id": "x", "choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}]}
    item = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Hi"}]}
    response = {"id": "r", "status": "completed", "model": "m", "output": [item]}
    for document, opened in ((chat, ChatSide(Preset()).open_reader()), (response, open_reader())):
        data = msgspec.json.encode(document)
        events = [e for i in range(0, len(data), size) for e in opened.feed(data[i : i + size])]
        events += opened.close()
        assert hub.gather(events).choices[0].parts == [hub.Text(text="Hi")]
        assert isinstance(events[-1], hub.Ended)
    failure = b'{"error":{"message":"busy","code":"server_error"}}'
    opened = open_reader()
    (failed,) = [*opened.feed(failure), *opened.close()]
    assert isinstance(failed, hub.Failed)
    opened = ChatSide(Preset()).open_reader()
    with pytest.raises(GatewayError, match="busy"):
        [*opened.feed(failure), *opened.close()]


# -- vendors ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "url", "needs_key"),
    [("jina", "https://api.jina.ai/v1", True), ("tei", "http://127.0.0.1:8080", False)],
)
def test_rankers_have_rows(name: str, url: str, needs_key: bool) -> None:
    """Jina's own API, and a Text Embeddings Inference server of one's own."""
    assert (PRESETS[name].base_url, PRESETS[name].needs_key) == (url, needs_key)


async def test_a_ranking_server_of_ones_own(raven: GatewayStarter, upstream: MockUpstream) -> None:
    """Text Embeddings Inference ranks at its root, in its own words, and embeds under /v1."""
    place = {"name": "tei", "provider": "tei", "base_url": upstream.origin}
    gateway = await raven(["cohere"], upstreams=[place])
    ask = {"model": "tei/bge", "query": "q", "documents": ["a", {"text": "b"}], "top_n": 1}
    upstream.reply(json=[{"index": 0, "score": 0.1}, {"index": 1, "score": 0.9}])
    async with gateway.client.post("/v1/rerank", json=ask) as reply:
        results = (await reply.json())["results"]
    assert [(one["index"], one["relevance_score"]) for one in results] == [(1, 0.9)]
    assert (upstream.seen[0].target, upstream.seen[0].json) == (
        "/rerank",
        {"query": "q", "texts": ["a", "b"]},
    )
    upstream.reply(json={"object": "list", "data": [{"index": 0, "embedding": [0.5]}], "model": "m"})
    async with gateway.client.post("/v1/embeddings", json={"model": "tei/bge", "input": "x"}) as reply:
        assert reply.status == 200
    assert upstream.seen[1].target == "/v1/embeddings"


async def test_jina_gets_the_clients_bytes(
    raven: GatewayStarter, upstream: MockUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its rerank is the face's own dialect."""
    monkeypatch.setenv("JINA_KEY", "jina_0123456789")
    place = {"name": "jina", "provider": "jina", "base_url": upstream.url, "key": {"env": "JINA_KEY"}}
    gateway = await raven(["cohere"], upstreams=[place])
    upstream.reply(json={"results": [{"index": 0, "relevance_score": 0.9}], "usage": {"total_tokens": 3}})
    ask = {"model": "jina/jina-reranker-v2", "query": "q", "documents": ["a"], "top_n": 1}
    async with gateway.client.post("/v1/rerank", json=ask) as reply:
        assert (await reply.json())["results"] == [{"index": 0, "relevance_score": 0.9}]
    assert upstream.seen[0].json == {**ask, "model": "jina-reranker-v2"}
    assert upstream.seen[0].headers["authorization"] == "Bearer jina_0123456789"
