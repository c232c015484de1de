"""A raw HTTP/1.1 client: where a case is about bytes, no library may tidy them up."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, Self
from urllib.parse import urlsplit

import msgspec

from raven_proxy.harness import ADMIN_KEY

__all__ = ["CANARY", "CHAT", "RawReply", "Wire", "ask", "chat", "post"]

CANARY = "canary-7f3a91"
"""In every prompt; it must not turn up in a log, an error or a file."""

CHAT = "/v1/chat/completions"
_PATIENCE_S = 10.0  # nothing here may hang a test


class RawReply(msgspec.Struct):
    """One reply. `is_whole` is False where the connection ended before the framing's own end."""

    status: int
    headers: dict[str, str]  # lower-case names
    body: bytes
    is_whole: bool = True

    def json(self) -> Any:
        return msgspec.json.decode(self.body)


class Wire:
    """One connection. Every read gives up after ten seconds."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def open(cls, url: str, *, limit: int = 2**26) -> Self:
        """Connect; `limit` bounds what is read ahead."""
        parts = urlsplit(url)
        return cls(*await asyncio.open_connection(parts.hostname, parts.port, limit=limit))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        self.writer.close()
        with suppress(OSError):
            await self.writer.wait_closed()

    def abort(self) -> None:
        """Leave with a reset."""
        self.writer.transport.abort()

    async def send(self, raw: bytes) -> None:
        self.writer.write(raw)
        await self.writer.drain()

    async def reply(self, *, has_body: bool = True) -> RawReply:
        """Read the next reply, interim ones passed over."""
        async with asyncio.timeout(_PATIENCE_S):
            status, headers = await self.head()
            while 100 <= status < 200:
                status, headers = await self.head()
            if not has_body or status in {204, 304}:
                return RawReply(status, headers, b"")
            return await self._body(status, headers)

    async def head(self) -> tuple[int, dict[str, str]]:
        async with asyncio.timeout(_PATIENCE_S):
            text = (await self.reader.readuntil(b"\r\n\r\n")).decode("utf-8", "surrogateescape")
        first, *lines = text[:-4].split("\r\n")
        headers: dict[str, str] = {}
        for line in lines:
            name, _, value = line.partition(": ")
            assert name.lower() not in headers, f"the header {name} came twice"
            headers[name.lower()] = value
        return int(first.split()[1]), headers

    async def chunk(self) -> bytes:
        """Read one chunk of a chunked body; b"" is the last. Raises IncompleteReadError at a cut."""
        async with asyncio.timeout(_PATIENCE_S):
            size = int((await self.reader.readuntil(b"\r\n")).strip(), 16)
            data = await self.reader.readexactly(size + 2)
        return data[:-2]

    async def rest(self) -> bytes:
        """Read to the end of the connection; a reset ends it too."""
        got = b""
        with suppress(ConnectionError):
            async with asyncio.timeout(_PATIENCE_S):
                while piece := await self.reader.read(65536):
                    got += piece
        return got

    async def _body(self, status: int, headers: dict[str, str]) -> RawReply:
        body = b""
        try:
            if headers.get("transfer-encoding") == "chunked":
                while piece := await self.chunk():
                    body += piece
            elif "content-length" in headers:
                body = await self.reader.readexactly(int(headers["content-length"]))
            else:
                body = await self.rest()
        except asyncio.IncompleteReadError as error:
            return RawReply(status, headers, body + error.partial, is_whole=False)
        except ConnectionError:
            return RawReply(status, headers, body, is_whole=False)
        return RawReply(status, headers, body)


def chat(model: str = "mock/any", *, stream: bool = False, **fields: Any) -> dict[str, Any]:
    """Make a chat request."""
    messages = [{"role": "user", "content": f"Say {CANARY} again please"}]
    return {"model": model, "messages": messages, **({"stream": True} if stream else {}), **fields}


def post(
    body: Any,
    path: str = CHAT,
    *,
    key: str | None = ADMIN_KEY,
    headers: tuple[str, ...] = (),
    kind: str = "application/json",
    method: str = "POST",
) -> bytes:
    """Write a request; `headers` are whole lines, sent as they are."""
    data = body if isinstance(body, bytes) else msgspec.json.encode(body)
    lines = [f"{method} {path} HTTP/1.1", "Host: gateway", f"Content-Length: {len(data)}"]
    lines += [f"Content-Type: {kind}"] if kind else []
    lines += [f"Authorization: Bearer {key}"] if key is not None else []
    return "\r\n".join([*lines, *headers, "", ""]).encode("utf-8", "surrogateescape") + data


async def ask(url: str, raw: bytes) -> RawReply:
    """Send one request on a connection of its own and read its reply."""
    async with await Wire.open(url) as wire:
        await wire.send(raw)
        return await wire.reply()
