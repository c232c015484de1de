"""The yardstick is straight: the fake upstream answers split requests, the load sees what a proxy spoils."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

import pytest

from raven_proxy.harness import GatewayStarter
from raven_proxy.mock import MockUpstream

from . import rows
from .cases import CASES
from .fake_upstream import CHUNKS, FakeUpstream
from .job import Job, Result, encode_request
from .load import Run
from .measure import DIRECT, Record, Sample
from .report import missed, render


class Recorder(asyncio.Transport):
    """Keeps what is written, one entry per send."""

    def __init__(self) -> None:
        self.sends: list[bytes] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.sends.append(bytes(data))


def _connected() -> tuple[FakeUpstream, Recorder]:
    upstream, transport = FakeUpstream(asyncio.get_running_loop()), Recorder()
    upstream.connection_made(transport)
    return upstream, transport


def _job(**changes: object) -> Job:
    fields: dict[str, object] = {"port": 1, "key": "k", "connections": 1, "requests": 1, "limit_s": 5.0}
    return Job(**{**fields, **changes})  # type: ignore[arg-type]


async def test_a_request_in_single_bytes_gets_one_reply() -> None:
    upstream, transport = _connected()
    for byte in encode_request(_job()):
        upstream.data_received(bytes([byte]))
    assert len(transport.sends) == 1
    assert transport.sends[0].endswith(b"}")


async def test_two_requests_in_one_read_get_two_replies() -> None:
    upstream, transport = _connected()
    upstream.data_received(encode_request(_job()) * 2)
    assert len(transport.sends) == 2


async def test_a_chunked_request_body_is_understood() -> None:
    upstream, transport = _connected()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    upstream.data_received(head + b'f\r\n{"stream":true}\r\n0\r\n')
    assert not transport.sends
    upstream.data_received(b"\r\n")
    assert transport.sends[0].count(b"data: ") == CHUNKS + 1


@pytest.mark.parametrize("model", ["burst", "paced"])
async def test_chunks_leave_one_by_one(model: str) -> None:
    upstream, transport = _connected()
    upstream.data_received(encode_request(_job(stream=True, model=model)))
    assert len(transport.sends) == 1
    async with asyncio.timeout(5):
        while len(transport.sends) < CHUNKS:  # a transport has nobody to tell
            await asyncio.sleep(0.001)
    assert transport.sends[-1].endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")


async def _drive(job: Job, spoil: Callable[[bytes], bytes]) -> Result:
    """Run `job` against the fake upstream with every send passed through `spoil`."""

    class Spoiling(FakeUpstream):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            real = cast("asyncio.Transport", transport)
            spoiled = Recorder()
            spoiled.write = lambda data: real.write(spoil(bytes(data)))  # type: ignore[method-assign]
            super().connection_made(spoiled)

    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Spoiling(loop), "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        run = Run(_job(port=port, stream=job.stream, include_usage=job.include_usage, events=job.events))
        await run.connect()
        result = run.result(await run.drive(1, 0.3))
        for client in run.clients:
            if client.transport is not None:
                client.transport.close()
    return result


def _faults(result: Result) -> tuple[int, int, int]:
    return result.errors, result.bad_status, result.bad_body


@pytest.mark.parametrize("usage", [False, True])
async def test_a_whole_stream_is_no_fault(usage: bool) -> None:
    job = _job(stream=True, include_usage=usage, events=CHUNKS + 1 + usage)
    result = await _drive(job, lambda data: data)
    assert _faults(result) == (0, 0, 0)
    assert result.requests == 1
    assert 0 < result.first_p50 <= result.p50


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda data: data[:-5], (1, 0, 0)),
        (lambda data: data.replace(b"200 OK", b"500 OK"), (0, 1, 0)),
        (lambda data: data.replace(b"[DONE]", b"[GONE]"), (0, 0, 1)),
        (lambda data: data.replace(b"data: {", b"date: {", 1), (0, 0, 1)),
    ],
    ids=["cut", "status", "done", "event"],
)
async def test_a_spoiled_stream_is_a_fault(
    spoil: Callable[[bytes], bytes], expected: tuple[int, int, int]
) -> None:
    result = await _drive(_job(stream=True, events=CHUNKS + 1), spoil)
    assert _faults(result) == expected


async def test_a_usage_chunk_that_was_not_asked_for_is_a_fault() -> None:
    spoiled = await _drive(
        _job(stream=True, events=CHUNKS + 1), lambda data: data.replace(b'"choices":[{', b'"choices":[]{', 1)
    )
    assert _faults(spoiled) == (0, 0, 1)


def _sample(name: str, cpu_us: float | None, p50: float) -> Sample:
    result = Result(100, 1.0, 100.0, p50, p50, p50, p50, 0, 0, 0, 0)
    return Sample("whole", name, result, cpu_us, cpu_us and 0.9)


def test_the_table_shows_medians_ratios_and_what_is_missed() -> None:
    record = Record(["nginx", "raven"])
    for cpu in (10.0, 500.0, 11.0):
        record.samples += [_sample(DIRECT, None, 1), _sample("nginx", cpu, 2), _sample("raven", 7 * cpu, 3)]
    cases = [case for case in CASES if case.name == "whole"]
    table = render(record, cases)
    assert "| Whole reply | CPU µs / request |  | 11.0 | 77.0 | 7.00 |" in table
    assert "Faults: none" in table
    assert missed(record, cases) == ["Whole reply, CPU ÷ nginx's: 7.00, limit 6"]


async def test_the_row_that_policies_are_measured_against_tells_of_the_exchange(
    raven: GatewayStarter, upstream: MockUpstream
) -> None:
    gateway = await raven([rows.Plugin], upstreams=[upstream])
    chat = {"model": "mock/m", "messages": [{"role": "user", "content": "Hi"}]}
    async with gateway.client.post("/v1/chat/completions", json=chat) as reply:
        assert reply.status == 200
    storage = gateway.gateway.storage
    for _ in range(100):  # observers are told in the background
        await storage.flush()
        found = await storage.fetch_all("SELECT status, upstream_model, prompt_tokens FROM bench_rows")
        if found:
            break
        await asyncio.sleep(0.01)
    assert found[0]["status"] == 200
    assert found[0]["upstream_model"] == "m"
    assert found[0]["prompt_tokens"] > 0
