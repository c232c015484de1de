"""Replies of Ollama's chat and generate: what the recordings say, read by code of the tests' own."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from raven_ollama.embeddings import EmbeddingsVendor
from raven_ollama.replies import ChatVendor

from raven_proxy import hub, translation
from raven_proxy.errors import UpstreamError
from raven_proxy.metering import UNREADABLE
from raven_proxy.testing import run_stage

Cuts = Callable[[bytes], Iterator[list[bytes]]]
CALL = {"function": {"name": "f", "arguments": {"x": [1, "日"]}}}


def read(pieces: list[bytes]) -> list[hub.Event]:
    reader = ChatVendor().open_reader()
    events = [event for piece in pieces for event in reader.feed(piece)]
    return [*events, *reader.close()]


def lines(*messages: dict[str, Any], **last: Any) -> bytes:
    head = {"model": "m", "created_at": "2026-01-02T03:04:05.123456789Z"}
    documents = [{**head, "message": {"role": "assistant", **one}, "done": False} for one in messages]
    end = {"message": {"role": "assistant", "content": ""}, "done": True, "done_reason": "stop"}
    return b"".join(msgspec.json.encode(one) + b"\n" for one in [*documents, {**head, **end, **last}])


def good(recordings: list[Any]) -> list[Any]:
    return [r for r in recordings if r.response["status"] < 400]


def test_recorded_replies_say_what_was_recorded(recordings: list[Any]) -> None:
    assert len(good(recordings)) >= 3
    for recording in good(recordings):
        body = recording.body()
        documents = [msgspec.json.decode(line) for line in body.splitlines()]
        found = read([body])
        reply = hub.gather(found) if recording.streaming else ChatVendor().read_reply(body)
        (choice,) = reply.choices
        texts = [d.get("response") or (d.get("message") or {}).get("content") or "" for d in documents]
        assert "".join(p.text for p in choice.parts if isinstance(p, hub.Text)) == "".join(texts)
        last = documents[-1]
        assert choice.native_finish == last["done_reason"], recording.id
        assert choice.finish == last["done_reason"], recording.id
        assert reply.model == last["model"]
        assert reply.usage is not None
        assert reply.usage.prompt_tokens == last["prompt_eval_count"], recording.id
        assert reply.usage.completion_tokens == last["eval_count"], recording.id
        assert isinstance(found[-1], hub.Ended)


def test_no_cut_makes_a_difference(recordings: list[Any], cuts: Cuts) -> None:
    for recording in good(recordings):
        expected = read([recording.body()])
        for pieces in cuts(recording.body()):
            assert read(pieces) == expected, recording.id


def test_a_translation_passes_every_cut(make_exchange: Callable[..., Any]) -> None:
    exchange = make_exchange(hub.ChatRequest(model="m", messages=[]), stream=True)
    body = lines(
        {"content": "", "thinking": "Hm"}, {"content": "Ja — 日"}, {"tool_calls": [CALL]}, eval_count=2
    )

    def open_stage() -> Any:
        return translation.open_translation(exchange, ChatVendor(), streamed=True)

    out = run_stage(open_stage, body)
    assert out.count(b'["Finished"') == out.count(b'["Ended"') == 1


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(max_size=5), max_size=6), st.integers(1, 40))
def test_any_text_in_any_reads(texts: list[str], size: int) -> None:
    body = lines(*({"content": text} for text in texts), eval_count=1)
    found = read([body[i : i + size] for i in range(0, len(body), size)])
    assert found == read([body])
    assert "".join(e.text for e in found if isinstance(e, hub.TextDelta)) == "".join(texts)


def test_calls_get_ids_text_arguments_and_the_right_finish() -> None:
    body = lines(
        {"tool_calls": [CALL, {"function": {"name": "g"}}]}, {"tool_calls": [{"id": "mine", **CALL}]}
    )
    reply = hub.gather(read([body]))
    first, second, third = reply.choices[0].parts
    assert isinstance(first, hub.ToolCall)
    assert isinstance(second, hub.ToolCall)
    assert isinstance(third, hub.ToolCall)
    assert msgspec.json.decode(first.arguments) == CALL["function"]["arguments"]
    assert (second.arguments, third.id) == ("{}", "mine")
    assert len({first.id, second.id, third.id}) == 3
    assert first.id.startswith("call_")
    assert reply.choices[0].finish == "tool_calls"
    assert reply.created == 1767323045


def test_thinking_and_text_are_told_apart() -> None:
    reply = hub.gather(read([lines({"content": "", "thinking": "Hm."}, {"content": "Yes."})]))
    assert reply.choices[0].parts == [hub.Reasoning(text="Hm."), hub.Text(text="Yes.")]
    body = (
        b'{"model":"m","response":"Yes.","thinking":"Hm.","done":true,"done_reason":"length","eval_count":2}'
    )
    whole = ChatVendor().read_reply(body)
    assert whole.choices[0].parts == reply.choices[0].parts
    assert whole.choices[0].finish == "length"


def test_log_probabilities_have_openais_shape() -> None:
    item = {"token": "Y", "logprob": -0.5, "top_logprobs": [{"token": "Y", "logprob": -0.5}]}
    body = msgspec.json.encode({"message": {"content": "Y"}, "logprobs": [item], "done": True})
    found = ChatVendor().read_reply(body).choices[0].logprobs
    assert found is not None
    assert found["content"] == [{"bytes": None, **item}]


def test_an_error_line_ends_the_stream() -> None:
    found = read([lines({"content": "a"}).splitlines(keepends=True)[0] + b'{"error":"out of memory"}\n'])
    assert found[-1] == hub.Failed(message="out of memory")
    with pytest.raises(UpstreamError, match="out of memory"):
        ChatVendor().read_reply(b'{"error":"out of memory"}')


def test_half_a_reply_is_none() -> None:
    with pytest.raises(ValueError, match="not done"):
        ChatVendor().read_reply(b'{"message":{"content":"a"},"done":false}')
    assert not any(isinstance(e, hub.Ended) for e in read([b'{"message":{"content":"a"},"done":false}\n']))


def test_vectors_and_their_usage() -> None:
    reply = EmbeddingsVendor().read_reply(b'{"model":"m","embeddings":[[0.5],[1]],"prompt_eval_count":4}')
    assert reply.vectors == [[0.5], [1.0]]
    assert reply.usage is not None
    assert (reply.usage.prompt_tokens, reply.usage.total_tokens) == (4, 4)
    assert EmbeddingsVendor().read_reply(b'{"embedding":[0.5]}').usage is None


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_whatever_comes_is_events_or_an_error_that_the_core_knows(data: st.DataObject) -> None:
    body = bytearray(lines({"content": "Ja — 日", "thinking": "Hm"}, {"tool_calls": [CALL]}, eval_count=2))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(body) - 1))
        body[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    for judge in (lambda: read([bytes(body)]), lambda: ChatVendor().read_reply(bytes(body))):
        with contextlib.suppress(*UNREADABLE, UpstreamError):
            judge()
