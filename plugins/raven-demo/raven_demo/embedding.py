"""The demo's embeddings: unit vectors in which texts that share words lie near each other."""

from __future__ import annotations

import base64
import hashlib
import math
import re
import struct
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from raven_proxy import InvalidRequest

from . import speech
from .answer import Answer, decode
from .completion import Prompt, texts_of

__all__ = ["answer"]

_DEFAULT_SIZE = 384
_MAX_TEXTS = 2_048  # as OpenAI has it
_MAX_WORDS = 200  # of one text that are looked at: the event loop must not wait for a book
_WORD = re.compile(r"\w+")


class _Request(msgspec.Struct):
    input: Prompt
    dimensions: Annotated[int, Meta(ge=1, le=4_096)] | None = None
    encoding_format: Literal["float", "base64"] | None = None


def answer(body: bytes, model: str) -> Answer:
    """Embed each input. Raises InvalidRequest."""
    request = decode(body, _Request)
    texts = texts_of(request.input)
    if not texts or len(texts) > _MAX_TEXTS or "" in texts:
        raise InvalidRequest(f"Send 1 to {_MAX_TEXTS} inputs, none of them empty.", param="input")
    size = request.dimensions or _DEFAULT_SIZE
    is_packed = request.encoding_format == "base64"
    data = [
        {"object": "embedding", "index": index, "embedding": _show(_embed(text, size), size, is_packed)}
        for index, text in enumerate(texts)
    ]
    tokens = sum(map(speech.count, texts))
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return Answer({"object": "list", "data": data, "model": model, "usage": usage}, tokens)


def _embed(text: str, size: int) -> bytes:
    """Hash each word into four places of the vector; give it as little-endian 32-bit floats."""
    vector = [0.0] * size
    for word in _WORD.findall(text[: _MAX_WORDS * 32].lower())[:_MAX_WORDS] or [text]:
        digest = hashlib.blake2b(word.encode("utf-8", "replace"), digest_size=16).digest()
        for number in struct.unpack("<4I", digest):
            vector[(number >> 1) % size] += 1.0 if number & 1 else -1.0
    length = math.sqrt(sum(value * value for value in vector))
    if not length:  # all places cancelled out
        vector[0] = length = 1.0
    return struct.pack(f"<{size}f", *[value / length for value in vector])


def _show(packed: bytes, size: int, is_packed: bool) -> Any:
    return base64.b64encode(packed).decode() if is_packed else struct.unpack(f"<{size}f", packed)
