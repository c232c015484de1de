"""Answers of Google's that no recording has, read as its documentation says they are meant."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from raven_gemini.replies import GenerateSide

from raven_proxy import hub
from raven_proxy.errors import UpstreamError

from .builders import Json, chunk, stream, whole

USAGE = {"promptTokenCount": 3, "candidatesTokenCount": 2, "totalTokenCount": 5}


def finishes(events: list[hub.Event]) -> list[tuple[str, str | None]]:
    return [(event.finish, event.native) for event in events if isinstance(event, hub.Finished)]


@pytest.mark.parametrize(
    ("word", "finish", "native"),
    [
        ("STOP", "stop", "STOP"),
        ("MAX_TOKENS", "length", "MAX_TOKENS"),
        ("OTHER", "stop", "OTHER"),
        ("SOMETHING_NEW", "stop", "SOMETHING_NEW"),
        (1, "stop", "STOP"),
        (2, "length", "MAX_TOKENS"),
        (3, "content_filter", "SAFETY"),
        (10, "error", "MALFORMED_FUNCTION_CALL"),
        (77, "stop", "77"),
        *[
            (word, "content_filter", word)
            for word in (
                "SAFETY BLOCKLIST PROHIBITED_CONTENT SPII IMAGE_SAFETY RECITATION LANGUAGE "
                "IMAGE_PROHIBITED_CONTENT MODEL_ARMOR"
            ).split()
        ],
        *[
            (word, "error", word)
            for word in "MALFORMED_FUNCTION_CALL UNEXPECTED_TOOL_CALL TOO_MANY_TOOL_CALLS".split()
        ],
    ],
)
def test_finish_words(word: Any, finish: str, native: str) -> None:
    """Every word, and its number, has one of the gateway's five; the vendor's own stays beside it."""
    reply = whole(chunk({"text": "x"}, finish=word))
    assert (reply.choices[0].finish, reply.choices[0].native_finish) == (finish, native)
    assert finishes(stream(chunk({"text": "x"}, finish=word))) == [(finish, native)]


def test_a_call_in_an_earlier_chunk_than_the_finish_counts() -> None:
    """STOP after a function call means tool calls, whichever chunk the call was in."""
    events = stream(chunk({"functionCall": {"name": "f"}}), chunk({"text": ""}, finish="STOP"))
    assert finishes(events) == [("tool_calls", "STOP")]
    assert finishes(stream(chunk({"functionCall": {"name": "f"}}, finish="MAX_TOKENS"))) == [
        ("length", "MAX_TOKENS")
    ]


def test_calls_without_id_or_arguments_get_both() -> None:
    """Several calls of one name are told apart; missing, null and empty arguments are {}."""
    parts: list[Json] = [
        {"functionCall": {"name": "f"}},
        {"functionCall": {"name": "f", "args": {}}},
        {"functionCall": {"name": "f", "args": None}},
        {"functionCall": {"name": "f", "args": {"a": [1, 2.0]}, "id": "theirs"}},
    ]
    calls = whole(chunk(*parts, finish="STOP")).choices[0].parts
    assert [call.arguments for call in calls] == ["{}", "{}", "{}", '{"a":[1,2.0]}']
    ids = [call.id for call in calls]
    assert len(set(ids)) == 4
    assert ids[3] == "theirs"


def test_signatures_stay_with_their_call_and_are_remembered() -> None:
    """A call's signature goes to the client and into the memory; a text's is a Reasoning of its own."""
    kept: list[tuple[str, str]] = []
    parts: list[Json] = [
        {"text": "thinking", "thought": True},
        {"text": "Hello", "thoughtSignature": "U0lHMQ=="},
        {"functionCall": {"name": "f", "id": "c1"}, "thoughtSignature": "U0lHMg=="},
        {"functionCall": {"name": "g", "id": "c2"}},
    ]
    reply = whole(chunk(*parts, finish="STOP"), remember=lambda *pair: kept.append(pair))
    assert kept == [("c1", "U0lHMg==")]
    thought, text, signed, first, second = reply.choices[0].parts
    assert thought == hub.Reasoning(text="thinking")
    assert text == hub.Text(text="Hello")
    assert signed == hub.Reasoning(signature="U0lHMQ==", format="google")
    assert isinstance(first, hub.ToolCall)
    assert (first.signature, first.format) == ("U0lHMg==", "google")
    assert isinstance(second, hub.ToolCall)
    assert (second.signature, second.format) == (None, None)


def test_two_signatures_are_never_joined() -> None:
    """Each closes the block that it signs."""
    events = stream(
        chunk({"text": "a", "thought": True, "thoughtSignature": "MQ=="}),
        chunk({"text": "b", "thought": True, "thoughtSignature": "Mg=="}, finish="STOP"),
    )
    parts = hub.gather(events).choices[0].parts
    assert [(p.text, p.signature) for p in parts] == [("a", "MQ=="), ("b", "Mg==")]


def test_a_blocked_prompt_is_an_empty_answer() -> None:
    """No candidates and a reason: content_filter with nothing in it, whole and streamed."""
    document = {
        "promptFeedback": {"blockReason": "PROHIBITED_CONTENT"},
        "usageMetadata": {"promptTokenCount": 9},
    }
    reply = whole(document)
    assert len(reply.choices) == 1
    assert reply.choices[0] == hub.Choice(finish="content_filter", native_finish="PROHIBITED_CONTENT")
    assert reply.usage is not None
    assert reply.usage.prompt_tokens == 9
    events = stream(document)
    assert finishes(events) == [("content_filter", "PROHIBITED_CONTENT")]
    assert isinstance(events[-1], hub.Ended)


def test_chunks_with_nothing_in_them_are_passed_over() -> None:
    """Chunks without candidates, without content, without parts, with an empty text."""
    events = stream(
        {"usageMetadata": {"trafficType": "ON_DEMAND"}},
        {"candidates": [{"index": 0}]},
        {"candidates": [{"content": {"role": "model"}}]},
        chunk({"text": ""}),
        chunk({}),
        chunk({"text": "Hi"}, finish="STOP", usageMetadata=USAGE),
    )
    kinds = [type(event).__name__ for event in events]
    assert kinds == ["Started", "TextDelta", "UsageReported", "Finished", "Ended"]


def test_a_stream_that_does_not_say_why_it_ended_has_not() -> None:
    """Neither an empty stream nor one whose last candidate is unfinished ends."""
    assert stream() == []
    assert not any(isinstance(event, hub.Ended) for event in stream(chunk({"text": "a"})))
    unfinished = stream(chunk({"text": "a"}, finish="STOP"), chunk({"text": "b"}, index=1))
    assert not any(isinstance(event, hub.Ended | hub.Finished) for event in unfinished)


def test_several_candidates_are_kept_apart() -> None:
    """Texts, calls and finish words belong to their own choice."""
    events = stream(
        chunk({"text": "a"}),
        chunk({"functionCall": {"name": "f"}}, index=1),
        chunk({"text": "b"}, finish="STOP"),
        chunk(index=1, finish="STOP"),
    )
    reply = hub.gather(events)
    assert [choice.finish for choice in reply.choices] == ["stop", "tool_calls"]
    assert reply.choices[0].parts == [hub.Text(text="ab")]
    with pytest.raises(ValueError, match="range"):
        stream(chunk({"text": "a"}, index=10**9))


def test_images_sound_and_code_are_parts_of_their_own() -> None:
    """Inline data by its type; what ran at Google's is a server tool, and texts around it stay apart."""
    code = {"executableCode": {"language": "PYTHON", "code": "1"}, "thoughtSignature": "MQ=="}
    parts: list[Json] = [
        {"text": "before"},
        code,
        {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "1"}},
        {"text": "after"},
        {"inlineData": {"mimeType": "image/png", "data": "iVBO"}},
        {"inlineData": {"mimeType": "audio/L16;codec=pcm;rate=24000", "data": "AAAA"}},
    ]
    made = whole(chunk(*parts, finish="STOP")).choices[0].parts
    assert made[0] == hub.Text(text="before")
    assert made[1] == hub.ServerTool(native=code, dialect="gemini.generate")
    assert made[3] == hub.Text(text="after")
    assert made[4] == hub.Image(media=hub.Media(data="iVBO", media_type="image/png"))
    assert isinstance(made[5], hub.Audio)
    assert made[5].media.data == "AAAA"


