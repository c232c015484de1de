"""Recorded exchanges with real vendors, and what they say, read by code that shares nothing with the gateway.

The recordings lie in the folder that the environment variable RAVEN_RECORDED names, else beside the
repository (`../shared/recorded`, its README tells what the fields mean).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from functools import cache, cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest

__all__ = ["MISSING", "SURFACES", "Recording", "load", "load_all", "loaded", "require"]

MISSING = "no recordings"
SURFACES = frozenset({"openai.chat", "openai.completions", "openai.embeddings", "models"})
_NOT_OPENAI = frozenset({"anthropic", "gemini"})  # their `models` have a shape of their own
_ENDPOINTS = ("chat/completions", "completions", "embeddings", "models/curie")
# Vendors whose row in the gateway's table has another name than in the recordings.
_PROVIDERS = {"azure_openai": "openai", "bedrock": "bedrock_mantle", "gemini": "gemini_openai"}
# Reasoning that is missing from `completion_tokens`, though it is in the total.
_REASONING_APART = frozenset({"xai", "gemini"})
_EMPTY_LINE = re.compile(rb"(?<=\n\n)|(?<=\r\n\r\n)")

Json = dict[str, Any]


class Recording(msgspec.Struct, dict=True):
    """One exchange. `request["body"]` is parsed JSON or None; `response["body"]` is text."""

    id: str
    provider: str
    surface: str
    kind: str
    fidelity: str
    streaming: bool
    model: str | None
    request: Json
    response: Json

    @cached_property
    def body(self) -> bytes:
        """The reply's body."""
        return str(self.response.get("body") or "").encode()

    @property
    def status(self) -> int:
        return int(self.response["status"])

    @property
    def preset(self) -> str:
        """The name of this vendor in `[[upstreams]] provider`."""
        return _PROVIDERS.get(self.provider, self.provider)

    @property
    def endpoint(self) -> str:
        """What follows /v1 on the gateway's face."""
        return next(e for e in _ENDPOINTS if self.path.endswith("/" + e))

    @property
    def path(self) -> str:
        """The path that was recorded; the double slashes of some cassettes are joined."""
        return urlsplit(self.request["url"]).path.replace("//", "/")

    @property
    def target(self) -> str:
        """The recorded path and query."""
        query = urlsplit(self.request["url"]).query
        return f"{self.path}?{query}" if query else self.path

    @property
    def base_path(self) -> str:
        """The path of the vendor's base URL, so that the gateway arrives at the recorded path."""
        if self.provider == "perplexity":  # chat at its root, embeddings under /v1: one base URL for both
            return ""
        return self.path.removesuffix("/" + self.endpoint)

    @property
    def payload(self) -> Json:
        """The request body, or the smallest one where none was recorded.

        Azure names the model in the path; a client of the gateway names it in the body.
        """
        if self.request.get("body") is not None:
            return {"model": self.model, **self.request["body"]}
        question: Json = {"messages": [{"role": "user", "content": "Hello?"}]}
        return {"model": "any-model", **question, **({"stream": True} if self.streaming else {})}

    @cached_property
    def documents(self) -> list[Json]:
        """Each JSON object of the reply: the body, or the events of a stream."""
        if not self.streaming:
            return [msgspec.json.decode(self.body)]
        lines = (line[5:].strip() for line in self.body.splitlines() if line.startswith(b"data:"))
        return [msgspec.json.decode(line) for line in lines if line and line != b"[DONE]"]

    @property
    def usage(self) -> Json | None:
        """Tokens as the vendor reported them: the last report counts. None where there is none."""
        tables = [table for document in self.documents for table in _reports(document)]
        return _read_usage(tables[-1], apart=self.provider in _REASONING_APART) if tables else None

    @property
    def finish_reason(self) -> str | None:
        """The last finish reason, in the words of contract section 2.3."""
        words = [c.get("finish_reason") for d in self.documents for c in d.get("choices") or ()]
        said = [word for word in words if word is not None]
        if not said:
            return None
        return str(said[-1]) or "tool_calls"  # Snowflake says "" beside tool calls

    @property
    def says_something(self) -> bool:
        """Whether there is any output to be seen; a truncated reply can be all hidden reasoning."""
        return bool(re.search(rb'"(content|reasoning|reasoning_content|arguments|text)": ?"[^"]', self.body))

    @property
    def has_stream_error(self) -> bool:
        return self.streaming and any(d.get("error") for d in self.documents)

    @cached_property
    def usage_events(self) -> list[bytes]:
        """The events that a vendor sends only because it was asked for usage: no choice in them."""
        events = [event for event in _EMPTY_LINE.split(self.body) if event]
        return [event for event in events if _is_usage_alone(event)]


def _is_usage_alone(event: bytes) -> bool:
    data = event.strip().removeprefix(b"data:").strip()
    if not data.startswith(b"{"):
        return False
    document = msgspec.json.decode(data)
    return document.get("choices") == [] and isinstance(document.get("usage"), dict)


def _reports(document: Json) -> Iterator[Json]:
    """The usage objects of one document, in the three places where vendors put them."""
    for place in (document.get("x_groq") or {}, *(document.get("choices") or ()), document):
        if isinstance(place, dict) and isinstance(place.get("usage"), dict):
            yield place["usage"]


def _read_usage(table: Json, *, apart: bool) -> Json:
    sent = table.get("prompt_tokens_details") or {}
    made = table.get("completion_tokens_details") or {}
    prompt, total = table["prompt_tokens"], table["total_tokens"]
    reasoning = made.get("reasoning_tokens") or 0
    return {
        "prompt_tokens": prompt,
        "completion_tokens": total - prompt if apart else table.get("completion_tokens") or 0,
        "total_tokens": total,
        "cached_tokens": sent.get("cached_tokens") or table.get("cached_tokens") or 0,
        "cache_write_tokens": sent.get("cache_write_tokens") or 0,
        "reasoning_tokens": reasoning,
        "audio_input_tokens": sent.get("audio_tokens") or 0,
        "audio_output_tokens": made.get("audio_tokens") or 0,
    }


@cache
def _folder() -> Path:
    return Path(os.environ.get("RAVEN_RECORDED") or Path(__file__).parents[3] / "shared" / "recorded")


@cache
def load_all() -> tuple[Recording, ...]:
    """Every recorded exchange; none where there are no recordings."""
    decode = msgspec.json.Decoder(Recording).decode
    return tuple(decode(path.read_bytes()) for path in sorted(_folder().rglob("*.json")))


@cache
def load() -> tuple[Recording, ...]:
    """Every exchange on the faces of an OpenAI client; none where there are no recordings."""
    wanted = [r for r in load_all() if r.surface in SURFACES]
    return tuple(r for r in wanted if r.surface != "models" or r.provider not in _NOT_OPENAI)


def loaded(*, streams: bool = False, errors: bool = False, hidden: bool = False) -> list[Any]:
    """Parameters for a test: replies that succeeded, or of these those that are as asked for.

    A single `MISSING` where there are no recordings, for `require` to speak about.
    """
    chosen = [r for r in load() if (r.status >= 400) == errors]
    chosen = [r for r in chosen if r.streaming or not (streams or hidden)]
    chosen = [r for r in chosen if r.usage_events or not hidden]
    return [pytest.param(r, id=r.id) for r in chosen] or [pytest.param(MISSING, id="none")]


def require(recording: Recording | str) -> Recording:
    """Give the recording, or skip; in CI fail: there the recordings have to be there."""
    if isinstance(recording, Recording):
        return recording
    reason = f"no recorded exchanges in {_folder()}; name their folder in RAVEN_RECORDED"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)
