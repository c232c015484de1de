"""Every recorded reply of every vendor keeps its meaning through every face, read by the official clients.

Text, thinking, tool calls with names, arguments and ids, finish reason, tokens, errors: as an oracle that
shares no code with the gateway reads them in the recording. Streams come in chunks that the recording's
name decides; their events have to follow the grammar of the client's dialect.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from .cases import Case, cases
from .matrix import Bench, open_bench
from .meaning import differences
from .recordings import MISSING, require
from .upstreams import ALL_FACES, Route, find_route, require_plugin

pytestmark = pytest.mark.asyncio(loop_scope="module")

_WORDS = re.compile(r'"(?:message|error|detail)": ?"([^"]+)"')
# What a client's dialect has no words for.
_UNSAID = {
    "chat": set(),
    "responses": {"answers"},
    "messages": {"answers"},
    "completions": {"answers", "links", "usage cache_write"},
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bench(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    async with open_bench(tmp_path_factory.mktemp("matrix")) as opened:
        yield opened


def _parameters(*, errors: bool = False, swapped: bool = False) -> list[Any]:
    found = [
        pytest.param(case, face, id=f"{face}-{case.id}")
        for case in cases(errors=errors)
        for face in ALL_FACES
        if (route := find_route(case, face)) is not None and (not swapped or _can_swap(case, route, face))
    ]
    return found or [pytest.param(MISSING, "", id="none")]


def _can_swap(case: Case, route: Route, face: str) -> bool:
    """Say whether the vendor could send this to a client that asked for the other kind of reply."""
    if route.is_native(face) or (case.streaming and route.plugin in ("gemini", "bedrock")):
        return False
    return "content-type" in case.recording.response["headers"]  # which some recorders left out


def _route(case: Case | str, face: str) -> tuple[Case, Route]:
    if isinstance(case, str):
        require(case)
        raise AssertionError("unreachable")
    route = find_route(case, face)
    assert route is not None
    require_plugin(route.plugin)
    return case, route


@pytest.mark.parametrize(("case", "face"), _parameters())
async def test_a_recorded_reply_keeps_its_meaning(
    case: Case | str, face: str, bench: Bench, record_property: Any
) -> None:
    """What the client's library reads is what the vendor said."""
    case, route = _route(case, face)
    record_property("cell", [face, case.recording.provider, case.kind])
    got = await bench.replay(case, route, face)
    ignored = set(_UNSAID[face])
    if route.is_native(face):
        ignored |= {"made ids", "reasoning"}
    ignored |= case.contradictory
    found = differences(case.meaning_for(face), got, ignore=ignored)
    assert not found, "\n".join(found)


@pytest.mark.parametrize(("case", "face"), _parameters(swapped=True))
async def test_a_client_gets_what_it_asked_for(case: Case | str, face: str, bench: Bench) -> None:
    """A stream that nobody asked for becomes a whole reply, and a whole reply a stream; both mean the same.

    Google and AWS stream on paths of their own: there nobody streams unasked.
    """
    case, route = _route(case, face)
    got = await bench.replay(case, route, face, stream=not case.streaming)
    ignored = _UNSAID[face] | case.contradictory
    if any(isinstance(call.arguments, str) for one in case.meaning.answers for call in one.calls):
        ignored.add("calls")  # cut off, and an object is wanted
    found = differences(case.meaning_for(face), got, ignore=ignored)
    assert not found, "\n".join(found)


@pytest.mark.parametrize(("case", "face"), _parameters(errors=True))
async def test_a_recorded_error_is_the_clients_own(
    case: Case | str, face: str, bench: Bench, record_property: Any
) -> None:
    """What a vendor refuses is refused in the client's dialect, with its status and its words."""
    case, route = _route(case, face)
    record_property("cell", [face, case.recording.provider, "error"])
    got = await bench.replay(case, route, face)
    assert got.error is not None
    status = int(got.error[:3])
    wanted = {401: 502, 403: 502, 529: 529 if face == "messages" else 503}.get(case.status, case.status)
    if "API key not valid" in case.recording.body.decode():
        wanted = 502  # Google's own status is 400
    assert status == wanted, got.error
    said = _WORDS.search(case.recording.body.decode())
    assert said is not None
    assert said[1][:25] in got.error
