"""The fixture `case`: a gateway that is watched, and the invariants that hold after every case."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any

import msgspec
import pytest
import structlog

from raven_proxy import Exchange, Outcome, Usage, hookimpl, log
from raven_proxy.exchange import Attempt
from raven_proxy.harness import ADMIN_KEY, GatewayStarter, RunningGateway
from raven_proxy.mock import MockUpstream

from .drop_ins import files as files  # a fixture, for every module here
from .refusals import refusal as refusal
from .wire import CANARY, RawReply, Wire, ask, chat, post

PROVIDER_KEY = "sk-upstream-test"  # what `raven` configures for a MockUpstream


class Finished(msgspec.Struct):
    """What `finish_exchange` saw of one exchange."""

    id: str
    face: str
    model: str | None
    status: int
    outcome: Outcome
    attempts: tuple[Attempt, ...]
    usage: Usage | None
    produced_bytes: int
    error: str | None
    client_address: str
    principal: str | None


class Recorder:
    """Keeps how every exchange ended."""

    def __init__(self) -> None:
        self.finished: list[Finished] = []

    @hookimpl
    async def finish_exchange(self, exchange: Exchange) -> None:
        self.finished.append(
            Finished(
                exchange.id,
                exchange.face.name,
                exchange.model,
                exchange.status,
                exchange.outcome,
                tuple(exchange.attempts),
                exchange.usage,
                exchange.produced_bytes,
                exchange.error.message if exchange.error is not None else None,
                exchange.client_address,
                exchange.principal.key_id if exchange.principal is not None else None,
            )
        )


class Case:
    """One hard case: its gateway, its upstream, what was logged and what was recorded.

    `needles` must not turn up anywhere (I4). `may_fail` allows lines of level error in the log.
    """

    def __init__(self, raven: GatewayStarter, upstream: MockUpstream, lines: list[bytes]) -> None:
        self.upstream = upstream
        self.upstreams = [upstream]
        self.lines = lines
        self.recorder = Recorder()
        self.gateways: list[RunningGateway] = []
        self.needles = [ADMIN_KEY, PROVIDER_KEY, CANARY]
        self.may_fail = False
        self._raven = raven

    async def start(
        self,
        *plugins: Any,
        config: Mapping[str, Any] | None = None,
        upstreams: Sequence[MockUpstream | Mapping[str, Any]] | None = None,
        base: Sequence[str] = ("openai",),
        **options: Any,
    ) -> RunningGateway:
        """Start a gateway whose exchanges are recorded, with the mock upstream as "mock"."""
        gateway = await self._raven(
            [self.recorder, *plugins],
            upstreams=self.upstreams if upstreams is None else upstreams,
            base=base,
            config=config or {},
            **options,
        )
        self.gateways.append(gateway)
        return gateway

    @property
    def url(self) -> str:
        return self.gateways[-1].url

    async def wire(self) -> Wire:
        return await Wire.open(self.url)

    async def ask(self, raw: bytes) -> RawReply:
        return await ask(self.url, raw)

    async def chat(self, model: str = "mock/any", *, stream: bool = False, **fields: Any) -> RawReply:
        return await self.ask(post(chat(model, stream=stream, **fields)))

    async def stream(self, model: str) -> RawReply:
        return await self.chat(f"mock/{model}", stream=True)

    async def settle(self) -> list[Finished]:
        """Wait until nothing is under way; give what was recorded."""
        async with asyncio.timeout(5):
            while any(g.gateway.in_flight or len(g.gateway.tasks) for g in self.gateways):
                await asyncio.sleep(0.005)
        return self.recorder.finished

    async def last(self) -> Finished:
        """Give the last exchange that ended."""
        return (await self.settle())[-1]

    @property
    def log(self) -> list[dict[str, Any]]:
        return [msgspec.json.decode(line) for line in self.lines]

    def events(self, name: str) -> list[dict[str, Any]]:
        """Give the log lines with this event."""
        return [line for line in self.log if line["event"] == name]

    async def check(self) -> None:
        """Assert the invariants."""
        finished = await self.settle()
        ids = [one.id for one in finished]
        assert len(ids) == len(set(ids)), "an exchange was finished twice"
        recorded = sum(len(one.attempts) for one in finished)
        seen = sum(len(upstream.seen) for upstream in self.upstreams)
        assert recorded == seen, f"I3: {recorded} attempts recorded, {seen} seen"
        assert all(line.count(b"\n") == 1 for line in self.lines), "a log line is not one line"
        self.find_needles(b"".join(self.lines), "the log")
        for gateway in self.gateways:
            for path in (gateway.folder / "data").rglob("*"):
                if path.is_file():
                    self.find_needles(path.read_bytes(), path.name)
        if not self.may_fail:
            errors = [line for line in self.log if line["level"] in {"error", "critical"}]
            assert not errors, errors

    def find_needles(self, data: bytes, where: str) -> None:
        """Assert that none of the needles is in `data` (I4)."""
        for needle in self.needles:
            assert needle.encode() not in data, f"I4: {needle!r} is in {where}"

    def refused(
        self,
        reply: RawReply,
        status: int,
        *,
        code: str | None = None,
        type: str | None = None,
        param: str | None = None,
    ) -> dict[str, Any]:
        """Assert that a reply is an error in the envelope (I8) that tells no secret; give its inside."""
        assert reply.status == status, (reply.status, reply.body)
        assert reply.is_whole
        assert reply.headers["content-type"] == "application/json"
        inner: dict[str, Any] = reply.json()["error"]
        assert {"type", "code", "message", "param", "status", "request_id"} <= inner.keys()
        assert inner["status"] == status
        assert inner["request_id"] == reply.headers["x-request-id"]
        assert inner["request_id"].startswith("req_")
        for name, value in (("code", code), ("type", type), ("param", param)):
            assert value is None or inner[name] == value, inner
        assert b"Traceback" not in reply.body
        assert b".py" not in reply.body
        self.find_needles(reply.body, "an error")
        return inner


@pytest.fixture
def log_lines() -> Iterator[list[bytes]]:
    """Collect the log at its most talkative level."""
    collected: list[bytes] = []
    before = logging.root.handlers[:]
    log.configure("debug", collected.append)
    yield collected
    structlog.reset_defaults()
    logging.root.handlers[:] = before


@pytest.fixture
async def case(raven: GatewayStarter, upstream: MockUpstream, log_lines: list[bytes]) -> AsyncIterator[Case]:
    made = Case(raven, upstream, log_lines)
    yield made
    await made.check()
