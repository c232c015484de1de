"""The load: N keep-alive connections in a closed loop, as lean as Python gets.

Responsible for sending what an official OpenAI client sends, timing it, and making sure that what comes
back is whole: a proxy that cuts streams short must not look fast. Knows nothing of the proxy's process.

Run as a program with one `Job` in JSON. It warms up, prints `ready`, waits for a line on stdin (so that
the caller can read the proxy's CPU clock in between), runs, and prints one `Result` in JSON.
A job that holds instead opens every stream, prints `ready` while they run, and ends them on the line.
"""

from __future__ import annotations

import asyncio
import gc
import re
import sys
from time import perf_counter
from typing import cast

import msgspec
import uvloop

from .job import Job, Result, encode_request

__all__ = ["main"]

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:[ \t]*chunked", re.IGNORECASE)


class Run:
    """One closed loop over a set of connections: hands out requests, gathers times and faults."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.request = encode_request(job)
        self.clients: list[Client] = []
        self.begin(0)

    def begin(self, requests: int) -> None:
        """Forget what was gathered and get ready to hand out `requests`."""
        self.left = requests
        self.busy = self.judged = self.errors = self.bad_status = self.bad_body = 0
        self.times: list[float] = []
        self.first: list[float] = []
        self.settled = asyncio.Event()
        self.sample = ""

    async def connect(self) -> None:
        """Open every connection before anything is sent."""
        loop = asyncio.get_running_loop()
        for _ in range(self.job.connections):
            _, client = await loop.create_connection(lambda: Client(self), "127.0.0.1", self.job.port)
            self.clients.append(client)

    async def drive(self, requests: int, limit_s: float) -> float:
        """Send `requests` over all connections; return the seconds it took."""
        self.begin(requests)
        start = perf_counter()
        self.launch(self.job.ramp_s)
        try:
            await asyncio.wait_for(self.settled.wait(), limit_s)
        except TimeoutError:
            self.errors += self.busy
        self.errors += self.left
        return perf_counter() - start

    def launch(self, ramp_s: float) -> None:
        """Start every connection, spread over `ramp_s`."""
        loop = asyncio.get_running_loop()
        for number, client in enumerate(self.clients):
            if ramp_s:
                loop.call_later(ramp_s * number / len(self.clients), client.next)
            else:
                client.next()

    def next_for(self, client: Client) -> None:
        """Give `client` the next request, or notice that all is done."""
        if self.left > 0 and client.transport is not None:
            self.left -= 1
            self.busy += 1
            client.send(self.request)
        elif not self.busy and (not self.left or all(c.transport is None for c in self.clients)):
            self.settled.set()

    def judge(self, status: bytes, body: bytes) -> None:
        """Count replies that are not whole. Every 64th stream has its events counted."""
        self.judged += 1
        if status == b"200" and self._is_whole(body):
            return
        if status != b"200":
            self.bad_status += 1
        else:
            self.bad_body += 1
        self.sample = self.sample or repr(status + b" " + body[:300])

    def _is_whole(self, body: bytes) -> bool:
        if not self.job.stream:
            return body.endswith(b"}") and b'"finish_reason":"stop"' in body
        if b"data: [DONE]" not in body[-64:]:
            return False
        if not self.job.events or self.judged & 63 != 1:
            return True
        shown = body.count(b'"choices":[]') == self.job.include_usage
        return shown and body.count(b"data: ") == self.job.events

    def result(self, seconds: float) -> Result:
        """Sum up; a run without a single reply has times of 0."""
        times, first = sorted(self.times), sorted(self.first)
        return Result(
            requests=len(times),
            seconds=seconds,
            rate=len(times) / seconds,
            p50=_quantile(times, 0.50),
            p99=_quantile(times, 0.99),
            first_p50=_quantile(first, 0.50),
            first_p99=_quantile(first, 0.99),
            errors=self.errors,
            bad_status=self.bad_status,
            bad_body=self.bad_body,
            alive=sum(client.busy and not client.awaiting for client in self.clients),
            sample=self.sample,
        )


class Client(asyncio.Protocol):
    """One connection: at most one request in flight, its reply judged when its framing says it is over."""

    __slots__ = (
        "_begun",
        "_head",
        "_left",
        "_pieces",
        "_run",
        "_status",
        "_tail",
        "awaiting",
        "busy",
        "transport",
    )

    def __init__(self, run: Run) -> None:
        self._run = run
        self.transport: asyncio.Transport | None = None
        self.busy = self.awaiting = False
        """In flight; in flight and not one byte of the body here yet."""
        self._head: bytes | None = None
        self._status = self._tail = b""
        self._pieces: list[bytes] = []
        self._begun = 0.0
        self._left = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's own class, no subclass

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        if self.busy:
            self.busy = False
            self._run.busy -= 1
            self._run.errors += 1
        self._run.next_for(self)

    def next(self) -> None:
        """Ask the run for work."""
        self._run.next_for(self)

    def send(self, request: bytes) -> None:
        """Send one request and start its clock."""
        assert self.transport is not None
        self.busy = self.awaiting = True
        self._head = b""
        self._pieces = []
        self._tail = b""
        self._begun = perf_counter()
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Take bytes of the reply; the head first, which may come in pieces."""
        if self._head is not None:
            self._head += data
            end = self._head.find(b"\r\n\r\n")
            if end < 0:
                return
            data = self._open(self._head, end)
        if not data and self._left:
            return
        if self.awaiting:
            self.awaiting = False
            self._run.first.append(perf_counter() - self._begun)
        self._pieces.append(data)
        if self._left < 0:
            self._tail = (self._tail + data)[-7:]
            if self._tail.endswith(b"\r\n0\r\n\r\n"):
                self._close()
        else:
            self._left -= len(data)
            if self._left <= 0:
                self._close()

    def _open(self, received: bytes, end: int) -> bytes:
        """Read status and framing (`_left` is -1 for chunked); return the body's first bytes."""
        self._status = received[9:12]
        length = _LENGTH.search(received, 0, end)
        if length is None and _CHUNKED.search(received, 0, end) is None:
            raise ValueError(f"The reply has no framing: {received[:end]!r}")
        self._left = int(length[1]) if length else -1
        self._head = None
        return received[end + 4 :]

    def _close(self) -> None:
        run = self._run
        run.times.append(perf_counter() - self._begun)
        run.busy -= 1
        self.busy = False
        run.judge(self._status, b"".join(self._pieces))
        run.next_for(self)


