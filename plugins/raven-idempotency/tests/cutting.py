"""A network that loses replies: between a client and the gateway, whose reply it takes and drops."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

__all__ = ["Network", "open_network"]

_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)


class Network:
    """Passes bytes on; of the next `losses` replies only `passed` bytes arrive, and then the line is dead.

    The gateway notices nothing: it has sent its whole reply by then.
    """

    def __init__(self, target: str) -> None:
        self.host, _, port = target.removeprefix("http://").partition(":")
        self.port = int(port)
        self.url = ""
        self.losses = 0
        self.passed = 0
        self.lost: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        theirs, ours = await asyncio.open_connection(self.host, self.port)
        up = asyncio.ensure_future(_pump(reader, ours))  # noqa: TID251
        try:
            if self.losses:
                self.losses -= 1
                self.lost.append(await _read_reply(theirs))
                writer.write(self.lost[-1][: self.passed])
                await writer.drain()
            else:
                await _pump(theirs, writer)
        finally:
            up.cancel()
            for one in (ours, writer):
                one.close()


@asynccontextmanager
async def open_network(target: str) -> AsyncIterator[Network]:
    """Open one that leads to `target` (http://host:port)."""
    network = Network(target)
    server = await asyncio.start_server(network.serve, "127.0.0.1", 0)
    network.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield network
    finally:
        server.close()


async def _read_reply(reader: asyncio.StreamReader) -> bytes:
    data = b""
    while True:
        data += await reader.read(65536)
        head, ended, body = data.partition(b"\r\n\r\n")
        if ended and (length := _LENGTH.search(head + b"\r\n")):
            if len(body) >= int(length[1]):
                return data
        elif data.endswith(b"\r\n0\r\n\r\n"):
            return data


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
