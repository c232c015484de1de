"""Every text that there is in a JSON document of any dialect, and how to put another one in its place.

All strings count, whatever they are called; so a field that a vendor adds tomorrow is looked at too. Left
out is what is no text by what it is called *and* by how it looks: ids, models, kinds, signatures, media in
base64. Where people and models write JSON of their own (tool arguments, metadata, schemas' properties)
nothing is left out, and names of members and long numbers count as well. Base64 that holds text is opened.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode, b64encode
from typing import Any
from urllib.parse import unquote_to_bytes

__all__ = ["Passage", "Slot", "is_text", "is_wordless", "list_passages"]

# Members whose values are words of the protocol, or nobody's words at all.
_WORDLESS = frozenset(
    "id model type role object format status signature encrypted_content thought_signature thoughtSignature "
    "finish_reason finishReason stop_reason stopReason system_fingerprint service_tier serviceTier detail "
    "effort reasoning_effort verbosity mime_type media_type mimeType encoding_format response_format "
    "tool_choice truncation voice size quality style background input_type embedding_types include level "
    "obfuscation p embedding embeddings base64 redactedContent modalities phase logprobs "
    "object_type event_type $schema $ref".split()
)
_FREE = frozenset("arguments input args metadata labels variables".split())
_PROPERTIES = frozenset({"properties", "$defs", "definitions", "patternProperties"})
_ECHOES = frozenset("instructions tools metadata tool_choice text prompt user safety_identifier".split())
_BASE64 = frozenset(
    "data bytes b64_json file_data image video audio partial_image_b64 bytesBase64Encoded blob".split()
)
_JOINED = ("text", "input_text", "output_text", "thinking", "token", "refusal")
_WORDLESS_VALUE = re.compile(r"[\w.:/+=\-@,;]*\Z", re.ASCII)
_BASE64_VALUE = re.compile(r"[A-Za-z0-9+/_\-\r\n]*={0,2}\s*\Z")
_MEDIA_MEMBERS = frozenset("b64_json partial_image_b64 bytesBase64Encoded bytes file_data".split())
_MEDIA_HOLDERS = frozenset("audio input_audio image inlineData inline_data source".split())
_MEDIA_KINDS = frozenset({"base64", "redacted_thinking"})
_DATA_URI = re.compile(r"data:([^,;]*)((?:;[^,;]*)*),", re.IGNORECASE)
_MEDIA = (
    "image/",
    "audio/",
    "video/",
    "font/",
    "application/pdf",
    "application/zip",
    "application/octet-stream",
)
_NUMBERS = {int, float, bool, type(None)}
_LEAST_NUMBER = 10**6  # shorter ones are nobody's
_LEAST_BASE64 = 16
_HEAD = 4096  # characters that tell what base64 holds


class Slot:
    """One text and its place. `text` is what it says; `write` puts it back in the form that it had."""

    __slots__ = ("_head", "_holder", "_key", "_kind", "changed", "text")

    def __init__(self, holder: Any, key: Any, text: str, kind: str = "text", head: str = "") -> None:
        self.text = text
        self.changed = False
        self._holder = holder
        self._key = key
        self._kind = kind  # "text", "name" (of a member), "number" or "base64"
        self._head = head  # what stands before base64

    @property
    def key(self) -> Any:
        """The member's name or the index where it stands."""
        return self._key

    @property
    def holder(self) -> int:
        """Give what tells its object or list from all others in the document."""
        return id(self._holder)

    @property
    def place(self) -> tuple[int, Any]:
        """Give what tells this place from all others in the document."""
        return id(self._holder), self._key

    def refresh(self) -> None:
        """Read the text again: somebody else may have written it."""
        text = self._holder[self._key]
        self.text = text if isinstance(text, str) else ""

    def write(self, text: str) -> None:
        """Put a text in the place of the one that was there."""
        if text == self.text:
            return
        self.changed = True
        holder = self._holder
        if self._kind == "name":
            while text in holder and text != self._key:  # two of them must not become one
                text += "_"
            pairs = [(text if name == self._key else name, value) for name, value in holder.items()]
            holder.clear()
            holder.update(pairs)
            self._key = text
        elif self._kind == "base64":
            holder[self._key] = self._head + b64encode(text.encode()).decode()
        else:
            holder[self._key] = text
        self.text = text


Passage = tuple[Slot, ...]
"""Texts that are read as one: what is split over them is found in what they are joined."""


def list_passages(document: Any) -> list[Passage]:
    """List what there is to judge: first what is read as one, then each text by itself.

    The document is not changed until a slot is written.
    """
    walk = _Walk()
    if isinstance(document, dict):
        walk.visit_members(document)
    elif isinstance(document, list):
        walk.visit_list(document, "", free=False, depth=0)
    # Names last, and the innermost first: renaming one moves nothing that is still to be written.
    return [*walk.joined, *((slot,) for slot in walk.slots), *((slot,) for slot in reversed(walk.names))]


