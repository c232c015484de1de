"""Every recorded request of a client, sent to a provider of another dialect, is one that its vendor takes.

Strict validators judge what went up: the types of the vendor's own SDK, and rules that types cannot say
(`schemas`). What the target cannot express is refused by the gateway, and its reason names the field.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from raven_proxy.mock import ScriptedReply

from .matrix import Bench, open_bench
from .meaning import Json
from .recordings import MISSING, Recording, load_all, require
from .schemas import TARGETS, problems
from .upstreams import require_plugin

pytestmark = pytest.mark.asyncio(loop_scope="module")

_FACES = {
    "openai.chat": "/v1/chat/completions",
    "openai.responses": "/v1/responses",
    "anthropic.messages": "/v1/messages",
}
_MODELS = {  # target → its plugin, and the model that is asked for
    "anthropic": ("anthropic", "anthropic/claude-sonnet-4-5"),
    "openai chat": ("openai", "openai-chat/any"),
    "openai responses": ("openai", "openai-responses/any"),
    "gemini": ("gemini", "gemini/gemini-2.5-flash"),
    "bedrock": ("bedrock", "bedrock/us.amazon.nova-2-lite-v1:0"),
    "bedrock claude": ("bedrock", "bedrock/us.anthropic.claude-sonnet-4-5-20250929-v1:0"),
    "cohere": ("cohere", "cohere/command-a-03-2025"),
}
_SAME = {("openai.chat", "openai chat"), ("openai.responses", "openai responses")} | {
    ("anthropic.messages", "anthropic"),
    ("anthropic.messages", "bedrock claude"),
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bench(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    async with open_bench(tmp_path_factory.mktemp("validators")) as opened:
        yield opened


def _parameters() -> list[Any]:
    found = [
        pytest.param(recording, target, id=f"{target.replace(' ', '_')}-{recording.id}")
        for recording in load_all()
        if recording.surface in _FACES and recording.request.get("body") is not None
        for target in _MODELS
        if (recording.surface, target) not in _SAME
    ]
    return found or [pytest.param(MISSING, "", id="none")]


@pytest.mark.parametrize(("recording", "target"), _parameters())
async def test_a_recorded_request_is_valid_elsewhere(
    recording: Recording | str, target: str, bench: Bench, record_property: Any
) -> None:
    """What goes up is valid, or the client is told which field cannot be told to this vendor."""
    recording = require(recording)
    plugin, model = _MODELS[target]
    require_plugin(plugin)
    status, reply = await _send(bench, recording, model)
    if bench.upstream.seen:
        record_property("request", [recording.surface, target, "sent"])
        [seen] = bench.upstream.seen
        found = problems("bedrock" if target == "bedrock claude" else target, seen.json)
        assert not found, "\n".join(found)
        return
    record_property("request", [recording.surface, target, "refused"])
    assert status == 400, reply
    message = reply["error"]["message"]
    assert _find_untold(recording.request["body"], target) or recording.status >= 400, message


async def _send(bench: Bench, recording: Recording, model: str) -> tuple[int, Json]:
    async def capture(_: Any) -> ScriptedReply:
        return ScriptedReply.of_json({"error": {"message": "captured"}}, status=422)

    bench.upstream.seen.clear()
    bench.upstream.handler = capture
    body = recording.request["body"] | {"model": model}
    headers = {"Content-Type": "application/json", "anthropic-version": "2023-06-01"}
    path = _FACES[recording.surface]
    async with bench.gateway.client.post(path, data=msgspec.json.encode(body), headers=headers) as reply:
        return reply.status, msgspec.json.decode(await reply.read())


def _find_untold(body: Json, target: str) -> list[str]:
    """Name what the vendor cannot be told without changing the request's meaning."""
    tools = [tool.get("type", "function") for tool in body.get("tools") or ()]
    text = msgspec.json.encode(body).decode()
    marks = ["file_id", "input_audio", "item_reference", "mcp_servers"]
    if target.startswith(("bedrock", "cohere")):
        marks += ["web_search_options", "file_data"]
    if target.startswith("bedrock"):
        marks += ['url":"http', 'image_url":"http']  # it fetches nothing
    found = [kind for kind in tools if kind not in ("function", "custom", "namespace")]
    found += [mark for mark in marks if f'"{mark}' in text]
    found += ["n"] if (body.get("n") or 1) > 1 else []
    found += ["modalities"] if "audio" in (body.get("modalities") or ()) else []
    return found + [name for name in ("previous_response_id", "background", "conversation") if body.get(name)]


async def test_every_target_has_a_validator() -> None:
    """No target goes unjudged."""
    assert {target.removesuffix(" claude") for target in _MODELS} == set(TARGETS)
