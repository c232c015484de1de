"""`raven-proxy` as a process of its own, for cases about signals, workers and the command line."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from raven_proxy.harness import ADMIN_KEY, write_toml
from raven_proxy.mock import MockUpstream

from .wire import RawReply, ask

__all__ = ["Process", "call", "serve", "write_config"]

_URL = re.compile(r"http://127\.0\.0\.1:\d+")
_LIVE = b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n"
_PATIENCE_S = 20.0


class Process:
    """A running `raven-proxy serve`."""

    def __init__(self, process: asyncio.subprocess.Process, folder: Path) -> None:
        self.process = process
        self.folder = folder
        self.url = ""
        self.said = ""

    async def wait_until_ready(self) -> None:
        assert self.process.stdout is not None
        async with asyncio.timeout(_PATIENCE_S):
            while not self.url:
                line = (await self.process.stdout.readline()).decode()
                assert line, f"it ended at its start: {self.errors()}"
                self.said += line
                self.url = found[0] if (found := _URL.search(line)) else ""
            while await self.status("/health/ready") != 200:
                await asyncio.sleep(0.02)

    async def status(self, path: str) -> int:
        """Ask for `path`; 0 if nobody listens."""
        with suppress(OSError, asyncio.IncompleteReadError):
            return (await self.ask(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())).status
        return 0

    async def ask(self, raw: bytes) -> RawReply:
        return await ask(self.url, raw)

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def ended(self, timeout_s: float = _PATIENCE_S) -> int:
        """Wait for its end; give its exit status."""
        async with asyncio.timeout(timeout_s):
            return await self.process.wait()

    def errors(self) -> str:
        """What it wrote to standard error so far: its log."""
        return (self.folder / "stderr").read_text()

    async def two_workers(self) -> list[int]:
        """Wait until two workers take connections; give their process ids."""
        async with asyncio.timeout(_PATIENCE_S):
            while len(self.workers()) < 2:
                await asyncio.sleep(0.02)
            pids = self.workers()
            while await self.each_worker(pids, _LIVE) != [200, 200]:
                await asyncio.sleep(0.02)
        return pids

    async def each_worker(self, pids: Sequence[int], raw: bytes) -> list[int]:
        """Send a request to each worker, by holding the others back; give the statuses."""
        statuses = []
        for pid in pids:
            others = [other for other in pids if other != pid]
            for other in others:
                os.kill(other, signal.SIGSTOP)
            try:
                statuses.append((await self.ask(raw)).status)
            finally:
                for other in others:
                    os.kill(other, signal.SIGCONT)
        return statuses

    def workers(self) -> list[int]:
        """The process ids of its children."""
        pid = self.process.pid
        return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def write_config(folder: Path, upstream: MockUpstream | None = None, **settings: Any) -> Path:
    """Write a config file with everything below `folder`; `upstream` is "mock"."""
    key = folder / "provider-key"
    key.write_text("sk-upstream-test")
    upstreams = []
    if upstream is not None:
        upstreams = [
            {"name": "mock", "provider": "openai", "base_url": upstream.url, "key": {"file": str(key)}}
        ]
    table = {"data_dir": str(folder / "data"), "upstreams": upstreams, "log_level": "debug", **settings}
    if "meter" in settings.get("plugins", ["meter"]):  # its models have no price
        plugin = settings.get("plugin", {})
        table["plugin"] = plugin | {"meter": {"allow_unpriced": True} | plugin.get("meter", {})}
    table.setdefault("models_refresh_s", 0)
    path = folder / "raven.toml"
    path.write_text(write_toml(table))
    return path


@asynccontextmanager
async def serve(
    config: Path, *arguments: str, environment: Mapping[str, str] | None = None
) -> AsyncIterator[Process]:
    """Run `raven-proxy serve` on a free port until the block ends; it is killed if need be."""
    folder = config.parent
    with (folder / "stderr").open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            *_command("serve", "--config", str(config), "--port", "0", *arguments),
            stdout=asyncio.subprocess.PIPE, stderr=errors,
            env={**os.environ, "RAVEN_ADMIN_KEY": ADMIN_KEY, **(environment or {})},
        )  # fmt: skip
    running = Process(process, folder)
    try:
        await running.wait_until_ready()
        yield running
    finally:
        if process.returncode is None:
            workers = running.workers()
            process.kill()
            for pid in workers:  # nobody is left to stop them
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        await process.wait()


async def call(*arguments: str, environment: Mapping[str, str] | None = None) -> tuple[int, str, str]:
    """Run a `raven-proxy` command to its end; give exit status, output and errors."""
    process = await asyncio.create_subprocess_exec(
        *_command(*arguments),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **(environment or {})},
    )  # fmt: skip
    try:
        async with asyncio.timeout(_PATIENCE_S):
            output, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode or 0, output.decode(), errors.decode()


def _command(*arguments: str) -> Sequence[str]:
    return [sys.executable, "-m", "raven_proxy", *arguments]
