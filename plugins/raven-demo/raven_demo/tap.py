"""What the demo's replies cost, read from their own bytes.

Every delta of a stream is counted as it passes, so that a reply that breaks off is metered for what
was said, with the same figures that the whole would have had.
"""

from __future__ import annotations

import msgspec

from raven_proxy import Tally, Usage
from raven_proxy.sse import EventReader

from . import speech

__all__ = ["DemoTap"]


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None


class _ToolCall(msgspec.Struct):
    function: _Function | None = None


class _Delta(msgspec.Struct):
    content: str | None = None
    tool_calls: list[_ToolCall] | None = None


class _Choice(msgspec.Struct):
    delta: _Delta | None = None
    text: str | None = None
    finish_reason: str | None = None


class _Counts(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0


class _Reply(msgspec.Struct):
    choices: list[_Choice] = []
    usage: _Counts | None = None


_decode = msgspec.json.Decoder(_Reply).decode


class DemoTap:
    """Counts one reply. `prompt_tokens` is what the question came to."""

    def __init__(self, prompt_tokens: int, *, is_stream: bool) -> None:
        self._counts = _Counts(prompt_tokens=prompt_tokens)
        self._final: _Counts | None = None
        self._finish_reason: str | None = None
        self._reader = EventReader() if is_stream else None
        self._parts: list[bytes] = []
        self._is_complete = not is_stream

    def feed(self, data: bytes) -> None:
        """Count what the next bytes say."""
        if self._reader is None:
            self._parts.append(data)
            return
        for event in self._reader.feed(data):
            if event.data == b"[DONE]":
                self._is_complete = True
            elif event.data is not None:
                self._read(event.data)

    def close(self) -> Tally:
        """Sum up."""
        if self._reader is None:
            self._read(b"".join(self._parts))
        counts = self._final or self._counts
        prompt, completion = counts.prompt_tokens, counts.completion_tokens
        usage = Usage(prompt_tokens=prompt, completion_tokens=completion, total_tokens=prompt + completion)
        return Tally(usage, self._finish_reason, complete=self._is_complete)

    def _read(self, data: bytes) -> None:
        try:
            reply = _decode(data)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return  # not ours; there is nothing to count in it
        self._final = reply.usage or self._final
        for choice in reply.choices:
            self._finish_reason = choice.finish_reason or self._finish_reason
            self._counts.completion_tokens += _size(choice)


def _size(choice: _Choice) -> int:
    delta = choice.delta or _Delta()
    texts = [choice.text, delta.content]
    for call in delta.tool_calls or ():
        if call.function is not None:
            texts += [call.function.name, call.function.arguments]
    return sum(speech.count(text) for text in texts if text)
