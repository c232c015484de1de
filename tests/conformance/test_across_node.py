"""Every translated reply keeps its meaning for Node's clients too: OpenAI's, Anthropic's, Vercel's AI SDK.

Bytes that pass untouched are left to the tests in Python: what Node makes of a vendor's own ways is not
ours to judge.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from raven_proxy.harness import ADMIN_KEY
from raven_proxy.mock import ScriptedReply, Seen

from .cases import Case, cases
from .matrix import Bench, open_bench
from .meaning import differences
from .node_clients import NodeClients, open_node
from .recordings import MISSING, require
from .scripted_model import ScriptedModel
from .upstreams import find_route, require_plugin

pytestmark = pytest.mark.asyncio(loop_scope="module")

# Client → its face, and what it does not tell.
_CLIENTS = {
    "chat": ("chat", {"links"}),
    "responses": ("responses", {"answers", "links"}),
    "messages": ("messages", {"answers", "links"}),
    "ai chat": ("chat", {"answers", "links", "reasoning", "usage cache_write"}),
    "ai compatible": ("chat", {"answers", "links", "usage cache_write"}),
    "ai responses": ("responses", {"answers", "links", "usage cache_write"}),
    "ai messages": ("messages", {"answers", "links", "usage reasoning"}),
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bench(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    async with open_bench(tmp_path_factory.mktemp("node")) as opened:
        yield opened


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def node(bench: Bench) -> AsyncIterator[NodeClients]:
    async with open_node(bench.gateway.url, ADMIN_KEY) as opened:
        yield opened


def _parameters() -> list[Any]:
    found = []
    for case in cases():
        for client, (face, _) in _CLIENTS.items():
            route = find_route(case, face)
            if route is not None and not route.is_native(face):
                found.append(pytest.param(case, client, id=f"{client.replace(' ', '_')}-{case.id}"))
    return found or [pytest.param(MISSING, "", id="none")]


@pytest.mark.parametrize(("case", "client"), _parameters())
async def test_a_recorded_reply_keeps_its_meaning(
    case: Case | str, client: str, bench: Bench, node: NodeClients, record_property: Any
) -> None:
    """What the client's library reads is what the vendor said."""
    if isinstance(case, str):
        require(case)
        return
    face, untold = _CLIENTS[client]
    route = find_route(case, face)
    assert route is not None
    require_plugin(route.plugin)
    reply = case.seeded_reply

    async def answer(_: Seen) -> ScriptedReply:
        return reply

    bench.upstream.handler = answer
    tools = sorted({call.name for one in case.meaning.answers for call in one.calls})
    record_property(
        "cell", ["AI SDK" if client.startswith("ai ") else "Node", case.recording.provider, case.kind]
    )
    got = await node.ask(client, route.model, stream=case.streaming, tools=tools)
    if client.startswith("ai ") and case.meaning.error:
        assert got.error  # in its own words, if it is the first event
        return
    ignored = untold | case.contradictory
    if client.startswith("ai ") and any(one.refusal for one in case.meaning.answers):
        ignored |= {"text", "finish"}  # it has a way of its own with refusals
    found = differences(case.meaning_for(client), got, ignore=ignored)
    assert not found, "\n".join(found)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("client", [client for client in _CLIENTS if client.startswith("ai ")])
@pytest.mark.parametrize(
    "model",
    ["openai-own/any", "openai-chat/any", "openai-responses/any", "anthropic/claude-sonnet-4-5"],
)
async def test_a_tool_is_called_and_answered(
    model: str, client: str, stream: bool, bench: Bench, node: NodeClients
) -> None:
    """A turn with a tool of Vercel's AI SDK ends well, whichever dialect the vendor speaks."""
    scripted = ScriptedModel("get_weather", {"city": "Paris"}, "It rains there.")
    bench.upstream.handler = scripted.answer
    found = await node.loop(client, model, stream=stream)
    assert found == {"asked": ["Paris"], "text": "It rains there.", "finish": "stop"}
    assert scripted.results == ["It rains on Paris."]
