"""The items of one response as hub events: numbered as the hub counts them, and each told once.

An item whose deltas never came is told when it is done; what came before of an item that is done is not
told again. Items are known by their `output_index`.
"""

from __future__ import annotations

from typing import Any

import msgspec

from raven_proxy import hub

from .converting import annotation_of, family_of, image_of, logprobs_of
from .found import Content, Item, kind_of, read_item

__all__ = ["CALLS", "DIALECT", "Items"]

DIALECT = "openai.responses"
CALLS = frozenset({"function_call", "custom_tool_call"})
_READ = CALLS | frozenset({"message", "reasoning", "image_generation_call"})


class Items:
    """What was told of a response's items so far."""

    def __init__(self) -> None:
        self.is_told = False  # anything at all
        self.texts: dict[tuple[int, int], int] = {}  # (item, content) → the hub's number of that text
        self.notes: dict[tuple[int, int], int] = {}  # how many annotations of it were told
        self.refused: set[tuple[int, int]] = set()
        self.calls: dict[int, int] = {}  # item → the hub's number of that call
        self.argued: set[int] = set()  # calls whose arguments were told
        self._thoughts: dict[tuple[int, str, int], int] = {}
        self._latest: dict[int, tuple[int, Any]] = {}  # item → its latest thought: number and kind

    def finish(self, index: int, raw: msgspec.Raw) -> list[hub.Event]:
        """Tell what is still untold of an item that is done."""
        self.is_told = True
        kind = kind_of(raw)
        if kind not in _READ:
            native = msgspec.json.decode(raw, type=dict[str, Any])
            return [hub.PartMade(hub.ServerTool(native=native, dialect=DIALECT))]
        item = read_item(raw)
        if kind == "message":
            return self._finish_message(index, item)
        if kind == "reasoning":
            return self._finish_thought(index, item)
        if kind == "image_generation_call":
            return image_of(item)
        return self._finish_call(index, item)

    def _finish_message(self, index: int, item: Item) -> list[hub.Event]:
        events: list[hub.Event] = []
        for number, part in enumerate(item.content or ()):
            place = (index, number)
            if part.type == "refusal":
                if place not in self.refused and part.refusal:
                    events.append(hub.RefusalDelta(part.refusal))
            elif part.text is not None:
                events += self._finish_text(place, part)
        return events

    def _finish_text(self, place: tuple[int, int], part: Content) -> list[hub.Event]:
        events: list[hub.Event] = []
        if place not in self.texts and part.text:
            events.append(hub.TextDelta(part.text, 0, self.text(*place)))
            if part.logprobs:
                events.append(hub.LogprobsAdded({"content": logprobs_of(part.logprobs)}))
        notes = (part.annotations or ())[self.notes.get(place, 0) :]
        events += [hub.AnnotationAdded(annotation_of(note), 0, self.text(*place)) for note in notes]
        return events

    def _finish_thought(self, index: int, item: Item) -> list[hub.Event]:
        events: list[hub.Event] = []
        kinds: tuple[tuple[Any, list[Content] | None], ...] = (
            ("summary", item.summary),
            ("text", item.content),
        )
        for kind, parts in kinds:
            for place, part in enumerate(parts or ()):
                if part.text and (index, kind, place) not in self._thoughts:
                    number = self.thought(index, kind, place)
                    family = family_of(kind)
                    events.append(hub.ReasoningDelta(part.text, 0, number, kind, format=family, id=item.id))
        if item.encrypted_content:
            if index not in self._latest:
                self.thought(index, "encrypted", 0)
            number, kind = self._latest[index]
            data = item.encrypted_content
            events.append(hub.ReasoningDelta("", 0, number, kind, data=data, format="openai", id=item.id))
        return events

    def start_call(self, index: int, item: Item) -> list[hub.Event]:
        """Begin a call, if it has not begun."""
        self.is_told = True
        if index in self.calls:
            return []
        self.calls[index] = number = len(self.calls)
        # No request of the hub has namespaces, so none is put before the name: `Item.namespace` is another's.
        is_custom = item.type == "custom_tool_call"
        return [hub.ToolCallStarted(number, item.call_id or item.id or "", item.name or "", custom=is_custom)]

    def _finish_call(self, index: int, item: Item) -> list[hub.Event]:
        events = self.start_call(index, item)
        if index in self.argued:
            return events
        self.argued.add(index)
        if item.type == "custom_tool_call":
            text = item.input or ""
        elif isinstance(item.arguments, dict):
            text = msgspec.json.encode(item.arguments).decode()
        else:
            text = item.arguments or "{}"
        return [*events, hub.ToolCallDelta(self.calls[index], text)] if text else events

    def text(self, item: int, content: int) -> int:
        """Number a text."""
        number = self.texts.get((item, content))
        if number is None:
            number = self.texts[item, content] = len(self.texts)
            self.is_told = True
        return number

    def thought(self, item: int, kind: str, index: int) -> int:
        """Number a thought: a summary part, or a part of reasoning text."""
        number = self._thoughts.get((item, kind, index))
        if number is None:
            number = self._thoughts[item, kind, index] = len(self._thoughts)
            self.is_told = True
            self._latest[item] = (number, kind)
        return number
