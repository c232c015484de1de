"""The yardstick a Python gateway is held against: an aiohttp proxy that does nothing but forward.

No keys, no metering, no checks: what `web.Application` and `ClientSession` cost on their own.
Run as a program: `bare_proxy.py PORT UPSTREAM_PORT`.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator

import uvloop
from aiohttp import (
    ClientSession,  # noqa: TID251  # this *is* the proxy that the gateway's own pool is compared with
    ClientTimeout,
    DummyCookieJar,
    TCPConnector,
    web,
)
from multidict import CIMultiDict, CIMultiDictProxy

__all__ = ["build_app", "main"]

_SESSION = web.AppKey("session", ClientSession)
_HOP_BY_HOP = ("Host", "Connection", "Keep-Alive", "Transfer-Encoding", "Upgrade", "TE", "Trailer")


def _forwardable(headers: CIMultiDictProxy[str]) -> CIMultiDict[str]:
    """Copy `headers` without those that belong to one connection."""
    kept = CIMultiDict(headers)
    for name in _HOP_BY_HOP:
        kept.popall(name, None)
    return kept


def build_app(upstream: str) -> web.Application:
    """Build the application that forwards every request to `upstream` (scheme and authority)."""

    async def session(app: web.Application) -> AsyncIterator[None]:
        async with ClientSession(
            connector=TCPConnector(limit=0),
            timeout=ClientTimeout(total=None),
            auto_decompress=False,
            cookie_jar=DummyCookieJar(),
        ) as app[_SESSION]:
            yield

    async def forward(request: web.Request) -> web.StreamResponse:
        async with request.app[_SESSION].request(
            request.method,
            upstream + request.path_qs,
            headers=_forwardable(request.headers),
            data=await request.read() if request.can_read_body else None,
            allow_redirects=False,
        ) as reply:
            response = web.StreamResponse(status=reply.status, headers=_forwardable(reply.headers))
            await response.prepare(request)
            while data := await reply.content.readany():
                await response.write(data)
            await response.write_eof()
            return response

    app = web.Application()
    app.cleanup_ctx.append(session)
    app.router.add_route("*", "/{path:.*}", forward)
    return app


async def _serve(port: int, upstream_port: int) -> None:
    runner = web.AppRunner(build_app(f"http://127.0.0.1:{upstream_port}"), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=4096).start()
    await asyncio.Event().wait()


def main() -> None:
    """Serve on the first port given, forwarding to the second, until killed."""
    uvloop.run(_serve(int(sys.argv[1]), int(sys.argv[2])))


if __name__ == "__main__":
    main()
