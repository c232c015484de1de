"""What Converse and ConverseStream send, as far as it is read: narrow Structs.

Source: the service model `bedrock-runtime/2023-09-30/service-2` of botocore. Unknown fields, the random
padding `p` among them, are skipped.
"""

from __future__ import annotations

from typing import Any

import msgspec

from raven_proxy.exchange import Usage

from .eventstream import Headers

__all__ = [
    "STATUSES",
    "Block",
    "BlockDelta",
    "BlockStart",
    "BlockStop",
    "Delta",
    "Metadata",
    "Stop",
    "TokenUsage",
    "WholeReply",
    "read_fault",
    "status_of",
]

STATUSES = {
    "accessdenied": 403,
    "conflict": 400,
    "expiredtoken": 403,
    "incompletesignature": 403,
    "internalserver": 500,
    "internalservererror": 500,
    "internalfailure": 500,
    "invalidclienttokenid": 403,
    "invalidsignature": 403,
    "missingauthenticationtoken": 403,
    "modelerror": 424,
    "modelnotready": 429,
    "modelstreamerror": 424,
    "modeltimeout": 408,
    "optinrequired": 403,
    "requestexpired": 403,
    "resourcenotfound": 404,
    "servicequotaexceeded": 400,
    "serviceunavailable": 503,
    "signaturedoesnotmatch": 403,
    "throttling": 429,
    "toomanyrequests": 429,
    "unrecognizedclient": 403,
    "validation": 400,
}
"""HTTP status by the name of an exception, in lower case and without "Exception"."""


class CacheDetail(msgspec.Struct, rename="camel"):
    """Tokens written to the cache for one time to live."""

    ttl: str = ""
    input_tokens: int = 0


class TokenUsage(msgspec.Struct, rename="camel"):
    """Tokens. `inputTokens` leaves out what was read from or written to the cache."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_input_tokens: int | None = None
    cache_write_input_tokens: int | None = None
    cache_details: list[CacheDetail] | None = None

    def usage(self) -> Usage:
        """Give the hub's usage: the prompt with its cached tokens."""
        read, written = self.cache_read_input_tokens or 0, self.cache_write_input_tokens or 0
        prompt = self.input_tokens + read + written
        return Usage(
            prompt_tokens=prompt,
            completion_tokens=self.output_tokens,
            total_tokens=prompt + self.output_tokens,
            cached_tokens=read,
            cache_write_tokens=written,
            cache_write_1h_tokens=sum(d.input_tokens for d in self.cache_details or () if d.ttl == "1h"),
        )


# -- a whole reply ------------------------------------------------------------------


class ToolUse(msgspec.Struct, rename="camel"):
    """A call. `type` is "server_tool_use" for one that Amazon answers itself."""

    tool_use_id: str
    name: str
    input: msgspec.Raw = msgspec.Raw(b"{}")
    type: str | None = None


class ReasoningText(msgspec.Struct, rename="camel"):
    """Thinking that may be seen."""

    text: str | None = None
    signature: str | None = None


class _Reasoning(msgspec.Struct, rename="camel"):
    reasoning_text: ReasoningText | None = None
    redacted_content: str | None = None


class _Piece(msgspec.Struct):
    text: str = ""


class CitedText(msgspec.Struct, rename="camel"):
    """Text with what it was taken from."""

    content: list[_Piece] = []
    citations: list[dict[str, Any]] = []


class _Source(msgspec.Struct, rename="camel"):
    bytes: str | None = None


class Picture(msgspec.Struct, rename="camel"):
    """An image that the model made; its bytes are base64."""

    format: str | None = None
    source: _Source | None = None


class Block(msgspec.Struct, rename="camel"):
    """A content block: one of these; none is set in one of an unknown kind."""

    text: str | None = None
    tool_use: ToolUse | None = None
    tool_result: dict[str, Any] | None = None
    reasoning_content: _Reasoning | None = None
    citations_content: CitedText | None = None
    image: Picture | None = None


class _Message(msgspec.Struct, rename="camel"):
    content: list[Block] = []


class _Output(msgspec.Struct, rename="camel"):
    message: _Message | None = None


class _Tier(msgspec.Struct, rename="camel"):
    type: str | None = None


class WholeReply(msgspec.Struct, rename="camel"):
    """The body of a Converse reply."""

    stop_reason: str
    output: _Output | None = None
    usage: TokenUsage | None = None
    additional_model_response_fields: Any = None
    service_tier: _Tier | None = None


# -- a stream -----------------------------------------------------------------------


class ToolUseStart(msgspec.Struct, rename="camel"):
    """A call begins. `type` is "server_tool_use" for one that Amazon answers itself."""

    tool_use_id: str = ""
    name: str = ""
    type: str | None = None


class _Start(msgspec.Struct, rename="camel"):
    tool_use: ToolUseStart | None = None
    tool_result: dict[str, Any] | None = None
    image: Picture | None = None


class BlockStart(msgspec.Struct, rename="camel"):
    """`contentBlockStart`: text and reasoning have none."""

    content_block_index: int = 0
    start: _Start | None = None


class _ToolInput(msgspec.Struct, rename="camel"):
    input: str = ""


class ReasoningPiece(msgspec.Struct, rename="camel"):
    """A piece of thinking; `redactedContent` is base64."""

    text: str | None = None
    signature: str | None = None
    redacted_content: str | None = None


class Delta(msgspec.Struct, rename="camel"):
    """What a block grows by: one of these."""

    text: str | None = None
    tool_use: _ToolInput | None = None
    reasoning_content: ReasoningPiece | None = None
    citation: dict[str, Any] | None = None
    tool_result: list[Any] | None = None
    image: Picture | None = None


class BlockDelta(msgspec.Struct, rename="camel"):
    """`contentBlockDelta`."""

    delta: Delta
    content_block_index: int = 0


class BlockStop(msgspec.Struct, rename="camel"):
    """`contentBlockStop`."""

    content_block_index: int = 0


class Stop(msgspec.Struct, rename="camel"):
    """`messageStop`."""

    stop_reason: str
    additional_model_response_fields: Any = None


class Metadata(msgspec.Struct, rename="camel"):
    """`metadata`: the last event, after `messageStop`."""

    usage: TokenUsage | None = None


# -- faults -------------------------------------------------------------------------


def status_of(name: str) -> int | None:
    """Tell the HTTP status of an exception by its name, however it is spelled; None if it is unknown."""
    return STATUSES.get(name.lower().removesuffix("exception"))


def read_fault(headers: Headers, payload: bytes) -> str:
    """Find the text of an exception's frame."""
    try:
        document = msgspec.json.decode(payload) if payload else None
    except (msgspec.MsgspecError, ValueError, RecursionError):
        document = payload.decode("utf-8", "replace")
    found: Any = document
    if isinstance(document, dict):
        found = document.get("message") or document.get("Message") or document.get("originalMessage")
    return found if isinstance(found, str) and found else headers.reason or headers.name or "unknown error"