def _quantile(ordered: list[float], share: float) -> float:
    """Pick a quantile of sorted seconds, in milliseconds."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000 if ordered else 0.0


async def _told() -> None:
    """Say that all is set and wait for the caller's line, while streams go on."""
    print("ready", flush=True)
    loop = asyncio.get_running_loop()
    heard = asyncio.Event()
    loop.add_reader(0, heard.set)
    await heard.wait()
    loop.remove_reader(0)


async def _measure(run: Run, job: Job) -> Result:
    await run.connect()
    await run.drive(job.warmup * job.connections, job.limit_s)
    await _told()
    return run.result(await run.drive(job.requests, job.limit_s))


async def _hold(run: Run, job: Job) -> Result:
    """Open one stream per connection and keep them running until told."""
    await run.connect()
    run.begin(job.connections)
    start = perf_counter()
    run.launch(job.ramp_s)
    while len(run.first) < job.connections and perf_counter() - start < job.limit_s:
        await asyncio.sleep(0.02)  # polled: an event would cost every request of the other jobs
    await _told()
    return run.result(perf_counter() - start)


def main() -> None:
    """Run the job given as the only argument."""
    job = msgspec.json.decode(sys.argv[1], type=Job)
    gc.disable()  # a collection in here would show as latency of the proxy
    run = Run(job)
    result = uvloop.run((_hold if job.hold else _measure)(run, job))
    print(msgspec.json.encode(result).decode(), flush=True)


if __name__ == "__main__":
    main()
