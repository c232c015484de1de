"""A client that sends a vendor's turn back, as it got it, sends that vendor what the vendor wants.

Through every face: thinking with its signature, calls with their ids and the results beside them. What goes
up the second time is judged by the vendor's own types (`schemas`).
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from raven_proxy.mock import ScriptedReply, Seen

from .cases import Case, cases
from .matrix import Bench, open_bench
from .meaning import Json
from .recordings import MISSING, require
from .schemas import problems
from .upstreams import Route, find_route, require_plugin

pytestmark = pytest.mark.asyncio(loop_scope="module")

_TARGETS = {
    "openai.chat": "openai chat",
    "openai.responses": "openai responses",
    "anthropic.messages": "anthropic",
    "vertex.anthropic": "",
    "gemini.generate": "gemini",
    "bedrock.converse": "bedrock",
    "cohere.chat": "cohere",
}
_OWN_WAYS = frozenset({"openai", "parallel_corpus"})  # others' chats have members that OpenAI's types lack
_SIGNED = re.compile(r'"(?:signature|thoughtSignature)": ?"([^"]{16,})"')


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bench(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    async with open_bench(tmp_path_factory.mktemp("turns")) as opened:
        yield opened


def _parameters() -> list[Any]:
    found = []
    for case in cases():
        for face in ("chat", "responses", "messages") if _says_much(case) else ():
            route = find_route(case, face)
            if route is not None and not route.is_native(face):
                found.append(pytest.param(case, route, face, id=f"{face}-{case.id}"))
    return found or [pytest.param(MISSING, None, "", id="none")]


def _says_much(case: Case) -> bool:
    """Choose whole replies that call or think; one more text turn would prove little."""
    if case.streaming or case.surface not in _TARGETS or len(case.meaning.answers) != 1:
        return False
    [answer] = case.meaning.answers
    return bool(answer.calls or answer.reasoning or _signatures(case))


def _signatures(case: Case) -> list[str]:
    """List what only the vendor can read; of Responses not where a vendor's own tool stands beside it."""
    if case.surface != "openai.responses":
        return _SIGNED.findall(case.body.decode())
    items = msgspec.json.decode(case.body)["output"]
    if {item["type"] for item in items} - {"reasoning", "message", "function_call"}:
        return []  # thinking without what followed it is refused
    return [item["encrypted_content"] for item in items if item.get("encrypted_content")]


@pytest.mark.parametrize(("case", "route", "face"), _parameters())
async def test_a_turn_goes_back(case: Case | str, route: Route, face: str, bench: Bench) -> None:
    """The second request is valid, and has every signature that the first reply had."""
    if isinstance(case, str):
        require(case)
        return
    require_plugin(route.plugin)
    reply = case.reply

    async def answer(_: Seen) -> ScriptedReply:
        return reply

    bench.upstream.handler = answer
    tools = sorted({call.name for call in case.meaning.answers[0].calls})
    path, first = _ask(face, route.model, tools)
    got = await _post(bench, path, first)
    bench.upstream.seen.clear()
    await _post(bench, path, _go_on(face, first, got))
    [seen] = bench.upstream.seen
    target = _TARGETS[case.surface]
    if target and (target != "openai chat" or case.recording.provider in _OWN_WAYS):
        found = problems(target, seen.json)
        assert not found, "\n".join(found)
    sent = seen.body.decode()
    lost = [mark[:40] for mark in _signatures(case) if mark not in sent]
    assert not lost, f"lost signatures: {lost}"
    for call in case.meaning.answers[0].calls:
        assert f'"{call.name}"' in sent
        assert "It rains." in sent


async def _post(bench: Bench, path: str, body: Json) -> Json:
    headers = {"Content-Type": "application/json", "anthropic-version": "2023-06-01"}
    async with bench.gateway.client.post(path, data=msgspec.json.encode(body), headers=headers) as reply:
        found: Json = msgspec.json.decode(await reply.read())
        assert reply.status == 200, found
        return found


def _ask(face: str, model: str, tools: list[str]) -> tuple[str, Json]:
    schema = {"type": "object", "properties": {}}
    asked: list[Json] = [{"role": "user", "content": "Hello?"}]
    if face == "chat":
        functions: list[Json] = [
            {"type": "function", "function": {"name": n, "parameters": schema}} for n in tools
        ]
        return "/v1/chat/completions", {"model": model, "messages": asked} | _tools(functions)
    if face == "responses":
        functions = [{"type": "function", "name": n, "parameters": schema, "strict": False} for n in tools]
        body = {"model": model, "input": asked, "store": False, "include": ["reasoning.encrypted_content"]}
        return "/v1/responses", body | _tools(functions)
    functions = [{"name": name, "input_schema": schema} for name in tools]
    return "/v1/messages", {"model": model, "messages": asked, "max_tokens": 4096} | _tools(functions)


def _tools(functions: list[Json]) -> Json:
    return {"tools": functions} if functions else {}


def _go_on(face: str, first: Json, got: Json) -> Json:
    """Put the reply behind the question, as the client got it, and results or another question behind it."""
    turns: list[Json]
    more: Json = {"role": "user", "content": "And?"}
    if face == "chat":
        said = got["choices"][0]["message"]
        turns = [
            {"role": "tool", "tool_call_id": call["id"], "content": "It rains."}
            for call in said.get("tool_calls") or ()
        ]
        return first | {"messages": [*first["messages"], said, *(turns or [more])]}
    if face == "responses":
        turns = [
            {"type": "function_call_output", "call_id": item["call_id"], "output": "It rains."}
            for item in got["output"]
            if item["type"] == "function_call"
        ]
        return first | {"input": [*first["input"], *got["output"], *(turns or [more])]}
    turns = [
        {"type": "tool_result", "tool_use_id": block["id"], "content": "It rains."}
        for block in got["content"]
        if block["type"] == "tool_use"
    ]
    said = {"role": "assistant", "content": got["content"]}
    return first | {
        "messages": [*first["messages"], said, {"role": "user", "content": turns} if turns else more]
    }
