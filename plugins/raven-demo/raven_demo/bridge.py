"""The demo for clients that speak neither of OpenAI's older dialects: through the hub.

What it would say is decided in `chat`; the client's own dialect reads the request and writes the reply.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator

from raven_proxy import Exchange, Reply, Usage, hub
from raven_proxy.translation import JSON, SSE, read_request, refuse_dropped

from . import speech, tool
from .chat import Choice, Format, JsonSchema, Message, Request, choose
from .models import CREATED

__all__ = ["answer"]


def answer(exchange: Exchange, pause_s: float) -> Reply:
    """Answer in the client's dialect; `pause_s` is between two pieces of a stream. Raises InvalidRequest."""
    asked = read_request(exchange, hub.ChatRequest)
    refuse_dropped(exchange, asked.dropped)
    seed = "demo" + hashlib.sha256(exchange.body).hexdigest()[:24]
    choices, prompt, said = choose(_question(asked), seed)
    usage = Usage(prompt_tokens=prompt, completion_tokens=said, total_tokens=prompt + said)
    events = _events(seed, exchange.model or "", choices, usage)
    client = exchange.face.dialect.client_side
    if exchange.stream:
        return Reply(200, {"Content-Type": SSE}, _frames(exchange, events, pause_s))
    body = client.write_reply(hub.gather(events), exchange)
    return Reply(200, {"Content-Type": JSON}, body)


async def _frames(exchange: Exchange, events: Iterator[hub.Event], pause_s: float) -> AsyncIterator[bytes]:
    writer = exchange.face.dialect.client_side.open_writer(exchange)
    for event in events:
        frame = writer.write(event)
        if frame:
            yield frame
            await asyncio.sleep(pause_s)


def _question(asked: hub.ChatRequest) -> Request:
    wanted = asked.output_format
    return Request(
        messages=[_message(message) for message in asked.messages],
        max_tokens=asked.max_tokens,
        n=asked.n,
        stop=asked.stop,
        tools=[tool.Tool(function=tool.Function(t.name, t.schema)) for t in asked.tools if not t.custom],
        tool_choice=_tool_choice(asked.tool_choice),
        parallel_tool_calls=asked.parallel_tool_calls,
        response_format=Format(wanted.mode, JsonSchema(wanted.schema)) if wanted is not None else None,
    )


def _message(message: hub.Message) -> Message:
    texts = [message.text()]
    for part in message.parts:
        if isinstance(part, hub.ToolResult):
            texts += [piece.text for piece in part.content if isinstance(piece, hub.Text)]
    return Message(message.role, "\n".join(filter(None, texts)))


def _tool_choice(choice: hub.ToolChoice | None) -> str | dict[str, object] | None:
    if choice is None or choice.mode != "named":
        return choice.mode if choice is not None else None
    return {"type": "function", "function": {"name": choice.names[0]}} if choice.names else "required"


def _events(seed: str, model: str, choices: list[Choice], usage: Usage) -> Iterator[hub.Event]:
    yield hub.Started(id=seed, model=model, created=CREATED, usage=Usage(prompt_tokens=usage.prompt_tokens))
    for choice in choices:
        for piece in choice.pieces:
            yield hub.TextDelta(piece, choice.index)
        for index, call in enumerate(choice.calls):
            yield hub.ToolCallStarted(index, call.id, call.name, choice.index)
            for piece in speech.split(call.arguments):
                yield hub.ToolCallDelta(index, piece, choice.index)
        finish: hub.Finish = (
            "tool_calls" if choice.calls else "length" if choice.finish == "length" else "stop"
        )
        yield hub.Finished(finish=finish, choice=choice.index)
    yield hub.UsageReported(usage)
    yield hub.Ended()
