"""The matrix's bench: one gateway with every vendor, the official clients in front, recordings behind.

`Bench.ask` sends one small question through a face; what the upstream answers is a recording.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from raven_proxy.harness import ADMIN_KEY, GatewayStarter, RunningGateway
from raven_proxy.mock import MockUpstream, ScriptedReply, Seen

from .cases import Case
from .grammar import check_message_events, check_response_events
from .meaning import Meaning
from .meaning_of_client import (
    of_chat,
    of_chat_stream,
    of_completion,
    of_completion_stream,
    of_message,
    of_response,
)
from .upstreams import PLUGINS, Route, describe_upstreams, find_installed

__all__ = ["Bench", "open_bench"]

_RAW_MESSAGE_EVENTS = frozenset(
    "message_start content_block_start content_block_delta content_block_stop message_delta "
    "message_stop".split()
)


class Bench:
    """A running gateway and its clients. `strict` clients check every type of what they get."""

    def __init__(self, gateway: RunningGateway, upstream: MockUpstream) -> None:
        self.gateway = gateway
        self.upstream = upstream
        settings: dict[str, Any] = {"api_key": ADMIN_KEY, "max_retries": 0, "timeout": 15.0}
        self._openai = {
            strict: openai.AsyncOpenAI(
                base_url=gateway.url + "/v1", _strict_response_validation=strict, **settings
            )
            for strict in (True, False)
        }
        self._anthropic = {
            strict: anthropic.AsyncAnthropic(
                base_url=gateway.url, _strict_response_validation=strict, **settings
            )
            for strict in (True, False)
        }

    @property
    def openai(self) -> openai.AsyncOpenAI:
        """OpenAI's client."""
        return self._openai[False]

    @property
    def anthropic(self) -> anthropic.AsyncAnthropic:
        """Anthropic's client."""
        return self._anthropic[False]

    async def close(self) -> None:
        """Close the clients."""
        for client in [*self._openai.values(), *self._anthropic.values()]:
            await client.close()

    async def replay(
        self,
        case: Case,
        route: Route,
        face: str,
        *,
        stream: bool | None = None,
        reply: ScriptedReply | None = None,
    ) -> Meaning:
        """Ask through a face for what the case holds; give what the face's official client made of it.

        The client asks for a stream where the recording is one, or as `stream` says; `reply` stands in for
        what was recorded.
        An error is a Meaning whose `error` is the client's message; the status stands before it.
        """
        replayed = reply or case.seeded_reply

        async def answer(_: Seen) -> ScriptedReply:
            return replayed

        self.upstream.seen.clear()
        self.upstream.handler = answer
        calls = [
            call.name
            for answer in (case.meaning.answers if case.status < 400 else ())
            for call in answer.calls
        ]
        return await self.ask(
            face,
            route.model,
            stream=case.streaming if stream is None else stream,
            tools=sorted(set(calls)),
            strict=not route.is_native(face),
            apart=route.is_native(face) and route.apart,
        )

    async def ask(
        self,
        face: str,
        model: str,
        *,
        stream: bool,
        tools: list[str],
        strict: bool = True,
        apart: bool = False,
    ) -> Meaning:
        """Ask `model` a small question."""
        asks = {
            "responses": self._ask_responses,
            "messages": self._ask_messages,
            "completions": self._ask_completions,
        }
        try:
            if face == "chat":
                return await self._ask_chat(model, stream, tools, strict, apart)
            return await asks[face](model, stream, tools, strict)
        except (openai.APIStatusError, anthropic.APIStatusError) as error:
            return Meaning(error=f"{error.status_code} {error.message}")
        except openai.APIError as error:
            return Meaning(error=error.message)

    async def _ask_chat(
        self, model: str, stream: bool, tools: list[str], strict: bool, apart: bool
    ) -> Meaning:
        client = self._openai[strict].chat.completions
        parameters = {"type": "object"}
        options: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": "Hello?"}]}
        functions = [{"type": "function", "function": {"name": n, "parameters": parameters}} for n in tools]
        options |= {"tools": functions} if tools else {}
        if not stream:
            return of_chat(await client.create(**options), apart=apart)
        asked = await client.create(stream=True, stream_options={"include_usage": True}, **options)
        return of_chat_stream([chunk async for chunk in asked], strict=strict, apart=apart)

    async def _ask_responses(self, model: str, stream: bool, tools: list[str], strict: bool) -> Meaning:
        client = self._openai[strict].responses
        options: dict[str, Any] = {"model": model, "input": "Hello?", "store": False}
        options |= {"tools": [_flat_tool(name) for name in tools]} if tools else {}
        if not stream:
            return of_response(await client.create(**options))
        async with client.stream(**options) as asked:
            events = [event async for event in asked]
        for event in events:
            if event.type == "error":
                return Meaning(error=event.message)
        if strict:
            check_response_events(events)
        ends = [
            e for e in events if e.type in ("response.completed", "response.incomplete", "response.failed")
        ]
        return of_response(ends[-1].response)

    async def _ask_messages(self, model: str, stream: bool, tools: list[str], strict: bool) -> Meaning:
        client = self._anthropic[strict].messages
        question = {"role": "user", "content": "Hello?"}
        options: dict[str, Any] = {"model": model, "messages": [question], "max_tokens": 512}
        functions = [{"name": name, "input_schema": {"type": "object"}} for name in tools]
        options |= {"tools": functions} if tools else {}
        if not stream:
            return of_message(await client.create(**options))
        async with client.stream(**options) as asked:
            events = [event async for event in asked]
            message = asked.current_message_snapshot
        if strict:
            check_message_events([event for event in events if event.type in _RAW_MESSAGE_EVENTS])
        return of_message(message)

    async def _ask_completions(self, model: str, stream: bool, tools: list[str], strict: bool) -> Meaning:
        # Its types know no chunk without a finish reason, which OpenAI's own have.
        client = self._openai[strict and not stream].completions
        options: dict[str, Any] = {"model": model, "prompt": "Hello?"}
        if not stream:
            return of_completion(await client.create(**options))
        asked = await client.create(stream=True, stream_options={"include_usage": True}, **options)
        return of_completion_stream([chunk async for chunk in asked])


def _flat_tool(name: str) -> dict[str, Any]:
    return {"type": "function", "name": name, "parameters": {"type": "object"}, "strict": False}


@asynccontextmanager
async def open_bench(folder: Path, *, plugins: Sequence[Any] = ()) -> AsyncIterator[Bench]:
    """Start the gateway with `plugins` and every vendor whose plugin is installed, all of them one mock."""
    installed = find_installed()
    with pytest.MonkeyPatch.context() as patch:
        async with AsyncExitStack() as stack:
            upstream = await stack.enter_async_context(MockUpstream())
            starter = GatewayStarter(folder, patch)
            stack.push_async_callback(starter.stop)
            upstreams, presets = describe_upstreams(upstream.origin, installed, patch)
            gateway = await starter(
                plugins,
                base=[name for name in PLUGINS if name in installed],
                upstreams=upstreams,
                config={"access_log": False, "plugin": {"openai": {"presets": presets}}},
                check_leaks=False,
            )
            bench = Bench(gateway, upstream)
            stack.push_async_callback(bench.close)
            yield bench
