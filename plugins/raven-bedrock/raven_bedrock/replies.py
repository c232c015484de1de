"""Reads Converse's replies into the hub: whole ones here, streams in `streams`.

Responsible for finish reasons and usage, and for undoing what `requests` did: the tool that stands for a
JSON schema, and the documents' neutral names.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from raven_proxy import hub
from raven_proxy.hub.replies import Finish

from .citations import join_base64, read_citation, read_redacted
from .wire import Block, ToolUse, WholeReply

__all__ = ["DIALECT", "Context", "make_image", "read_finish", "read_reply", "read_stop_sequence"]

DIALECT = "bedrock.converse"

_FINISH: dict[str, Finish] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "guardrail_intervened": "content_filter",
    "content_filtered": "content_filter",
    "malformed_model_output": "error",
    "malformed_tool_use": "error",
}
_decode = msgspec.json.Decoder(WholeReply).decode


class Context(msgspec.Struct, frozen=True):
    """What a reply does not say of itself. `reasoning_format` is whose signatures the model issues.

    `json_tool` is the tool whose call is the answer, if the request had to force one. `titles` are
    the documents' own names, by those they were sent under.
    """

    id: str = ""
    model: str = ""
    reasoning_format: str = "bedrock"
    json_tool: str | None = None
    titles: Mapping[str, str] = MappingProxyType({})


def read_finish(word: str, *, has_calls: bool) -> Finish:
    """Read a `stopReason`; an unknown one is a plain stop. Calls are calls, whatever the word."""
    finish = _FINISH.get(word, "stop")
    if finish == "tool_calls":
        return "tool_calls" if has_calls else "stop"
    return "tool_calls" if finish == "stop" and has_calls else finish


def read_reply(body: bytes, context: Context) -> hub.ChatReply:
    """Read a whole reply. Raises msgspec's errors and ValueError."""
    reply = _decode(body)
    blocks = reply.output.message.content if reply.output is not None and reply.output.message else []
    parts: list[hub.Part] = []
    answer: str | None = None
    for block in blocks:
        call = block.tool_use
        if call is not None and context.json_tool is not None and call.name == context.json_tool:
            answer = _arguments(call)
        elif (part := _read_block(block, context)) is not None:
            parts.append(part)
    if answer is not None:  # what the model said before it is no part of the JSON
        parts = [part for part in parts if not isinstance(part, hub.Text)] + [hub.Text(text=answer)]
    has_calls = any(isinstance(part, hub.ToolCall) for part in parts)
    choice = hub.Choice(
        parts=parts,
        finish=read_finish(reply.stop_reason, has_calls=has_calls),
        native_finish=reply.stop_reason,
        stop_sequence=read_stop_sequence(reply.additional_model_response_fields),
    )
    return hub.ChatReply(
        id=context.id,
        model=context.model,
        created=int(time.time()),
        choices=[choice],
        usage=reply.usage.usage() if reply.usage is not None else None,
        service_tier=reply.service_tier.type if reply.service_tier is not None else None,
    )


def read_stop_sequence(fields: Any) -> str | None:
    """Find the sequence that was hit, if the client asked for it by `additionalModelResponseFieldPaths`."""
    found = fields.get("stop_sequence") if isinstance(fields, dict) else None
    return found if isinstance(found, str) else None


def _read_block(block: Block, context: Context) -> hub.Part | None:
    """Read one content block; None for unknown ones."""
    if block.text is not None:
        return hub.Text(text=block.text)
    if (call := block.tool_use) is not None:
        if call.type == "server_tool_use":
            native = msgspec.to_builtins(call, str_keys=True) | {"input": msgspec.json.decode(call.input)}
            return hub.ServerTool(native={"toolUse": native}, dialect=DIALECT)
        return hub.ToolCall(id=call.tool_use_id, name=call.name, arguments=_arguments(call))
    if block.tool_result is not None:
        return hub.ServerTool(native={"toolResult": block.tool_result}, dialect=DIALECT)
    if (thought := block.reasoning_content) is not None:
        if (shown := thought.reasoning_text) is not None:
            form = context.reasoning_format if shown.signature else None
            return hub.Reasoning(text=shown.text or "", signature=shown.signature, format=form)
        if thought.redacted_content is not None:
            data, form = read_redacted(thought.redacted_content, context.reasoning_format)
            return hub.Reasoning(kind="encrypted", data=data, format=form)
    if (cited := block.citations_content) is not None:
        text = "".join([piece.text for piece in cited.content])
        found = [read_citation(one, len(text), context.titles) for one in cited.citations]
        return hub.Text(text=text, annotations=found)
    if (image := block.image) is not None and image.source is not None and image.source.bytes:
        return make_image(image.format, [image.source.bytes])
    return None


def make_image(form: str | None, pieces: list[str]) -> hub.Image:
    """Make a picture of its base64 pieces."""
    return hub.Image(media=hub.Media(data=join_base64(pieces), media_type=f"image/{form or 'png'}"))


def _arguments(call: ToolUse) -> str:
    raw = bytes(call.input)
    if raw.startswith(b'"'):  # some models write JSON text where an object belongs
        return msgspec.json.decode(raw, type=str) or "{}"
    return "{}" if raw == b"null" else raw.decode()