def test_log_probabilities_have_openais_shape() -> None:
    """The chosen token with its rivals."""
    result = {
        "chosenCandidates": [{"token": "é", "tokenId": 1, "logProbability": -0.5}],
        "topCandidates": [{"candidates": [{"token": "é", "logProbability": -0.5}, {"token": "e"}]}],
    }
    reply = whole(chunk({"text": "é"}, finish="STOP", candidate={"logprobsResult": result}))
    assert reply.choices[0].logprobs == {
        "content": [
            {
                "token": "é",
                "logprob": -0.5,
                "bytes": [195, 169],
                "top_logprobs": [
                    {"token": "é", "logprob": -0.5, "bytes": [195, 169]},
                    {"token": "e", "logprob": 0.0, "bytes": [101]},
                ],
            }
        ],
        "refusal": None,
    }


def test_an_error_inside_an_answer_is_one() -> None:
    """In a stream it is told as a failure with its status; in a whole answer it is raised."""
    error = {"error": {"code": 503, "message": "Overloaded.", "status": "UNAVAILABLE"}}
    events = stream(chunk({"text": "a"}), error)
    assert events[-1] == hub.Failed(message="Overloaded.", type="UNAVAILABLE", status=503)
    with pytest.raises(UpstreamError, match="Overloaded"):
        whole(error)


