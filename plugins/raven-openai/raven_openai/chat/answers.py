"""A vendor's chat completion, or a chunk of one, as Structs; and what its pieces mean in the hub.

Every deviation that vendors of this family show is read here, for whole replies and streams alike.
Raw `<think>` tags in the text are left as they are: nobody can tell them from what the model quotes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import msgspec

from raven_proxy import hub
from raven_proxy.errors import InvalidRequest
from raven_proxy.refusals import describe

__all__ = [
    "Answer",
    "Call",
    "Document",
    "decode",
    "find_failure",
    "read_annotation",
    "read_audio",
    "read_citations",
    "read_content",
    "read_details",
    "read_image",
    "read_signature",
    "thinking_text",
]

_NULL = msgspec.Raw(b"null")


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: Any = None  # a string; some send the object itself


class _Custom(msgspec.Struct):
    name: str | None = None
    input: str | None = None


class Call(msgspec.Struct):
    """A call, or a piece of one."""

    index: Any = None
    id: str | None = None
    type: str | None = None
    function: _Function | None = None
    custom: _Custom | None = None
    extra_content: Any = None

    def is_custom(self) -> bool:
        """Say whether it carries free text; Snowflake fills in `custom` for every call, with nothing."""
        custom = self.custom
        return custom is not None and bool(self.type == "custom" or (custom.name or self.function is None))

    def name(self) -> str:
        """Give the function's name, "" where this piece does not say it."""
        found = self.custom if self.is_custom() else self.function
        return (found.name if found is not None else None) or ""

    def arguments(self) -> str:
        """Give the arguments, or the piece of them."""
        if self.is_custom() and self.custom is not None:
            return self.custom.input or ""
        given = self.function.arguments if self.function is not None else None
        if given is None or isinstance(given, str):
            return given or ""
        return msgspec.json.encode(given).decode()


class Message(msgspec.Struct):
    """A message or a delta."""

    content: str | list[Any] | None = None
    reasoning_content: str | None = None
    reasoning: Any = None
    refusal: str | None = None
    tool_calls: list[Call] | None = None
    function_call: _Function | None = None
    reasoning_details: list[dict[str, Any]] | None = None
    annotations: list[Any] | None = None
    images: list[Any] | None = None
    audio: dict[str, Any] | None = None


class Answer(msgspec.Struct):
    """One of `choices`. Perplexity sends both `delta` and `message` in a stream: the delta counts there."""

    index: Any = 0
    delta: Message | None = None
    message: Message | None = None
    finish_reason: str | None = None
    native_finish_reason: str | None = None
    logprobs: dict[str, Any] | None = None
    usage: Any = None
    error: Any = None


class Document(msgspec.Struct):
    """A chat completion, a chunk of one, or an error."""

    choices: list[Answer] | None = None
    id: Any = None
    model: Any = None
    created: Any = None
    usage: Any = None
    error: Any = None
    object: Any = None
    message: Any = None
    service_tier: Any = None
    system_fingerprint: Any = None
    citations: Any = None
    search_results: Any = None
    x_groq: msgspec.Raw = _NULL

    def started(self) -> hub.Started:
        """Tell what stands at the head of every chunk."""
        created = self.created
        return hub.Started(
            id=self.id if isinstance(self.id, str) else "",
            model=self.model if isinstance(self.model, str) else "",
            created=int(created) if isinstance(created, int | float) and created > 0 else 0,
            service_tier=(self.service_tier or None) if isinstance(self.service_tier, str) else None,
            system_fingerprint=(
                (self.system_fingerprint or None) if isinstance(self.system_fingerprint, str) else None
            ),
        )


decode = msgspec.json.Decoder(Document).decode


# -- errors ----------------------------------------------------------------------------


def find_failure(document: Document) -> hub.Failed | None:
    """Find an error that came in the place of a reply, or beside a choice (OpenRouter)."""
    error = document.error
    for answer in document.choices or ():
        error = error or answer.error
    if isinstance(error, dict | str) and error:
        return read_failure({"error": error})
    if document.object == "error":
        return read_failure({"message": document.message})
    return None


def read_failure(document: Any) -> hub.Failed:
    """Read an error in any of the shapes that vendors have."""
    said = describe(document)
    inner = document.get("error", document) if isinstance(document, dict) else None
    status = None
    for name in ("code", "status_code", "status", "raw_status_code"):
        value = inner.get(name) if isinstance(inner, dict) else None
        if isinstance(value, str) and value.isascii() and value.isdigit():
            value = int(value)
        if type(value) is int and 400 <= value <= 599:
            status = value
            break
    return hub.Failed(
        message=said.message or "The provider reported an error.",
        type=said.type,
        code=said.code,
        status=status,
    )


