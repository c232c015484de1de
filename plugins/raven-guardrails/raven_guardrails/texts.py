"""Every text that there is in a JSON document of any dialect, and how to put another one in its place.

All strings count, whatever they are called; so a field that a vendor adds tomorrow is looked at too. Left
out is what is no text by what it is called *and* by how it looks: ids, models, kinds, signatures, media in
base64. Where people and models write JSON of their own (tool arguments, metadata, schemas' properties)
nothing is left out, and names of members and long numbers count as well. Base64 that holds text is opened.
"""

from __future__ import annotations

import re
from typing import Any

from .payloads import Payload, read_payload, read_uri
from .slots import Passage, Slot

__all__ = ["is_wordless", "list_passages"]

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
_NUMBERS = {int, float, bool, type(None)}
_LEAST_NUMBER = 10**6  # shorter ones are nobody's
_LEAST_BASE64 = 16
_NEAR = 64  # characters in which a `data:` URI begins


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
                    if slot.key == joined and slot.holder in mine and slot.is_plain
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
        if "data:" in value[:_NEAR].lower() and (payload := read_uri(value, name, is_prose=free)) is not None:
            self._visit_payload(holder, key, payload)
        elif not free and is_wordless(name, value):
            return
        else:
            self.slots.append(Slot(holder, key, value))

    def _visit_base64(self, members: dict[str, Any], key: str, value: str, name: str) -> None:
        payload = None
        if "data:" in value[:_NEAR].lower():
            payload = read_uri(value, key)
        elif len(value) >= _LEAST_BASE64:
            payload = read_payload(members, key, value, name)
        if payload is not None:
            self._visit_payload(members, key, payload)
        elif value:
            self.slots.append(Slot(members, key, value))

    def _visit_payload(self, holder: Any, key: Any, payload: Payload) -> None:
        if payload.text is not None:
            self.slots.append(Slot(holder, key, payload.text, "coded", payload.write))


def _is_free(key: str, members: dict[str, Any], name: str) -> bool:
    """Say whether what stands in this member is somebody's own JSON."""
    if key == "response":
        return "name" in members  # Gemini's functionResponse; elsewhere it is a part of the protocol
    return key == "json" and name != "inputSchema"  # Bedrock's tool results


def is_wordless(name: str, value: str) -> bool:
    """Say whether a member's value is no text, by what it is called and how it looks."""
    is_known = name in _WORDLESS or name.endswith(("_id", "Id", "_ids", "Ids"))
    return is_known and _WORDLESS_VALUE.match(value) is not None
