"""What the tests of clients share: what they ask, OpenAI's two Python clients, clients in other processes."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from operator import attrgetter
from pathlib import Path
from typing import Any

from openai import AsyncOpenAI, OpenAI

from raven_proxy.harness import ADMIN_KEY

__all__ = ["MODELS", "QUESTION", "WEATHER", "Client", "open_client", "run_program"]

MODELS = ("mock-small", "mock-large", "mock-embedding")
QUESTION: list[Any] = [{"role": "user", "content": "What is the weather in Paris?"}]
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
            "required": ["city", "days"],
            "additionalProperties": False,
        },
    },
}


class Client:
    """The synchronous client, called in a thread, or the asynchronous one."""

    def __init__(self, client: OpenAI | AsyncOpenAI) -> None:
        self.client = client

    async def ask(self, method: str, **options: Any) -> Any:
        """Call `client.METHOD(**options)`; a stream comes back as the list of its chunks."""
        call = attrgetter(method)(self.client)
        if isinstance(self.client, AsyncOpenAI):
            answer = await call(**options)
            return [chunk async for chunk in answer] if options.get("stream") else answer
        if options.get("stream"):
            return await asyncio.to_thread(lambda: list(call(**options)))
        return await asyncio.to_thread(lambda: call(**options))

    async def chat(self, **options: Any) -> Any:
        """Ask `QUESTION`."""
        return await self.ask(
            "chat.completions.create", **({"model": "mock-small", "messages": QUESTION} | options)
        )

    def accept_anything(self) -> None:
        """Turn off the strict check of types, where the client's types know less than its own code."""
        self.client._strict_response_validation = False


@asynccontextmanager
async def open_client(kind: str, base_url: str, **options: Any) -> AsyncIterator[Client]:
    """Open the "sync" or "async" client: it checks types strictly and does not retry."""
    settings: dict[str, Any] = {"api_key": ADMIN_KEY, "max_retries": 0, "timeout": 10.0} | options
    settings |= {"base_url": base_url, "_strict_response_validation": True}
    if kind == "sync":
        with OpenAI(**settings) as plain:
            yield Client(plain)
    else:
        async with AsyncOpenAI(**settings) as waiting:
            yield Client(waiting)


async def run_program(
    *arguments: str, environment: Mapping[str, str], folder: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a client in a process of its own, while the gateway goes on serving here."""
    return await asyncio.to_thread(
        subprocess.run, arguments, env={**os.environ, **environment}, cwd=folder,
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
