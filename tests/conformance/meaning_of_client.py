"""What the official client libraries make of a reply, as a `Meaning`; and the grammar of each stream.

Only what the libraries return is looked at: their objects, their typed events, their accumulators.
The functions that take streams raise AssertionError where the events break the dialect's grammar.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from openai.lib.streaming.chat import ChatCompletionStreamState

from .meaning import Answer, Call, Meaning, Tokens, read_arguments
from .meaning_anthropic import FINISH, read_usage
from .meaning_openai import read_chat_chunks
from .meaning_openai import read_usage as read_chat_usage
from .meaning_responses import add_item, read_status

__all__ = ["of_chat", "of_chat_stream", "of_completion", "of_completion_stream", "of_message", "of_response"]


def of_chat(completion: Any, *, apart: bool = False) -> Meaning:
    """Read `openai`'s ChatCompletion, or the snapshot that its accumulator made."""
    meaning = Meaning()
    for choice in completion.choices:
        message = choice.message
        extra = message.model_extra or {}
        reasoning = extra.get("reasoning_content") or extra.get("reasoning") or ""
        answer = meaning.answer(choice.index)
        answer.text = message.content or (message.audio.transcript if message.audio else "") or ""
        answer.refusal = message.refusal or ""
        answer.reasoning = reasoning if isinstance(reasoning, str) else ""
        answer.finish = choice.finish_reason
        answer.calls = [_chat_call(call) for call in message.tool_calls or ()]
        annotations = message.annotations or ()
        answer.links = len([a for a in annotations if _field(a, "type") == "url_citation"])
    if completion.usage is not None:
        meaning.usage = read_chat_usage(completion.usage.model_dump(warnings=False), apart=apart)
    return meaning


def _chat_call(call: Any) -> Call:
    if call.type == "custom":
        return Call(call.custom.name, call.custom.input, call.id)
    return Call(call.function.name, read_arguments(call.function.arguments), call.id)


def _field(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else getattr(value, name, None)


def of_chat_stream(chunks: Sequence[Any], *, strict: bool, apart: bool = False) -> Meaning:
    """Put chunks together; with `strict` by `openai`'s own accumulator, and their grammar is checked."""
    if not strict:  # the accumulator breaks off at the ways of some vendors, whose bytes pass as they are
        return read_chat_chunks([chunk.model_dump(warnings=False) for chunk in chunks], apart=apart)
    state: Any = ChatCompletionStreamState()
    for chunk in chunks:
        state.handle_chunk(chunk)
    _check_chunks(chunks)
    meaning = of_chat(state.current_completion_snapshot)
    reports = [chunk.usage for chunk in chunks if chunk.usage is not None]
    meaning.usage = read_chat_usage(reports[-1].model_dump(warnings=False), apart=apart) if reports else None
    return meaning


def _check_chunks(chunks: Sequence[Any]) -> None:
    """Each chunk is of one completion; role first, one finish a choice, then usage alone, then nothing."""
    assert len({(c.id, c.created, c.model, c.object) for c in chunks}) == 1, "chunks of several completions"
    assert chunks[0].id, "no id"
    assert chunks[0].model, "no model"
    finished: set[int] = set()
    seen: set[int] = set()
    calls: set[tuple[int, int]] = set()
    for place, chunk in enumerate(chunks):
        if not chunk.choices:
            assert chunk.usage is not None, "a chunk of nothing"
            assert place == len(chunks) - 1, "something follows the usage"
        for choice in chunk.choices:
            assert choice.index not in finished, "something follows the finish reason"
            if choice.index not in seen:
                assert choice.delta.role == "assistant", "the first delta has no role"
                seen.add(choice.index)
            for call in choice.delta.tool_calls or ():
                key = (choice.index, call.index)
                is_first = key not in calls
                calls.add(key)
                assert is_first == (call.id is not None), "the id comes with the first delta of a call, once"
                assert call.index == 0 or (choice.index, call.index - 1) in calls, "a call is skipped"
            if choice.finish_reason is not None:
                finished.add(choice.index)
    assert finished == seen, "a choice without an end"


def of_completion(completion: Any) -> Meaning:
    """Read `openai`'s Completion."""
    meaning = Meaning()
    _add_completion(meaning, completion)
    return meaning


def of_completion_stream(chunks: Sequence[Any]) -> Meaning:
    """Put the chunks of a completion together."""
    meaning = Meaning()
    for chunk in chunks:
        _add_completion(meaning, chunk)
    return meaning


def _add_completion(meaning: Meaning, completion: Any) -> None:
    for choice in completion.choices:
        answer = meaning.answer(choice.index)
        answer.text += choice.text or ""
        answer.finish = choice.finish_reason or answer.finish
    if completion.usage is not None:
        meaning.usage = read_chat_usage(completion.usage.model_dump(warnings=False))


def of_response(response: Any) -> Meaning:
    """Read `openai`'s Response."""
    document = response.model_dump(warnings=False)
    answer = Answer()
    for item in document["output"]:
        add_item(answer, item)
    answer.finish = read_status(document, has_calls=bool(answer.calls))
    meaning = Meaning(answers=[answer])
    if response.error is not None:
        meaning.error = response.error.message
    if response.usage is not None:
        usage = response.usage
        meaning.usage = Tokens(
            prompt=usage.input_tokens,
            completion=usage.output_tokens,
            cached=usage.input_tokens_details.cached_tokens or 0,
            cache_write=getattr(usage.input_tokens_details, "cache_write_tokens", 0) or 0,
            reasoning=usage.output_tokens_details.reasoning_tokens or 0,
        )
    return meaning


def of_message(message: Any) -> Meaning:
    """Read `anthropic`'s Message, or the snapshot that its accumulator made."""
    answer = Answer(finish=FINISH[message.stop_reason] if message.stop_reason else None)
    for block in message.content:
        if block.type == "text":
            answer.text += block.text
            answer.links += len([c for c in block.citations or () if getattr(c, "url", None)])
        elif block.type == "thinking":
            answer.reasoning += block.thinking
        elif block.type == "tool_use":
            answer.calls.append(Call(block.name, block.input, block.id))
    return Meaning(answers=[answer], usage=read_usage(message.usage.model_dump()))
