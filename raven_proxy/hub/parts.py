"""What messages are made of, in requests and in replies, whatever the dialect."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

__all__ = [
    "Annotation",
    "Audio",
    "CacheMark",
    "File",
    "Image",
    "Media",
    "Message",
    "Part",
    "Reasoning",
    "Refusal",
    "Role",
    "ServerTool",
    "Text",
    "ToolCall",
    "ToolResult",
]

Role = Literal["system", "developer", "user", "assistant", "tool"]


class CacheMark(msgspec.Struct, frozen=True):
    """The client marks the prompt up to here for caching; `ttl` is "5m", "1h" or None (the vendor's own)."""

    ttl: str | None = None


class Media(msgspec.Struct, kw_only=True):
    """Bytes of an image, document or sound: exactly one of `url`, `data` (base64), `file_id`.

    `media_type` is an IANA media type ("image/png"); None where the client did not say.
    """

    url: str | None = None
    data: str | None = None
    file_id: str | None = None
    media_type: str | None = None


class Annotation(msgspec.Struct, kw_only=True):
    """A citation of a text. `start` and `end` are character offsets in the part's text, if known.

    `kind` is "url" (a page) or "document" (something that the client sent). `native` keeps what the
    vendor said, for a client of the same dialect family.
    """

    kind: Literal["url", "document"] = "url"
    url: str | None = None
    title: str | None = None
    cited_text: str | None = None
    start: int | None = None
    end: int | None = None
    native: dict[str, Any] | None = None


class Text(msgspec.Struct, kw_only=True):
    """Text that somebody wrote."""

    text: str
    annotations: list[Annotation] = []
    cache: CacheMark | None = None


class Image(msgspec.Struct, kw_only=True):
    """A picture; in a reply, one that the model made."""

    media: Media
    detail: str | None = None  # OpenAI's "low", "high", "auto"
    cache: CacheMark | None = None


class File(msgspec.Struct, kw_only=True):
    """A document, such as a PDF. Plain text documents have `text` instead of bytes."""

    media: Media
    text: str | None = None
    filename: str | None = None
    citations: bool = False  # the client wants it cited
    cache: CacheMark | None = None


class Audio(msgspec.Struct, kw_only=True):
    """Sound. `format` is "wav", "mp3", …; `transcript` and `id` belong to sound that a model made."""

    media: Media
    format: str | None = None
    id: str | None = None
    transcript: str | None = None
    expires_at: int | None = None


class Reasoning(msgspec.Struct, kw_only=True):
    """A model's thinking, or its summary, as far as the vendor shows it.

    `signature` and `data` (redacted or encrypted thinking) are opaque, and only the vendor family
    named in `format` ("anthropic", "google", "openai") can read them: never send it another's.
    """

    text: str = ""
    kind: Literal["text", "summary", "encrypted"] = "text"
    signature: str | None = None
    data: str | None = None
    format: str | None = None
    id: str | None = None


class Refusal(msgspec.Struct, kw_only=True):
    """The model says that it will not."""

    text: str


class ToolCall(msgspec.Struct, kw_only=True):
    """The model calls a function of the client's. `arguments` is JSON text, as the model wrote it.

    `custom` calls carry free text instead. `signature` is opaque (`Reasoning.format` for whose it is).
    """

    id: str
    name: str
    arguments: str
    custom: bool = False
    signature: str | None = None
    format: str | None = None
    cache: CacheMark | None = None


class ToolResult(msgspec.Struct, kw_only=True):
    """What a call gave. `content` holds Text, Image and File parts."""

    call_id: str
    content: list[Any] = []  # list[Part]; msgspec cannot build recursive unions of tagless Structs
    is_error: bool = False
    name: str | None = None  # the function's name, where the client's dialect says it
    cache: CacheMark | None = None


class ServerTool(msgspec.Struct, kw_only=True):
    """Something that a tool of the vendor's did (a search, code it ran): never the client's to answer.

    `native` is the vendor's own object, `dialect` whose it is; others can leave it out.
    """

    native: dict[str, Any]
    dialect: str


Part = Text | Image | File | Audio | Reasoning | Refusal | ToolCall | ToolResult | ServerTool


class Message(msgspec.Struct, kw_only=True):
    """One turn. Parts are in the order in which they were said.

    Tool results stand in messages of the role "tool", one result a message, in the order in which
    the client sent them; `arrange` merges and reorders for vendors that want it otherwise.
    """

    role: Role
    parts: list[Part] = []
    name: str | None = None

    def text(self) -> str:
        """Join the message's text parts."""
        return "".join([part.text for part in self.parts if type(part) is Text])