def test_usage_adds_what_google_counts_apart() -> None:
    """Thoughts are part of the completion, tool prompts of the prompt; sound is told by modality."""
    usage = {
        "promptTokenCount": 10,
        "toolUsePromptTokenCount": 5,
        "candidatesTokenCount": 7,
        "thoughtsTokenCount": 20,
        "cachedContentTokenCount": 4,
        "promptTokensDetails": [
            {"modality": "AUDIO", "tokenCount": 6},
            {"modality": "TEXT", "tokenCount": 4},
        ],
        "candidatesTokensDetails": [{"modality": 4, "tokenCount": 2}, "odd"],
    }
    found = whole(chunk({"text": "x"}, finish="STOP", usageMetadata=usage)).usage
    assert found is not None
    assert (found.prompt_tokens, found.completion_tokens, found.total_tokens) == (15, 27, 42)
    assert (found.cached_tokens, found.reasoning_tokens) == (4, 20)
    assert (found.audio_input_tokens, found.audio_output_tokens) == (6, 2)


@pytest.mark.parametrize("bad", [-1, "3", 1e308, None, 10**12, True])
def test_absurd_counts_are_not_believed(bad: Any) -> None:
    """A count that makes no sense is none: the gateway estimates."""
    table = {"promptTokenCount": bad, "candidatesTokenCount": bad}
    assert whole(chunk({"text": "x"}, finish="STOP", usageMetadata=table)).usage is None


def test_custom_tools_get_their_free_text_back() -> None:
    """A function that stands for a tool with free text is told as that tool."""
    parts = [{"functionCall": {"name": "patch", "args": {"input": "*** Begin"}}}]
    call = whole(chunk(*parts, finish="STOP"), custom=frozenset({"patch"})).choices[0].parts[0]
    assert isinstance(call, hub.ToolCall)
    assert (call.custom, call.arguments) == (True, "*** Begin")


def test_the_time_is_told_where_google_tells_it() -> None:
    """Vertex AI's time of creation, in Unix seconds."""
    assert whole(chunk({"text": "x"}, createTime="2026-08-19T14:34:21.877166Z")).created == 1787150061
    assert whole(chunk({"text": "x"}, createTime="yesterday")).created == 0


@pytest.mark.parametrize("body", [b"", b"{", b"[]]", b'"text"', b'{"candidates":{}}', b"\xff"])
def test_what_is_no_answer_is_refused(body: bytes) -> None:
    """Anything else is an error that the core knows."""
    with pytest.raises((ValueError, msgspec.MsgspecError)):
        GenerateSide().read_reply(body)
