"""One text of a document and its place: what it says, and how another one is written there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["Passage", "Slot", "both", "put_both"]

_GONE = "[REDACTED]"


class Slot:
    """One text and its place. `text` is what it says; `write` puts it back in the form that it had."""

    __slots__ = ("_encode", "_holder", "_key", "_kind", "changed", "text")

    def __init__(
        self,
        holder: Any,
        key: Any,
        text: str,
        kind: str = "text",
        encode: Callable[[str], str] | None = None,
    ) -> None:
        self.text = text
        self.changed = False
        self._holder = holder
        self._key = key
        self._kind = kind  # "text", "name" (of a member), "number" or "coded"
        self._encode = encode  # of what is "coded": what stands for a text

    @property
    def key(self) -> Any:
        """The member's name or the index where it stands."""
        return self._key

    @property
    def is_plain(self) -> bool:
        """Whether it stands there as it is."""
        return self._kind == "text"

    @property
    def holder(self) -> int:
        """Give what tells its object or list from all others in the document."""
        return id(self._holder)

    @property
    def place(self) -> tuple[int, Any]:
        """Give what tells this place from all others in the document."""
        return id(self._holder), self._key

    def refresh(self) -> None:
        """Read the text again: somebody else may have written it."""
        text = self._holder[self._key]
        self.text = text if isinstance(text, str) else ""

    def write(self, text: str) -> None:
        """Put a text in the place of the one that was there."""
        if text == self.text:
            return
        self.changed = True
        holder = self._holder
        if self._kind == "name":
            while text in holder and text != self._key:  # two of them must not become one
                text += "_"
            pairs = [(text if name == self._key else name, value) for name, value in holder.items()]
            holder.clear()
            holder.update(pairs)
            self._key = text
        else:
            holder[self._key] = self._encode(text) if self._encode is not None else text
        self.text = text


Passage = tuple[Slot, ...]
"""Texts that are read as one: what is split over them is found in what they are joined."""


def both(value: str, decoded: str) -> str:
    """Give one text of what stands there and what it may mean, where it could be read either way."""
    return f"{value}\n{decoded}"


def put_both(value: str, decoded: str, encode: Callable[[str], str]) -> Callable[[str], str]:
    """Make what writes such a text: in the form in which something gave way, or in none if in both."""

    def write(text: str) -> str:
        if text.startswith(both(value, "")):
            return encode(text[len(value) + 1 :])
        return text[: -len(decoded) - 1] if text.endswith(both("", decoded)) else _GONE

    return write
