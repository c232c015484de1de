"""The tool calls of one choice, as a vendor's stream tells them piece by piece.

Vendors send them whole or in pieces, with or without an index, and some give every call the same one.
"""

from __future__ import annotations

from collections.abc import Iterator

from raven_proxy import hub

from .answers import Call, read_signature

__all__ = ["Calls"]


class _Growing:
    """A call as it grows. It is announced once its name is known."""

    __slots__ = ("custom", "has_arguments", "held", "id", "index", "is_open")

    def __init__(self, call_id: str, *, custom: bool) -> None:
        self.index = -1  # among those that were announced
        self.id = call_id
        self.held = ""  # arguments that came before the name
        self.is_open = self.has_arguments = False
        self.custom = custom


class Calls:
    """Gives the events of a choice's calls. `signatures` maps ids to Google's, where they come apart."""

    __slots__ = ("_by_id", "_by_key", "_calls", "_choice", "_made", "_opened", "signatures")

    def __init__(self, choice: int, reply_id: str) -> None:
        self._choice = choice
        self._made = f"call_{reply_id[-16:] or 'x'}_{choice}"  # begins the ids that the vendor left out
        self._calls: list[_Growing] = []
        self._by_id: dict[str, _Growing] = {}
        self._by_key: dict[int, _Growing] = {}  # the newest of each
        self._opened = 0
        self.signatures: dict[str, str] = {}

    def __bool__(self) -> bool:
        return bool(self._calls)

    def read(self, piece: Call) -> Iterator[hub.Event]:
        """Take a piece of a call."""
        name, arguments = piece.name(), piece.arguments()
        call = self._find(piece, name)
        if call is None:
            number = len(self._calls)
            key = piece.index if type(piece.index) is int else None
            custom = piece.is_custom()
            call = _Growing(piece.id or f"{self._made}_{number}", custom=custom)
            self._calls.append(call)
            self._by_id.setdefault(call.id, call)
            if key is not None:
                self._by_key[key] = call
        if not call.is_open:
            call.held += arguments
            if not name:
                return
            arguments = call.held
            yield self._open(call, name, read_signature(piece) or self.signatures.pop(call.id, None))
        if arguments:
            call.has_arguments = True
            yield hub.ToolCallDelta(call.index, arguments, self._choice)

    def finish(self) -> Iterator[hub.Event]:
        """Complete what is incomplete: a call without arguments has none to read, but must be JSON."""
        for call in self._calls:
            if not call.is_open:  # its name never came
                yield self._open(call, "", None)
                if call.held:
                    call.has_arguments = True
                    yield hub.ToolCallDelta(call.index, call.held, self._choice)
            if not call.has_arguments and not call.custom:
                yield hub.ToolCallDelta(call.index, "{}", self._choice)

    def _open(self, call: _Growing, name: str, signature: str | None) -> hub.ToolCallStarted:
        call.is_open = True
        call.index, self._opened = self._opened, self._opened + 1
        form = "google" if signature is not None else None
        return hub.ToolCallStarted(call.index, call.id, name, self._choice, call.custom, signature, form)

    def _find(self, piece: Call, name: str) -> _Growing | None:
        """Find the call that a piece goes on with; None if it begins one."""
        calls = self._calls
        if not calls:
            return None
        if piece.id:
            known = self._by_id.get(piece.id)
            if known is not None:
                return known
        if type(piece.index) is int:
            known = self._by_key.get(piece.index)
            is_another = known is not None and piece.id and name and known.is_open
            return None if is_another else known
        return None if name or piece.id else calls[-1]
