"""T17, T19: the path that is judged is the path that runs, and nobody is sent elsewhere."""

from __future__ import annotations

from typing import Any

import pytest

from raven_proxy.mock import MockUpstream, ScriptedReply

from .conftest import Case
from .wire import CHAT, chat, post

REFUSED_PATHS = """
    //v1/../keys /v1/%2e%2e/keys /v1/chat%2fcompletions /v1/chat;x/completions /V1/chat/completions
    /v1/chat/completions/ http://evil/keys http://evil/v1/chat/completions /v1/./chat/completions
    /v1/chat/completions%00 /v1/mock/../chat/completions /v1/mock/%2E%2E/keys /v1//chat/completions
    /v1/chat\\completions /v1/chat%5ccompletions /v1/mock//chat/completions /v1/mock/a%252fb
    /v1/chat/completions/.. * /v1/mock/.. /v1/chat/completions# /v1/mock/..%2fkeys
    /v1/chat/completions%0d%0aX:y /v1/models/..%2f..%2fkeys
""".split()


@pytest.mark.parametrize("path", REFUSED_PATHS)
async def test_t17_ambiguous_paths_are_refused(case: Case, path: str) -> None:
    """A path that two readers could resolve differently is refused, not normalised."""
    await case.start()
    reply = await case.ask(post(chat(), path))
    assert reply.status in {400, 404, 405}, reply
    case.refused(reply, reply.status)
    assert case.upstream.seen == []


@pytest.mark.parametrize("host", ["a?/health/live", "a/health/live#", "gateway@evil", "[::1", "a b", ""])
async def test_t17_the_host_does_not_choose_the_path(case: Case, host: str) -> None:
    """Whatever Host says, the path that authentication judged is the path that runs."""
    await case.start()
    raw = post(chat(), key=None).replace(b"Host: gateway", f"Host: {host}".encode())
    reply = await case.ask(raw)
    assert reply.status in {400, 401}, reply
    case.refused(reply, reply.status)
    assert case.upstream.seen == []


@pytest.mark.parametrize(
    "path", ["/v1/mock/chat/completions", "/api/v1/mock/chat/completions/", f"/api{CHAT}"]
)
async def test_t17_spellings_that_are_served_take_the_same_key(case: Case, path: str) -> None:
    """An alias of a route is served with a key, and is a 401 without."""
    await case.start()
    case.refused(await case.ask(post(chat(), path, key=None)), 401)
    assert case.upstream.seen == []
    assert (await case.ask(post(chat(), path))).status in {200, 404}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_t19_a_redirect_is_not_followed(case: Case, status: int, stream: bool) -> None:
    """A provider that redirects is a 502, and the place it names sees nothing."""
    async with MockUpstream() as elsewhere:
        await case.start()
        model = f"mock/fx-redirect-{status}-{elsewhere.origin}/x"
        reply = await case.chat(model, stream=stream)
        inner = case.refused(reply, 502, code="upstream_error")
        assert elsewhere.origin not in str(inner)
        assert elsewhere.connections_opened == 0
        assert elsewhere.seen == []
    assert len(case.upstream.seen) == 1
    assert "location" not in reply.headers


async def test_t19_neither_is_one_on_the_raw_path(case: Case) -> None:
    """The same on `/v1/{provider}/{endpoint}`."""
    async with MockUpstream() as elsewhere:
        await case.start()
        fields: dict[str, Any] = {"headers": [("Location", elsewhere.url)]}
        case.upstream.script(ScriptedReply(status=303, **fields))
        case.refused(await case.ask(post({"a": 1}, "/v1/mock/things")), 502, code="upstream_error")
        assert elsewhere.connections_opened == 0
