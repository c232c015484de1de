"""A bounded memory of thought signatures, for clients whose dialect cannot carry them.

Gemini 3 refuses a function call in the history without the signature that came with it. The memory
lasts as long as the provider object; what it forgot is replaced by the word that Google takes instead.
"""

from __future__ import annotations

from collections import OrderedDict

__all__ = ["SKIP", "SignatureMemory"]

SKIP = "skip_thought_signature_validator"
"""What Google takes where the signature is lost (ai.google.dev, "Thought signatures")."""


class SignatureMemory:
    """Remembers signatures by who called and the call's id; the least recently used are forgotten."""

    def __init__(self, max_bytes: int = 16 * 2**20) -> None:
        self._max_bytes = max_bytes
        self._size = 0
        self._known: OrderedDict[tuple[str, str], str] = OrderedDict()

    def remember(self, organization: str, call_id: str, signature: str) -> None:
        """Keep one; a signature larger than a quarter of the memory is not kept."""
        if len(signature) > self._max_bytes // 4:
            return
        key = (organization, call_id)
        self._size += _size(key, signature)
        if (old := self._known.pop(key, None)) is not None:
            self._size -= _size(key, old)
        self._known[key] = signature
        while self._size > self._max_bytes:
            forgotten, value = self._known.popitem(last=False)
            self._size -= _size(forgotten, value)

    def recall(self, organization: str, call_id: str) -> str | None:
        """Give one back; None if it is not known (any more)."""
        found = self._known.get((organization, call_id))
        if found is not None:
            self._known.move_to_end((organization, call_id))
        return found


def _size(key: tuple[str, str], signature: str) -> int:
    return len(key[0]) + len(key[1]) + len(signature) + 256  # what an entry costs besides
