"""Recorded replies as cases: what the vendor sends, what it means, and which upstream it comes from."""

from __future__ import annotations

import base64
import copy
import random
import re
from functools import cache, cached_property
from typing import Any
from zlib import crc32

import msgspec
from jiter import from_json

from raven_proxy.mock import ScriptedReply

from .meaning import Meaning
from .meaning_anthropic import read_anthropic
from .meaning_bedrock import frame_converse, frame_invoke, read_converse, read_invoke
from .meaning_cohere import read_cohere, read_ollama
from .meaning_gemini import read_gemini
from .meaning_openai import read_chat, read_completion
from .meaning_responses import read_responses
from .recordings import Recording, load_all

__all__ = ["CHAT_SURFACES", "Case", "cases", "cut"]

CHAT_SURFACES = frozenset(
    "openai.chat openai.completions openai.responses anthropic.messages vertex.anthropic "
    "gemini.generate bedrock.converse bedrock.invoke cohere.chat ollama.chat".split()
)
_EVENT_STREAM = "application/vnd.amazon.eventstream"
# Reasoning that is missing from `completion_tokens`, though it is in the total.
_REASONING_APART = frozenset({"xai", "gemini"})


# Fixtures whose deltas say something else than their last event.
_CONTRADICTORY = {"openai/responses-chat-stream-gpt-5-2-2025-12-11-6f8e0f": {"text"}}


class Case(msgspec.Struct, dict=True, frozen=True, eq=False):
    """One recorded reply of a chat."""

    recording: Recording

    @property
    def id(self) -> str:
        """Its folder and name."""
        return self.recording.id

    @property
    def surface(self) -> str:
        """The dialect and endpoint that were recorded."""
        return self.recording.surface

    @property
    def streaming(self) -> bool:
        """Whether the vendor streamed."""
        return self.recording.streaming

    @property
    def kind(self) -> str:
        """One word for what the exchange is about."""
        return self.recording.kind

    @property
    def status(self) -> int:
        """What the vendor answered."""
        return self.recording.status

    @cached_property
    def frames(self) -> list[bytes] | None:
        """AWS's frames, made again where an SDK had unpacked them; None where nothing was."""
        content_type = self.recording.response["headers"].get("content-type", "")
        if not self.surface.startswith("bedrock.") or not content_type.startswith("text/event-stream"):
            return None
        unpacked = self.recording.body
        return frame_converse(unpacked) if self.surface == "bedrock.converse" else frame_invoke(unpacked)

    @cached_property
    def body(self) -> bytes:
        """The reply's bytes, as the vendor sends them."""
        if self.frames is not None:
            return b"".join(self.frames)
        packed = self.recording.response.get("body_b64")
        return base64.b64decode(packed) if packed is not None else self.recording.body

    @property
    def reply(self) -> ScriptedReply:
        """The reply for the mock upstream, in the chunks that were recorded or one event each."""
        response = self.recording.response
        if self.frames is None:
            return ScriptedReply.from_recording({"response": response})
        headers = {**response["headers"], "content-type": _EVENT_STREAM}
        return ScriptedReply(status=self.status, headers=headers, chunks=[*self.frames])

    @property
    def seeded_reply(self) -> ScriptedReply:
        """The reply in chunks that the recording's name decides: as recorded, whole, or cut anywhere."""
        chance = random.Random(crc32(self.id.encode()))
        reply = self.reply
        style = chance.randrange(3)
        if not self.streaming or style == 0:
            return reply
        places = (
            [] if style == 1 else sorted(chance.sample(range(1, len(self.body)), min(12, len(self.body) - 1)))
        )
        return msgspec.structs.replace(reply, chunks=cut(self.body, places), body=b"")

    def meaning_for(self, face: str) -> Meaning:
        """What the reply says in a face's dialect: Anthropic's libraries read arguments that were cut off."""
        if face != "messages":
            return self.meaning
        meaning = copy.deepcopy(self.meaning)
        for answer in meaning.answers:
            for place, call in enumerate(answer.calls):
                if isinstance(call.arguments, str):
                    arguments = from_json(call.arguments.encode(), partial_mode=True)
                    answer.calls[place] = msgspec.structs.replace(call, arguments=arguments)
        return meaning

    @property
    def contradictory(self) -> set[str]:
        """Name the aspects of which the recording says two things."""
        return _CONTRADICTORY.get(self.id, set())

    @cached_property
    def meaning(self) -> Meaning:
        """What the reply says, by the oracle."""
        recording, body, streaming = self.recording, self.body, self.streaming
        match self.surface:
            case "openai.chat":
                return read_chat(body, streaming=streaming, apart=recording.provider in _REASONING_APART)
            case "openai.completions":
                return read_completion(body, streaming=streaming)
            case "openai.responses":
                return read_responses(body, streaming=streaming)
            case "anthropic.messages" | "vertex.anthropic":
                return read_anthropic(body, streaming=streaming)
            case "gemini.generate":
                return read_gemini(body)
            case "bedrock.converse":
                return read_converse(body, streaming=streaming)
            case "bedrock.invoke":
                return read_invoke(body, streaming=streaming)
            case "cohere.chat":
                return read_cohere(body, streaming=streaming)
            case "ollama.chat":
                return read_ollama(body)
        raise AssertionError(f"{self.surface} is no chat")


def cut(body: bytes, places: list[int]) -> list[bytes | float]:
    """Cut bytes into pieces that are written one at a time."""
    pieces = [body[a:b] for a, b in zip([0, *places], [*places, len(body)], strict=True)]
    return [part for piece in pieces if piece for part in (piece, 0.0)]  # 0.0: a write of its own


@cache
def cases(*, errors: bool = False) -> tuple[Case, ...]:
    """Every recorded reply of a chat that succeeded, or (`errors`) that failed.

    Left out: Cohere's first API, which the gateway does not ask, and what Bedrock's `invoke` gave for
    embeddings.
    """
    chats = (r for r in load_all() if r.surface in CHAT_SURFACES and (r.status >= 400) == errors)
    return tuple(Case(r) for r in chats if not _is_left_out(r))


def _is_left_out(recording: Recording) -> bool:
    url: Any = recording.request["url"]
    return recording.kind == "embeddings" or (
        recording.provider == "cohere" and bool(re.search(r"/v1/chat$", url))
    )
