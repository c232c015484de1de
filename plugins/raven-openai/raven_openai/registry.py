"""All that this package serves, in one place: faces, operations, and vendors' dialects for translations."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from urllib.parse import unquote

import msgspec

from raven_proxy import hub
from raven_proxy.faces import Face, read_nothing

from . import dialect, media, passing, rerank, responses, stored, vectors
from .chat.vendor import VENDOR as CHAT_VENDOR
from .operations import Operation
from .presets import Preset
from .vendors import Vendor

__all__ = ["FACES", "OPERATIONS", "RESPONSES", "VENDORS", "find_raw_face", "serving"]

FACES: tuple[Face, ...] = (*dialect.FACES, *responses.FACES, *media.FACES, *stored.FACES)
_ALL: tuple[Operation, ...] = (
    *passing.OPERATIONS,
    *responses.OPERATIONS,
    *media.OPERATIONS,
    *rerank.OPERATIONS,
    *stored.OPERATIONS,
)

OPERATIONS: Mapping[str, Operation] = MappingProxyType({found.dialect.name: found for found in _ALL})
"""The operation of each dialect, whether a vendor has it or not: raw paths are not judged."""

RESPONSES: Vendor = responses.VENDOR
"""How a chat is written for an upstream that is spoken to in Responses (`options.api`)."""

VENDORS: Mapping[type, Vendor] = MappingProxyType(
    {hub.ChatRequest: CHAT_VENDOR, hub.EmbeddingsRequest: vectors.VENDOR}
)
"""The kind of a hub's request → how it is written for a vendor that does not have the client's dialect."""

_RAW: Mapping[tuple[str, str], Face] = MappingProxyType(
    {
        (method, face.endpoint): msgspec.structs.replace(face, name=f"{face.name}-raw", path="", raw=True)
        for face in FACES
        for method in face.methods
        if face.endpoint and "{" not in face.endpoint
    }
)
_FINDERS = (rerank.find_raw_face, responses.find_raw_face, stored.find_raw_face)  # paths that hold ids
_ADMINISTRATION = re.compile(r"(?:openai/|v1/)*(?:organizations?|keys|auth|dashboard)(?:/.*)?", re.IGNORECASE)


def serving(preset: Preset) -> dict[str, Operation]:
    """Map the dialects that the vendor has itself to what passes them on."""
    return {found.dialect.name: found for found in _ALL if found.is_served_by(preset)}


def find_raw_face(method: str, endpoint: str) -> Face | None:
    """Name the face of a vendor's own endpoint: judged by the same rules, sent byte for byte.

    None for endpoints whose dialect is not known here. What administers the account at the vendor takes
    `admin:write`, whatever the method.
    """
    method, endpoint = method.upper(), unquote(endpoint).strip("/")  # the vendor will read it so
    if _ADMINISTRATION.fullmatch(endpoint):
        return Face(
            name="openai-administration-raw", path="", methods=(method,), scope="admin:write",
            endpoint=endpoint, read_call=read_nothing, json_body=False, raw=True, needs_model=False,
        )  # fmt: skip
    known = _RAW.get((method, endpoint))
    return known or next((face for find in _FINDERS if (face := find(method, endpoint)) is not None), None)
