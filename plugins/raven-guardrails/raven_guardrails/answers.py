"""What the model answers in a reply: the text that a schema is about, without thoughts and tool calls."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

__all__ = ["answers_of", "has_tools", "is_answering"]

_TOOLS = (b"functionCall", b"tool_calls", b"tool_use", b"toolUse", b"function_call")


def answers_of(document: Any, dialect: str) -> list[str] | None:
    """Give each choice's text; None where the dialect is not known. Whatever the shape, it never raises."""
    read = _READERS.get(dialect)
    if read is None or not isinstance(document, dict):
        return None
    return list(read(document))


def is_answering(dialect: str, *, opaque: bool) -> bool:
    """Say whether replies are a model's answers: vectors, lists and images are none.

    Those of an endpoint that nobody knows may be.
    """
    return opaque or dialect in _READERS


def has_tools(frames: Iterable[bytes]) -> bool:
    """Say whether a stream calls tools, as far as its bytes tell: such an answer needs no text."""
    return any(word in frame for frame in frames for word in _TOOLS)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _get(value: Any, *path: str) -> Any:
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _join(parts: Any, *kinds: str) -> str:
    """Join the texts of parts of these kinds; of those without a kind, if none are named."""
    found = []
    for part in _list(parts):
        is_wanted = _get(part, "type") in kinds if kinds else not _get(part, "thought")
        text = _get(part, "text")
        if is_wanted and isinstance(text, str):
            found.append(text)
    return "".join(found)


def _chat(document: dict[str, Any]) -> Iterator[str]:
    for choice in _list(document.get("choices")):
        content = _get(choice, "message", "content")
        if content is None and _get(choice, "message", "tool_calls"):
            continue
        yield content if isinstance(content, str) else _join(content, "text")


def _completions(document: dict[str, Any]) -> Iterator[str]:
    for choice in _list(document.get("choices")):
        yield str(_get(choice, "text") or "")


def _messages(document: dict[str, Any]) -> Iterator[str]:
    if document.get("stop_reason") != "tool_use":
        yield _join(document.get("content"), "text")


def _responses(document: dict[str, Any]) -> Iterator[str]:
    items = [item for item in _list(document.get("output")) if _get(item, "type") == "message"]
    if items or not document.get("output"):
        yield "".join(_join(item["content"], "output_text") for item in items if "content" in item)


def _invoked(document: dict[str, Any]) -> Iterator[str]:
    """Claude answers as at home; what other models on Bedrock say is not known here, and matches nothing."""
    if document.get("type") == "message":
        yield from _messages(document)
    else:
        yield ""


def _gemini(document: dict[str, Any]) -> Iterator[str]:
    for candidate in _list(document.get("candidates")):
        parts = _list(_get(candidate, "content", "parts"))
        if not any(_get(part, "functionCall") for part in parts):
            yield _join(parts)


def _converse(document: dict[str, Any]) -> Iterator[str]:
    if document.get("stopReason") != "tool_use":
        yield _join(_get(document, "output", "message", "content"))


def _cohere(document: dict[str, Any]) -> Iterator[str]:
    text = document.get("text")
    yield text if isinstance(text, str) else _join(_get(document, "message", "content"), "text")


def _ollama(document: dict[str, Any]) -> Iterator[str]:
    text = document.get("response")
    yield text if isinstance(text, str) else str(_get(document, "message", "content") or "")


_READERS: dict[str, Callable[[dict[str, Any]], Iterator[str]]] = {
    "openai.chat": _chat,
    "openai.completions": _completions,
    "openai.responses": _responses,
    "openai.responses.item": lambda document: _responses(document) if "output" in document else iter(()),
    "bedrock.invoke": _invoked,
    "anthropic.messages": _messages,
    "vertex.anthropic": _messages,
    "gemini.generate": _gemini,
    "bedrock.converse": _converse,
    "cohere.chat": _cohere,
    "cohere.chat.v1": _cohere,
    "ollama.chat": _ollama,
    "ollama.generate": _ollama,
}
