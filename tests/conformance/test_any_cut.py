"""How the network cuts a vendor's stream changes nothing in what a client gets: not one byte.

Every recorded stream that is translated, for every face: whole, byte by byte, cut anywhere by Hypothesis,
and the short ones at every place.
"""

from __future__ import annotations

import itertools
import time
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raven_proxy.exchange import Exchange
from raven_proxy.faces import Stage
from raven_proxy.hookspecs import hookimpl
from raven_proxy.testing import run_stage

from .cases import Case, cases
from .matrix import Bench, open_bench
from .recordings import MISSING, require
from .upstreams import ALL_FACES, Route, find_route, require_plugin

pytestmark = pytest.mark.asyncio(loop_scope="module")

_SHORT = 2500  # bytes; longer streams are not cut at every place


class Witness:
    """A plugin that keeps the exchange whose reply begins."""

    def __init__(self) -> None:
        self.exchange: Exchange | None = None

    @hookimpl
    def open_stage(self, exchange: Exchange) -> None:
        """Keep it."""
        self.exchange = exchange


@pytest.fixture(scope="module")
def witness() -> Witness:
    return Witness()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bench(tmp_path_factory: pytest.TempPathFactory, witness: Witness) -> AsyncIterator[Bench]:
    async with open_bench(tmp_path_factory.mktemp("cuts"), plugins=[witness]) as opened:
        yield opened


def _parameters() -> list[Any]:
    found = []
    for case in cases():
        for face in ALL_FACES if case.streaming and case.meaning.error is None else ():
            route = find_route(case, face)
            if route is not None and not route.is_native(face):
                found.append(pytest.param(case, route, face, id=f"{face}-{case.id}"))
    return found or [pytest.param(MISSING, None, "", id="none")]


@pytest.mark.parametrize(("case", "route", "face"), _parameters())
async def test_any_cut_gives_the_same(
    case: Case | str, route: Route, face: str, bench: Bench, witness: Witness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client's bytes depend on the vendor's bytes alone."""
    if isinstance(case, str):
        require(case)
        return
    require_plugin(route.plugin)
    witness.exchange = None
    await bench.replay(case, route, face)
    make_stage = _repeat(witness.exchange, monkeypatch)
    body = case.body
    whole = _run(make_stage(), [body])
    assert whole
    if len(body) <= _SHORT:
        assert run_stage(make_stage, body) == whole
        return
    assert _run(make_stage(), [body[i : i + 1] for i in range(len(body))]) == whole

    @settings(max_examples=12, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(st.integers(1, len(body) - 1), max_size=12, unique=True))
    def cut_anywhere(places: list[int]) -> None:
        borders = [0, *sorted(places), len(body)]
        assert _run(make_stage(), [body[a:b] for a, b in itertools.pairwise(borders)]) == whole

    cut_anywhere()


def _repeat(exchange: Exchange | None, patch: pytest.MonkeyPatch) -> Callable[[], Stage]:
    """Give a maker of the stage that served the exchange; the ids that it makes up are the same each time."""
    assert exchange is not None
    assert exchange.candidate is not None
    assert exchange.head is not None
    provider, head = exchange.candidate.upstream.provider, exchange.head
    patch.setattr(time, "time", lambda: 1_000_000_000.0)

    def make() -> Stage:
        numbers = itertools.count(1)
        patch.setattr(uuid, "uuid4", lambda: uuid.UUID(int=next(numbers)))
        stage = provider.open_translator(exchange, head)
        assert stage is not None
        return stage

    return make


def _run(stage: Stage, pieces: list[bytes]) -> bytes:
    return b"".join([*(stage.feed(piece) for piece in pieces), stage.close()])
