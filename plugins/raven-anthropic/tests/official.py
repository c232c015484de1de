"""Bodies and streams as Anthropic's official client sees them, and stricter than it."""

from __future__ import annotations

from typing import Any

import msgspec

from raven_proxy.sse import EventReader


def read_events(data: bytes) -> list[tuple[str, dict[str, Any]]]:
    """Cut a stream into (event name, document)."""
    return [
        ((event.name or b"").decode(), msgspec.json.decode(event.data))
        for event in EventReader().feed(data)
        if event.data
    ]


def see_message(body: bytes) -> Any:
    """Read a whole message as the official client does, strictly."""
    from anthropic.types import Message

    return Message.model_validate(msgspec.json.decode(body))


def see_stream(data: bytes, *, strict: bool = True) -> Any:
    """Gather a stream as the official client does, and check its grammar on the way.

    `strict` checks each event against the client's types, which even some recorded ones do not fit.
    """
    from anthropic._models import construct_type
    from anthropic.lib.streaming._messages import accumulate_event
    from anthropic.types import RawMessageStreamEvent
    from pydantic import TypeAdapter

    adapter: Any = TypeAdapter(RawMessageStreamEvent)
    snapshot: Any = None
    buffers: dict[int, bytes] = {}
    open_block: int | None = None
    count = 0
    names = [name for name, _ in read_events(data)]
    assert names[0] == "message_start"
    assert names[-1] == "message_stop"
    for name, document in read_events(data):
        assert name == document["type"]
        if name == "ping":
            continue
        if name == "content_block_start":
            assert (open_block, document["index"]) == (None, count), "one block at a time, in order"
            open_block, count = count, count + 1
        elif name == "content_block_delta":
            assert document["index"] == open_block
        elif name == "content_block_stop":
            assert document["index"] == open_block
            open_block = None
        elif name == "message_delta":
            assert open_block is None
        if strict:
            adapter.validate_python(document)
        event = construct_type(type_=RawMessageStreamEvent, value=document)
        snapshot = accumulate_event(event=event, current_snapshot=snapshot, json_bufs=buffers)
    return snapshot


def validate_params(body: dict[str, Any]) -> None:
    """Check a request body against the official client's types: nothing wrong, nothing unknown."""
    from anthropic.types.message_create_params import MessageCreateParams
    from pydantic import TypeAdapter

    adapter: Any = TypeAdapter(MessageCreateParams)
    # The newest models take no sampling, so the client names it no more; the API still has it.
    body = {name: value for name, value in body.items() if name not in {"temperature", "top_p", "top_k"}}
    assert _settle(adapter.validate_python(body)) == body


def _settle(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _settle(item) for key, item in value.items()}
    if isinstance(value, str | bytes | int | float | None):
        return value
    return [_settle(item) for item in value]
