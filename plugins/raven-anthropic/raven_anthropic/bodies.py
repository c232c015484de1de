"""What has to change in a client's own body before it goes to a vendor of its dialect.

The model's name where an alias was used; and thinking that another vendor made earlier in the same
conversation, which Anthropic would refuse the whole request for. Every other byte stays.
"""

from __future__ import annotations

import re

import msgspec

from raven_proxy import splice
from raven_proxy.exchange import Exchange

from .signatures import is_foreign

__all__ = ["build_body"]

_MARKED = b'"raven:'
_SUSPECT = re.compile(rb'"raven:|"signature"\s*:\s*""')
_decode_turns = msgspec.json.Decoder(list[dict[str, msgspec.Raw]]).decode
_decode_blocks = msgspec.json.Decoder(list[msgspec.Raw]).decode


class _Block(msgspec.Struct):
    type: str = ""
    signature: str = ""
    data: str = ""


_decode_block = msgspec.json.Decoder(_Block).decode


def build_body(exchange: Exchange, *, signs_thinking: bool) -> bytes:
    """Give the body for `exchange.candidate`; mostly the client's own.

    With `signs_thinking` the vendor takes back nothing but what it signed itself.
    """
    body, spans, candidate = exchange.body, exchange.call.members, exchange.candidate
    if candidate is not None and candidate.model is not None and candidate.model != exchange.call.model:
        body = splice.put(body, spans, "model", candidate.model)
        spans = {}
    # Plain words first: a pattern over 76 kB of an agent's body costs more than all the rest.
    if signs_thinking and (b'"signature"' in body or _MARKED in body) and _SUSPECT.search(body):
        body = _drop_foreign(body, spans or splice.scan(body))
    return body


def _drop_foreign(body: bytes, spans: splice.Spans) -> bytes:
    start, end = spans["messages"]
    turns = _decode_turns(body[start:end])
    kept: list[dict[str, msgspec.Raw]] = []
    has_changed = False
    for turn in turns:
        content = bytes(turn.get("content", b""))
        if not content.startswith(b"["):
            kept.append(turn)
            continue
        blocks = _decode_blocks(content)
        ours = [block for block in blocks if not _is_foreign(block)]
        if len(ours) == len(blocks):
            kept.append(turn)
            continue
        has_changed = True
        if ours:
            kept.append({**turn, "content": msgspec.Raw(msgspec.json.encode(ours))})
    return splice.put(body, spans, "messages", msgspec.json.encode(kept)) if has_changed else body


def _is_foreign(raw: msgspec.Raw) -> bool:
    try:
        block = _decode_block(raw)
    except msgspec.MsgspecError:  # the vendor will say what is wrong with it
        return False
    if block.type == "thinking":
        return not block.signature or is_foreign(block.signature)
    return block.type == "redacted_thinking" and is_foreign(block.data)