class _Walk:
    def __init__(self) -> None:
        self.slots: list[Slot] = []
        self.names: list[Slot] = []
        self.joined: list[Passage] = []

    def visit_members(self, document: dict[str, Any]) -> None:
        """Look at a document; what OpenAI's responses repeat of the request is the client's own."""
        echoes = _ECHOES if document.get("object") == "response" else frozenset()
        for name, value in document.items():
            if name == "response" and isinstance(value, dict) and value.get("object") == "response":
                self.visit_members(value)
            elif name not in echoes:
                self.visit(document, name, value, name, depth=0)

    def visit(self, holder: Any, key: Any, value: Any, name: str, *, free: bool = False, depth: int) -> None:
        """Look at one value; `name` is that of the member that it stands in."""
        if isinstance(value, str):
            self._visit_text(holder, key, value, name, free=free)
        elif isinstance(value, dict):
            self._visit_dict(value, name, free=free or name in _FREE, depth=depth)
        elif isinstance(value, list):
            self.visit_list(value, name, free=free, depth=depth)
        elif free and type(value) is int and abs(value) >= _LEAST_NUMBER:
            self.slots.append(Slot(holder, key, str(value), "number"))

    def visit_list(self, items: list[Any], name: str, *, free: bool, depth: int) -> None:
        """Look at a list; the texts of its parts are also read as one."""
        if not free and not set(map(type, items)) - _NUMBERS:
            return  # vectors
        first = len(self.slots)
        for index, item in enumerate(items):
            self.visit(items, index, item, name, free=free, depth=depth + 1)
        mine = {id(item) for item in items if isinstance(item, dict)}
        if len(mine) > 1:
            for joined in _JOINED:
                row = tuple(
                    slot
                    for slot in self.slots[first:]
                    if slot.key == joined and slot.holder in mine and slot._kind == "text"
                )
                if len(row) > 1:
                    self.joined.append(row)

    def _visit_dict(self, members: dict[str, Any], name: str, *, free: bool, depth: int) -> None:
        for key, value in members.items():
            if free or name in _PROPERTIES:
                self.names.append(Slot(members, key, key, "name"))
            if isinstance(value, str) and not free and key in _BASE64:
                self._visit_base64(members, key, value, name)
            else:
                is_free = free or _is_free(key, members, name)
                self.visit(members, key, value, key, free=is_free, depth=depth + 1)

    def _visit_text(self, holder: Any, key: Any, value: str, name: str, *, free: bool) -> None:
        if not value:
            return
        if value[:5].lower() == "data:" and (match := _DATA_URI.match(value)) is not None:
            self._visit_uri(holder, key, value, match)
        elif not free and is_wordless(name, value):
            return
        else:
            self.slots.append(Slot(holder, key, value))

    def _visit_base64(self, members: dict[str, Any], key: str, value: str, name: str) -> None:
        if value[:5].lower() == "data:":
            self._visit_text(members, key, value, key, free=True)
            return
        if len(value) >= _LEAST_BASE64 and _BASE64_VALUE.match(value) is not None:
            text = _open(value)
            if text is not None:
                self.slots.append(Slot(members, key, text, "base64"))
                return
            if _says_media(members, key, name):
                return
        self.slots.append(Slot(members, key, value))

    def _visit_uri(self, holder: Any, key: Any, value: str, match: re.Match[str]) -> None:
        data = value[match.end() :]
        if match[2].lower().endswith(";base64"):
            text = _open(data)
            if text is not None:
                self.slots.append(Slot(holder, key, text, "base64", value[: match.end()]))
                return
            if match[1].lower().startswith(_MEDIA):
                return
        elif match[1].lower().startswith(_MEDIA) and is_text(unquote_to_bytes(data[:_HEAD])) is None:
            return
        self.slots.append(Slot(holder, key, value))


def _is_free(key: str, members: dict[str, Any], name: str) -> bool:
    """Say whether what stands in this member is somebody's own JSON."""
    if key == "response":
        return "name" in members  # Gemini's functionResponse; elsewhere it is a part of the protocol
    return key == "json" and name != "inputSchema"  # Bedrock's tool results


def _says_media(members: dict[str, Any], key: str, name: str) -> bool:
    if key in _MEDIA_MEMBERS or name in _MEDIA_HOLDERS or members.get("type") in _MEDIA_KINDS:
        return members.get("type") != "text"  # Anthropic's plain documents have `data` too
    kinds = (members.get("media_type"), members.get("mimeType"), members.get("mime_type"))
    return any(isinstance(kind, str) and kind.lower().startswith(_MEDIA) for kind in kinds)


def is_wordless(name: str, value: str) -> bool:
    """Say whether a member's value is no text, by what it is called and how it looks."""
    is_known = name in _WORDLESS or name.endswith(("_id", "Id", "_ids", "Ids"))
    return is_known and _WORDLESS_VALUE.match(value) is not None


def _open(value: str) -> str | None:
    """Give the text that base64 holds; None where it holds none."""
    head = value[:_HEAD]
    if is_text(_decode(head[: len(head) // 4 * 4]), is_cut=True) is None:
        return None
    return is_text(_decode(value))


def _decode(value: str) -> bytes:
    data = value.strip().replace("-", "+").replace("_", "/")
    try:
        return b64decode(data + "=" * (-len(data) % 4))
    except (binascii.Error, ValueError):
        return b"\xff"


def is_text(data: bytes, *, is_cut: bool = False) -> str | None:
    """Give bytes as a text if they are one: UTF-8 without control characters that no text has."""
    if b"\0" in data:
        return None
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        if is_cut and error.start >= len(data) - 3:
            return data[: error.start].decode("utf-8")
        return None
