"""The hub's whole reply, written as a message for a client of Anthropic's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from raven_proxy import hub
from raven_proxy.exchange import Exchange, Usage
from raven_proxy.hub import ChatReply, Choice, Part

from .citations import write_citation
from .content import FAMILY, Block
from .finish import stop_reason_of
from .signatures import is_ours, pack_call, pack_reasoning
from .usage import write_usage

__all__ = ["message_id", "model_name", "write_reply"]


def write_reply(reply: ChatReply, exchange: Exchange) -> bytes:
    """Write a message. Of several answers the first is told: no client of this dialect asks for more."""
    choice = reply.choices[0] if reply.choices else Choice()
    return msgspec.json.encode(
        {
            "id": message_id(reply.id, exchange),
            "type": "message",
            "role": "assistant",
            "model": model_name(reply.model, exchange),
            "content": [block for part in choice.parts for block in _write_part(part)],
            "stop_reason": stop_reason_of(choice.finish, choice.native_finish, choice.stop_sequence),
            "stop_sequence": choice.stop_sequence,
            "usage": write_usage(reply.usage or Usage()),
        }
    )


def message_id(given: str, exchange: Exchange) -> str:
    """Give the vendor's id, or one made of the request's."""
    return given or f"msg_{exchange.id.removeprefix('req_')}"


def model_name(given: str, exchange: Exchange) -> str:
    """Give the vendor's name of the model, else the one it was asked for by."""
    candidate = exchange.candidate
    return given or (candidate.model if candidate is not None else None) or exchange.model or ""


def _write_part(part: Part) -> Iterator[Block]:
    if isinstance(part, hub.Text):
        if part.text or part.annotations:
            block: Block = {"type": "text", "text": part.text}
            if part.annotations:
                block["citations"] = [write_citation(one) for one in part.annotations]
            yield block
    elif isinstance(part, hub.Reasoning):
        yield _write_reasoning(part)
    elif isinstance(part, hub.ToolCall):
        if part.signature is not None and part.format is not None:
            yield {"type": "redacted_thinking", "data": pack_call(part.id, part.signature, part.format)}
        arguments: dict[str, Any] = hub.parse_arguments(part.arguments)
        if part.custom:
            arguments = {"input": part.arguments}
        yield {"type": "tool_use", "id": part.id, "name": part.name, "input": arguments}
    elif isinstance(part, hub.ServerTool):
        if part.dialect == FAMILY:
            yield part.native
    elif isinstance(part, hub.Refusal):
        if part.text:
            yield {"type": "text", "text": part.text}
    # An image that a model made has no block here, and text would not be what the model said.
    elif isinstance(part, hub.Audio) and part.transcript:
        yield {"type": "text", "text": part.transcript}


def _write_reasoning(part: hub.Reasoning) -> Block:
    if part.data is not None and (is_ours(part) or not part.text):
        data = pack_reasoning(part.data, field="data", format=part.format, id=part.id)
        return {"type": "redacted_thinking", "data": data}
    field = "signature" if part.signature is not None else "data"
    opaque = part.signature or part.data
    signature = (
        pack_reasoning(opaque, field=field, format=part.format, id=part.id) if opaque is not None else ""
    )
    return {"type": "thinking", "thinking": part.text, "signature": signature}
