"""A dialect of a few lines, for tests of what the core does with dialects: one word a line.

A stream is lines: `start`, `say TEXT`, `think TEXT`, `call NAME ARGS`, `use P C`, `finish WORD`,
`error MESSAGE`, `end`. A whole reply is JSON: {"text": …}.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from raven_proxy import errors, hub
from raven_proxy.exchange import Usage
from raven_proxy.faces import Dialect

__all__ = ["TOY", "ToyClient", "ToyReader", "ToyVendor"]


class ToyReader:
    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterable[hub.Event]:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            yield read_line(line.decode())

    def close(self) -> Iterable[hub.Event]:
        if self._rest:
            yield read_line(self._rest.decode())


def read_line(line: str) -> hub.Event:
    word, _, rest = line.partition(" ")
    match word:
        case "start":
            return hub.Started(id="toy-1", model="m")
        case "say":
            return hub.TextDelta(rest)
        case "think":
            return hub.ReasoningDelta(rest)
        case "args":
            return hub.ToolCallDelta(0, rest)
        case "use":
            prompt, completion = map(int, rest.split())
            return hub.UsageReported(
                Usage(prompt_tokens=prompt, completion_tokens=completion, total_tokens=prompt + completion)
            )
        case "finish":
            return hub.Finished(finish=rest)  # type: ignore[arg-type]
        case "error":
            return hub.Failed(message=rest, status=429)
        case "end":
            return hub.Ended()
    raise ValueError(word)


class ToyVendor:
    def read_reply(self, body: bytes) -> Any:
        document = msgspec.json.decode(body)
        if "vectors" in document:
            return hub.EmbeddingsReply(vectors=document["vectors"], usage=Usage(prompt_tokens=3))
        return hub.ChatReply(choices=[hub.Choice(parts=[hub.Text(text=document["text"])])])

    def open_reader(self) -> ToyReader:
        return ToyReader()


class ToyWriter:
    def write(self, event: hub.Event) -> bytes:
        match event:
            case hub.TextDelta():
                return f"<{event.text}>".encode()
            case hub.UsageReported():
                return f"[{event.usage.total_tokens}{'~' * event.usage.estimated}]".encode()
            case hub.Ended():
                return b"."
        return b""


class ToyClient:
    def read_request(self, exchange: Any) -> hub.ChatRequest:
        return hub.ChatRequest(model="m", messages=[], dropped=["colour", "taste"])

    def write_reply(self, reply: Any, exchange: Any) -> bytes:
        if isinstance(reply, hub.EmbeddingsReply):
            return repr(reply.vectors).encode()
        text = "".join(part.text for part in reply.choices[0].parts if isinstance(part, hub.Text))
        return f"{text} [{reply.usage.total_tokens}]".encode()

    def open_writer(self, exchange: Any) -> ToyWriter:
        return ToyWriter()


def render(error: errors.GatewayError, request_id: str) -> bytes:
    return f"!{error.status} {error.message}!".encode()


TOY = Dialect("toy", render, render, client_side=ToyClient(), provider_side=ToyVendor())
