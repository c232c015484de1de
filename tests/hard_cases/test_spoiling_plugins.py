"""T125: plugins that spoil what they were given."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

from raven_proxy import Exchange, Reply, hookimpl

from .conftest import Case
from .wire import chat, post


class Spoiler:
    """Keeps every exchange, spoils what it holds once it is over, and then raises."""

    def __init__(self) -> None:
        self.kept: list[Exchange] = []

    @hookimpl
    async def finish_exchange(self, exchange: Any) -> None:
        self.kept.append(exchange)
        for one in self.kept:
            self._spoil(one)
        raise RuntimeError("and it raises")

    def _spoil(self, exchange: Any) -> None:
        with suppress(AttributeError, TypeError):  # what several exchanges share may refuse
            exchange.call.model = "spoiled"
        with suppress(AttributeError, TypeError):
            exchange.call.members["model"] = (0, 1)
        exchange.headers.clear()
        exchange.headers["authorization"] = "spoiled"
        exchange.response_headers["X-Spoiled"] = "1"
        exchange.attempts.append("spoiled")
        exchange.notes.update(detached=True, openai=True, byok="spoiled")
        exchange.params["provider"] = "spoiled"
        for name in (
            "pipeline",
            "candidate",
            "candidates",
            "credential",
            "outgoing",
            "usage",
            "outcome",
            "error",
        ):
            setattr(exchange, name, SimpleNamespace(spoiled=True))
        exchange.status = "spoiled"
        exchange.principal = None
        exchange.body = b"spoiled"


async def test_t125_a_finished_exchange_is_nobody_elses(case: Case) -> None:
    """A plugin that keeps, spoils and breaks finished exchanges harms no other exchange, nor its record."""
    case.may_fail = True
    gateway = await case.start(Spoiler(), base=("meter", "openai"))
    for _ in range(2):
        replies = await asyncio.gather(
            case.chat("mock/any"),
            case.stream("any"),
            case.chat("mock/fx-500"),
            case.ask(post(chat(), key="x")),
            case.ask(post(b"{")),
            case.chat("mock/other"),
            case.stream("fx-no-done"),
        )
        assert [reply.status for reply in replies] == [200, 200, 500, 401, 400, 200, 200]
        assert all("x-spoiled" not in reply.headers for reply in replies)
        assert replies[0].json()["model"] == "any"
        assert replies[5].json()["model"] == "other"
    ended = await case.settle()
    models = sorted(str(one.model) for one in ended)
    assert models == sorted(
        [
            *["mock/any"] * 4,
            *["mock/fx-500"] * 2,
            *["None"] * 4,
            *["mock/other"] * 2,
            *["mock/fx-no-done"] * 2,
        ]
    )
    assert gateway.gateway.in_flight == 0
    assert gateway.gateway.pipeline.in_flight == 0
    assert gateway.gateway.observation.failures["spoiler", "finish_exchange"] == 14


async def test_t125_kept_exchanges_hold_no_connection(case: Case) -> None:
    """Whoever keeps exchanges keeps no socket: clients and providers are let go."""
    spoiler = Spoiler()
    case.may_fail = True
    await case.start(spoiler)
    for _ in range(3):
        async with await case.wire() as wire:
            await wire.send(post(chat("mock/fx-endless", stream=True)))
            await wire.head()
            await wire.chunk()
    await case.settle()
    assert len(spoiler.kept) == 3
    await case.upstream.wait_until(lambda: case.upstream.connections == 0)


class Impostor:
    """Answers with one shared reply whose parts it changes later."""

    def __init__(self) -> None:
        self.headers = {"Content-Type": "application/json", "Connection": "close", "Content-Length": "3",
                        "Transfer-Encoding": "chunked", "X-Request-ID": "req_theirs"}  # fmt: skip
        self.reply = Reply(200, self.headers, b'{"model":"x"}')

    @hookimpl
    async def answer(self, exchange: Exchange) -> Reply:
        return self.reply


async def test_t125_a_shared_reply_stays_as_it_was(case: Case) -> None:
    """A reply that a plugin gives out again and again is not changed, and does not frame itself."""
    impostor = Impostor()
    before = dict(impostor.headers)
    await case.start(impostor)
    async with await case.wire() as wire:
        for _ in range(3):
            await wire.send(post(chat()))
            reply = await wire.reply()
            assert reply.json() == {"model": "x"}
            assert reply.headers["x-request-id"].startswith("req_")
            assert reply.headers["x-request-id"] != "req_theirs"
    assert impostor.reply.headers == before
    assert case.upstream.seen == []