# -- pieces ----------------------------------------------------------------------------


def read_content(items: list[Any]) -> Iterator[tuple[Literal["text", "thinking", "image"], Any]]:
    """Read Mistral's content list: text, thinking, pictures. References are left out: they have no text."""
    for item in items:
        if isinstance(item, str):
            yield "text", item
        elif isinstance(item, dict):
            if item.get("type") == "thinking":
                thinking = item.get("thinking")
                signature = item.get("signature")
                text = thinking if isinstance(thinking, str) else _join(thinking)
                yield "thinking", (text, signature if isinstance(signature, str) else None)
            elif item.get("type") == "image_url":
                if (image := read_image(item)) is not None:
                    yield "image", image
            elif isinstance(item.get("text"), str):
                yield "text", item["text"]


def _join(chunks: Any) -> str:
    found = (
        [chunk.get("text") for chunk in chunks if isinstance(chunk, dict)] if isinstance(chunks, list) else []
    )
    return "".join([text for text in found if isinstance(text, str)])


def thinking_text(message: Message) -> str:
    """Give the plain thinking; two names, and those that use both say the same in both."""
    if message.reasoning_content:
        return message.reasoning_content
    return message.reasoning if isinstance(message.reasoning, str) else ""


_FAMILIES = {"anthropic": "anthropic", "openai": "openai", "google": "google"}


def read_details(details: list[dict[str, Any]]) -> Iterator[tuple[Any, hub.Reasoning]]:
    """Read OpenRouter's `reasoning_details`; each with the key of the block it belongs to."""
    for place, detail in enumerate(details):
        kind = detail.get("type")
        form = detail.get("format")
        family = _FAMILIES.get(str(form).partition("-")[0], form) if isinstance(form, str) else None
        part = hub.Reasoning(
            text=_text(detail, "summary" if kind == "reasoning.summary" else "text") or "",
            signature=_text(detail, "signature"),
            data=_text(detail, "data"),
            id=_text(detail, "id"),
        )
        if kind == "reasoning.summary":
            part.kind = "summary"
        elif kind == "reasoning.encrypted":
            part.kind = "encrypted"
        if part.signature is not None or part.data is not None or part.kind != "text":
            part.format = family
        index = detail.get("index")
        yield (index if isinstance(index, int) else place, part.kind), part


def _text(table: dict[str, Any], name: str) -> str | None:
    value = table.get(name)
    return value if isinstance(value, str) else None


def read_signature(call: Call) -> str | None:
    """Give Google's thought signature, as its own OpenAI endpoint sends it."""
    extra = call.extra_content
    google = extra.get("google") if isinstance(extra, dict) else None
    return _text(google, "thought_signature") if isinstance(google, dict) else None


def read_annotation(item: Any) -> hub.Annotation | None:
    """Read a citation; None for what is none."""
    if not isinstance(item, dict):
        return None
    found = item.get("url_citation")
    if isinstance(found, dict):
        start, end = found.get("start_index"), found.get("end_index")
        return hub.Annotation(
            url=_text(found, "url"),
            title=_text(found, "title"),
            cited_text=_text(found, "content"),
            start=start if isinstance(start, int) else None,
            end=end if isinstance(end, int) else None,
            native=item,
        )
    return None


def read_citations(document: Document) -> list[hub.Annotation]:
    """Read Perplexity's list of pages, which belongs to the whole text."""
    results = document.search_results if isinstance(document.search_results, list) else ()
    found = [
        hub.Annotation(url=_text(result, "url"), title=_text(result, "title"), native=result)
        for result in results
        if isinstance(result, dict) and _text(result, "url")
    ]
    known = {annotation.url for annotation in found}
    citations = document.citations if isinstance(document.citations, list) else ()
    found += [
        hub.Annotation(url=url, title=url) for url in citations if isinstance(url, str) and url not in known
    ]
    return found


def read_image(item: Any) -> hub.Image | None:
    """Read a picture that a model made (OpenRouter's `images`)."""
    found = item.get("image_url") if isinstance(item, dict) else None
    url = found.get("url") if isinstance(found, dict) else found
    if not isinstance(url, str):
        return None
    try:
        return hub.Image(media=hub.media_of_url(url, param="images"))
    except InvalidRequest:
        return None


def read_audio(table: dict[str, Any] | None) -> tuple[str | None, str, str, int | None] | None:
    """Give id, base64 data, transcript and expiry, as far as they are there; None if nothing is."""
    found = table or {}
    audio_id, data, transcript = _text(found, "id"), _text(found, "data"), _text(found, "transcript")
    expires = found.get("expires_at")
    if not (audio_id or data or transcript or expires):
        return None
    return audio_id or None, data or "", transcript or "", expires if isinstance(expires, int) else None
