"""Node's client libraries in one long-running process; `tests/clients/meanings.mjs` says what it does."""

from __future__ import annotations

import asyncio
import os
import shutil
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from .meaning import Json, Meaning

__all__ = ["NodeClients", "open_node"]

_FOLDER = Path(__file__).parents[1] / "clients"
_MOST = 2**24  # bytes of one answer


class NodeClients:
    """The process. `AI_CLIENTS` are those of Vercel's AI SDK."""

    def __init__(self, process: Process) -> None:
        self._process = process

    async def ask(self, client: str, model: str, *, stream: bool, tools: list[str]) -> Meaning:
        """Ask a small question; an error is a Meaning whose `error` says kind, status and message."""
        found = await self._send({"client": client, "model": model, "stream": stream, "tools": tools})
        error = found.pop("error", None)
        if error is not None:
            return Meaning(error=f"{error.get('status')} {error['kind']}: {error['message']}")
        return msgspec.convert(found, Meaning)

    async def loop(self, client: str, model: str, *, stream: bool) -> Json:
        """Let the model call a tool and tell it the result."""
        return await self._send(
            {"client": client, "model": model, "stream": stream, "tools": [], "loop": True}
        )

    async def _send(self, errand: Json) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(msgspec.json.encode(errand) + b"\n")
        await self._process.stdin.drain()
        async with asyncio.timeout(20):
            line = await self._process.stdout.readline()
        assert line, "node ended"
        return msgspec.json.decode(line)


@asynccontextmanager
async def open_node(url: str, key: str) -> AsyncIterator[NodeClients]:
    """Start the process; skip (in CI fail) where node or its packages are not installed."""
    program = shutil.which("node")
    if program is None or not (_FOLDER / "node_modules" / "ai").is_dir():
        (pytest.fail if os.environ.get("CI") else pytest.skip)(
            "node or its packages are missing; run tests/install"
        )
    environment = {**os.environ, "RAVEN_URL": url, "RAVEN_KEY": key}
    process = await asyncio.create_subprocess_exec(
        program,
        "meanings.mjs",
        cwd=_FOLDER,
        env=environment,
        stdin=PIPE,
        stdout=PIPE,
        stderr=DEVNULL,
        limit=_MOST,
    )
    try:
        yield NodeClients(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()
