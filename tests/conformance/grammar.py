"""The grammar of event streams as the official clients see them: Responses and Messages.

Raises AssertionError with what is wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = ["check_message_events", "check_response_events"]

_ENDS = {"response.completed", "response.incomplete", "response.failed"}
# For each kind of piece in a stream of a response: the event that completes it, and its whole.
_DONE = {
    "response.output_text.delta": ("response.output_text.done", "text"),
    "response.refusal.delta": ("response.refusal.done", "refusal"),
    "response.function_call_arguments.delta": ("response.function_call_arguments.done", "arguments"),
    "response.custom_tool_call_input.delta": ("response.custom_tool_call_input.done", "input"),
    "response.reasoning_summary_text.delta": ("response.reasoning_summary_text.done", "text"),
    "response.reasoning_text.delta": ("response.reasoning_text.done", "text"),
}


def check_response_events(events: Sequence[Any]) -> None:
    """Check a whole stream of `openai`'s typed Responses events."""
    assert [e.sequence_number for e in events] == list(range(len(events))), "sequence numbers have gaps"
    types = [e.type for e in events]
    assert types[:2] == ["response.created", "response.in_progress"], f"begins with {types[:2]}"
    assert types[-1] in _ENDS, f"ends with {types[-1]}"
    assert not _ENDS & set(types[:-1]), "something follows the end"
    final = events[-1].response
    assert {events[0].response.id, events[1].response.id} == {final.id}, "the response changes its id"
    items = _check_items(events)
    outputs = [item.model_dump(warnings=False) for item in final.output]
    assert len(outputs) == len(items), "the last event has more or fewer items"
    for output, item in zip(outputs, items, strict=True):  # the library adds what it has parsed
        assert _common(output, item) == item, f"the last event has another item: {output} is not {item}"
    _check_parts(events)
    _check_deltas(events)


def _common(whole: Any, part: Any) -> Any:
    """Cut `whole` down to what `part` has too."""
    if isinstance(whole, dict) and isinstance(part, dict):
        return {name: _common(value, part[name]) for name, value in whole.items() if name in part}
    if isinstance(whole, list) and isinstance(part, list) and len(whole) == len(part):
        return [_common(a, b) for a, b in zip(whole, part, strict=True)]
    return whole


def _check_items(events: Sequence[Any]) -> list[Any]:
    """Each item is added once, in order, and done once; gives the items that are done."""
    done: list[Any] = []
    opened: dict[int, str | None] = {}
    for event in events:
        if event.type == "response.output_item.added":
            assert event.output_index == len(done) + len(opened), "an item's place is not the next one"
            opened[event.output_index] = event.item.id
        elif event.type == "response.output_item.done":
            assert opened.pop(event.output_index, None) == event.item.id, "an item is done that was not added"
            done.append((event.output_index, event.item.model_dump(warnings=False)))
        elif getattr(event, "item_id", None) is not None:
            assert opened.get(event.output_index) == event.item_id, (
                f"{event.type} of an item that is not open"
            )
    assert not opened, "an item is never done"
    return [item for _, item in sorted(done, key=lambda pair: pair[0])]


def _check_parts(events: Sequence[Any]) -> None:
    """Each part is added once, in order, and done once."""
    for kind, place in (("content_part", "content_index"), ("reasoning_summary_part", "summary_index")):
        opened: set[tuple[int, int]] = set()
        count: dict[int, int] = {}
        for event in events:
            if event.type == f"response.{kind}.added":
                index = getattr(event, place)
                assert index == count.get(event.output_index, 0), f"{kind} is not the next one"
                count[event.output_index] = index + 1
                opened.add((event.output_index, index))
            elif event.type == f"response.{kind}.done":
                opened.remove((event.output_index, getattr(event, place)))
        assert not opened, f"a {kind} is never done"


def _check_deltas(events: Sequence[Any]) -> None:
    """What was sent in pieces is what the event says that completes it."""
    pieces: dict[tuple[Any, ...], list[str]] = {}
    for event in events:
        index = getattr(event, "content_index", getattr(event, "summary_index", None))
        if event.type in _DONE:
            pieces.setdefault((_DONE[event.type][0], event.output_index, index), []).append(event.delta)
        for name, field in _DONE.values():
            if event.type == name:
                found = "".join(pieces.pop((name, event.output_index, index), []))
                assert found == getattr(event, field), f"{name} is not what its deltas add up to"
    assert not pieces, f"never done: {list(pieces)}"


def check_message_events(events: Sequence[Any]) -> None:
    """Check a whole stream of `anthropic`'s raw message events."""
    events = [e for e in events if e.type != "ping"]
    types = [e.type for e in events]
    assert types[0] == "message_start", f"begins with {types[0]}"
    assert types[-2:] == ["message_delta", "message_stop"], f"ends with {types[-2:]}"
    assert types.count("message_start") == types.count("message_stop") == 1
    assert events[0].message.content == []
    assert events[0].message.stop_reason is None
    opened: int | None = None
    count = 0
    kinds: dict[int, str] = {}
    wanted = {"text_delta": "text", "thinking_delta": "thinking", "signature_delta": "thinking"}
    for event in events[1:-2]:
        if event.type == "content_block_start":
            assert opened is None, "two blocks are open at once"
            assert event.index == count, "a block's index is not the next one"
            opened, count = event.index, count + 1
            kinds[opened] = event.content_block.type
        elif event.type == "content_block_delta":
            assert event.index == opened, "a delta for a block that is not open"
            kind = wanted.get(event.delta.type)
            assert kind in (None, kinds[event.index]), f"{event.delta.type} in a block {kinds[event.index]}"
        elif event.type == "content_block_stop":
            assert event.index == opened, "a block is closed that is not open"
            opened = None
        else:
            assert event.type == "message_delta", f"unexpected {event.type}"
    assert opened is None, "a block is never closed"
