"""A vendor's stream that breaks off is an error for every client, and never just an end.

One text stream of each vendor, cut before its end at several places; the connection is dropped, or closed as
if all were well.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any, Literal

import pytest
import pytest_asyncio
from aiohttp import ClientPayloadError

from raven_proxy.mock import ScriptedReply, Seen

from .cases import Case, cases
from .matrix import Bench, open_bench
from .recordings import MISSING, require
from .upstreams import Route, find_route, require_plugin

pytestmark = pytest.mark.asyncio(loop_scope="module")

_FACES = ("chat", "responses", "messages")
_HELLO = [{"role": "user", "content": "Hello?"}]
_QUESTIONS: dict[str, Any] = {
    "chat": {"messages": _HELLO, "stream_options": {"include_usage": True}},
    "responses": {"input": "Hello?"},
    "messages": {"messages": _HELLO},
}
_PATHS = {"chat": "/v1/chat/completions", "responses": "/v1/responses", "messages": "/v1/messages"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bench(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    async with open_bench(tmp_path_factory.mktemp("broken")) as opened:
        yield opened


def _parameters(*, native: bool = False) -> list[Any]:
    chosen: dict[tuple[str, str], Case] = {}
    for case in cases():
        is_text = case.streaming and case.meaning.error is None and len(case.meaning.answers) == 1
        is_text = is_text and "content-type" in case.recording.response["headers"]  # left out by a recorder
        if is_text and case.meaning.answers[0].text and case.surface != "openai.completions":
            chosen.setdefault((case.surface, case.recording.provider), case)
    found = [
        pytest.param(case, route, face, id=f"{face}-{case.id}")
        for case in chosen.values()
        for face in _FACES
        if (route := find_route(case, face)) is not None and (not native or route.is_native(face))
    ]
    return found or [pytest.param(MISSING, None, "", id="none")]


@pytest.mark.parametrize("end", ["cut", "close"])
@pytest.mark.parametrize(("case", "route", "face"), _parameters())
async def test_a_stream_that_breaks_off(
    case: Case | str, route: Route, face: str, end: Literal["cut", "close"], bench: Bench
) -> None:
    """The client's library raises, or shows the dialect's error event."""
    if isinstance(case, str):
        require(case)
        return
    require_plugin(route.plugin)
    headers = case.reply.header_pairs
    for part in (0.3, 0.6):
        body = case.body[: int(len(case.body) * part)]
        if route.is_native(face):  # half an event is out already, and no library reads on behind it
            body = body[: body.rfind(b"\n\n") + 2]
        reply = ScriptedReply(status=200, headers=headers, chunks=[body], end=end)
        got = await bench.replay(case, route, face, reply=reply)
        assert got.error, f"an end after {part:.0%}, and no error"


@pytest.mark.parametrize("end", ["cut", "close"])
@pytest.mark.parametrize(("case", "route", "face"), _parameters(native=True))
async def test_a_stream_that_breaks_off_in_an_event(
    case: Case | str, route: Route, face: str, end: Literal["cut", "close"], bench: Bench
) -> None:
    """Where half an event has passed, the dialect's error event still follows, and nothing of an end."""
    if isinstance(case, str):
        require(case)
        return
    require_plugin(route.plugin)
    border = case.body.rfind(b"\n\n", 0, len(case.body) // 2)
    chunks: list[bytes | float] = [case.body[: border + 25]]
    reply = ScriptedReply(status=200, headers=case.reply.header_pairs, chunks=chunks, end=end)

    async def answer(_: Seen) -> ScriptedReply:
        return reply

    bench.upstream.handler = answer
    asked = {"model": route.model, "stream": True, "max_tokens": 9, **_QUESTIONS[face]}
    seen = b""
    with suppress(ClientPayloadError):  # the connection may be dropped behind the event
        async with bench.gateway.client.post(_PATHS[face], json=asked) as got:
            async for piece in got.content.iter_any():
                seen += piece
    told = seen.rpartition(b"data:")[2]
    assert b"error" in told, seen[-300:]
    assert b"[DONE]" not in seen
