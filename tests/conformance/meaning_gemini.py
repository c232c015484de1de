"""What recorded replies of Google's generateContent mean, from Gemini's API and from Vertex."""

from __future__ import annotations

import msgspec

from .meaning import Answer, Call, Json, Meaning, Tokens, read_events

__all__ = ["read_gemini"]

_FILTERED = (
    "SAFETY BLOCKLIST PROHIBITED_CONTENT SPII IMAGE_SAFETY IMAGE_PROHIBITED_CONTENT IMAGE_RECITATION "
    "RECITATION LANGUAGE"
)
_BROKEN = "MALFORMED_FUNCTION_CALL UNEXPECTED_TOOL_CALL TOO_MANY_TOOL_CALLS NO_IMAGE IMAGE_OTHER"
_FINISH = {
    "STOP": "stop",
    "OTHER": "stop",
    "MAX_TOKENS": "length",
    **dict.fromkeys(_FILTERED.split(), "content_filter"),
    **dict.fromkeys(_BROKEN.split(), "error"),
}
_NUMBERS = {1: "STOP", 2: "MAX_TOKENS", 3: "SAFETY", 4: "RECITATION", 5: "OTHER"}  # enum-encoding=int


def read_gemini(body: bytes) -> Meaning:
    """Read one document, a stream of events, or the array that a stream without `alt=sse` is."""
    meaning = Meaning()
    for document in _documents(body):
        for candidate in document.get("candidates") or ():
            _add(meaning.answer(candidate.get("index") or 0), candidate)
        if (document.get("promptFeedback") or {}).get("blockReason"):
            meaning.answer().finish = "content_filter"
        if usage := document.get("usageMetadata"):
            meaning.usage = _usage(usage)
    for answer in meaning.answers:
        if answer.calls and answer.finish == "stop":
            answer.finish = "tool_calls"
    return meaning


def _documents(body: bytes) -> list[Json]:
    if body.lstrip().startswith((b"data:", b":")):
        return [document for _, document in read_events(body)]
    found = msgspec.json.decode(body)
    return found if isinstance(found, list) else [found]


def _add(answer: Answer, candidate: Json) -> None:
    for part in (candidate.get("content") or {}).get("parts") or ():
        if part.get("thought"):
            answer.reasoning += part.get("text") or ""
        elif "functionCall" in part:
            call = part["functionCall"]
            answer.calls.append(Call(call["name"], call.get("args") or {}, call.get("id")))
        else:
            answer.text += part.get("text") or ""
    word = candidate.get("finishReason")
    if word:
        answer.finish = _FINISH[_NUMBERS[word] if isinstance(word, int) else word]
    grounding = candidate.get("groundingMetadata") or {}
    if any(chunk.get("web") for chunk in grounding.get("groundingChunks") or ()):
        answer.links += len(grounding.get("groundingSupports") or ())


def _usage(usage: Json) -> Tokens:
    thoughts = usage.get("thoughtsTokenCount") or 0
    return Tokens(
        prompt=(usage.get("promptTokenCount") or 0) + (usage.get("toolUsePromptTokenCount") or 0),
        completion=(usage.get("candidatesTokenCount") or 0) + thoughts,
        cached=usage.get("cachedContentTokenCount") or 0,
        reasoning=thoughts,
    )
