"""What recorded replies of OpenAI's chat and completions mean, with the ways of those who copy it."""

from __future__ import annotations

from typing import Any

import msgspec

from .meaning import Answer, Call, Json, Meaning, Tokens, read_arguments, read_events

__all__ = ["read_chat", "read_chat_chunks", "read_completion", "read_usage"]

_WORDS = {
    "function_call": "tool_calls",
    "": "tool_calls",  # Snowflake, beside tool calls
    "insufficient_system_resource": "error",
    "network_error": "error",
    "sensitive": "content_filter",
}


def read_chat(body: bytes, *, streaming: bool, apart: bool = False) -> Meaning:
    """Read chat completions. `apart`: reasoning is missing from `completion_tokens`, not from the total."""
    return _read(_documents(body, streaming=streaming), streaming=streaming, apart=apart)


def read_chat_chunks(chunks: list[Json], *, apart: bool = False) -> Meaning:
    """Read decoded chunks."""
    return _read(chunks, streaming=True, apart=apart)


def _read(documents: list[Json], *, streaming: bool, apart: bool) -> Meaning:
    meaning = Meaning()
    calls: dict[int, dict[Any, Json]] = {}
    for document in documents:
        if document.get("error"):
            meaning.error = _message(document["error"])
            break
        for choice in document.get("choices") or ():
            index = choice.get("index") or 0
            answer = meaning.answer(index)
            # Perplexity has both in each chunk and in each reply.
            message = choice.get("delta" if streaming else "message") or {}
            _add(answer, message, calls.setdefault(index, {}))
            word = choice.get("finish_reason")
            if word or (word == "" and not streaming):
                answer.finish = _WORDS.get(word, word)
        for table in _usage_tables(document):
            meaning.usage = read_usage(table, apart=apart)
    for index, found in calls.items():
        answer = meaning.answer(index)
        made = [call for call in found.values() if call["name"]]
        answer.calls = [
            Call(call["name"], read_arguments(call["arguments"]), call["id"] or None) for call in made
        ]
        if answer.calls and answer.finish in ("stop", None) and meaning.error is None:
            answer.finish = "tool_calls"
    return meaning


def read_completion(body: bytes, *, streaming: bool) -> Meaning:
    """Read legacy completions."""
    meaning = Meaning()
    for document in _documents(body, streaming=streaming):
        for choice in document.get("choices") or ():
            answer = meaning.answer(choice.get("index") or 0)
            answer.text += choice.get("text") or ""
            answer.finish = choice.get("finish_reason") or answer.finish
        for table in _usage_tables(document):
            meaning.usage = read_usage(table)
    return meaning


def read_usage(table: Json, *, apart: bool = False) -> Tokens:
    """Read a `usage` object of OpenAI's shape; details may stand at its top."""
    sent = table.get("prompt_tokens_details") or {}
    made = table.get("completion_tokens_details") or {}
    prompt, completion = table["prompt_tokens"], table.get("completion_tokens") or 0
    return Tokens(
        prompt=prompt,
        completion=table["total_tokens"] - prompt if apart else completion,
        cached=sent.get("cached_tokens") or table.get("cached_tokens") or 0,
        cache_write=sent.get("cache_write_tokens") or 0,
        reasoning=made.get("reasoning_tokens") or table.get("reasoning_tokens") or 0,
    )


def _documents(body: bytes, *, streaming: bool) -> list[Json]:
    if not streaming:
        return [msgspec.json.decode(body)]
    return [document for _, document in read_events(body)]


def _usage_tables(document: Json) -> list[Json]:
    places = [document.get("x_groq") or {}, *(document.get("choices") or ()), document]
    return [p["usage"] for p in places if isinstance(p, dict) and isinstance(p.get("usage"), dict)]


def _message(error: Any) -> str:
    return str(error.get("message") if isinstance(error, dict) else error)


def _add(answer: Answer, message: Json, calls: dict[Any, Json]) -> None:
    content = message.get("content")
    for part in content if isinstance(content, list) else ():  # Mistral
        if part.get("type") == "thinking":
            answer.reasoning += "".join(p.get("text") or "" for p in part.get("thinking") or ())
        else:
            answer.text += part.get("text") or ""
    answer.text += content if isinstance(content, str) else ""
    answer.refusal += message.get("refusal") or ""
    answer.reasoning += _reasoning(message)
    answer.links += len([a for a in message.get("annotations") or () if a.get("type") == "url_citation"])
    sound = message.get("audio") or {}
    answer.text += sound.get("transcript") or ""
    legacy = message.get("function_call")
    if legacy:
        found = calls.setdefault("legacy", {"id": None, "name": "", "arguments": ""})
        found["name"] += legacy.get("name") or ""
        found["arguments"] += legacy.get("arguments") or ""
    for place, call in enumerate(message.get("tool_calls") or ()):
        _add_call(call, place, calls)


def _add_call(call: Json, place: int, calls: dict[Any, Json]) -> None:
    key = call.get("index")
    if key is None:
        key = ("id", call.get("id")) if call.get("id") else place
    function = call.get("function") or call.get("custom") or {}
    found = calls.setdefault(key, {"id": "", "name": "", "arguments": ""})
    found["id"] = call.get("id") or found["id"]
    found["name"] = function.get("name") or found["name"]
    arguments = function.get("arguments", function.get("input"))
    if isinstance(arguments, dict):
        arguments = msgspec.json.encode(arguments).decode()
    found["arguments"] += arguments or ""


def _reasoning(message: Json) -> str:
    for name in ("reasoning_content", "reasoning"):
        if isinstance(message.get(name), str):
            return str(message[name])
    details = message.get("reasoning_details") or ()
    return "".join(d.get("text") or d.get("summary") or "" for d in details if isinstance(d, dict))
