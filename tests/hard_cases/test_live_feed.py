"""The live feed with real processes: two workers, each killed once, and `raven-proxy tail`."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from raven_proxy.harness import ADMIN_KEY
from raven_proxy.mock import MockUpstream, ScriptedReply

from .running import Process, call, serve, write_config
from .wire import CANARY, chat, post

PLUGINS = ["auth-keys", "meter", "openai"]
PATIENCE_S = 40.0  # what a killed worker had not written comes with the next look far back


class Tail:
    """A running `raven-proxy tail`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def line(self) -> str:
        assert self.process.stdout is not None
        async with asyncio.timeout(PATIENCE_S):
            line = (await self.process.stdout.readline()).decode()
        assert line, "it ended"
        return line

    async def names(self, wanted: set[str]) -> list[str]:
        """Read until all of `wanted` were told; give the names that were, in their order."""
        told: list[str] = []
        while wanted - set(told):
            told.append(msgspec.json.decode(await self.line())["requestId"])
        return told


@asynccontextmanager
async def tailing(gateway: Process, *arguments: str) -> AsyncIterator[Tail]:
    """Follow a gateway; when the block begins, the feed is open."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "raven_proxy", "tail", "--url", gateway.url, *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "RAVEN_ADMIN_KEY": ADMIN_KEY},
    )  # fmt: skip
    tail = Tail(process)
    try:
        first = asyncio.ensure_future(tail.line())  # noqa: TID251 - a test's own task, awaited below
        while not first.done():
            await send(gateway, "mock/probe")
            await asyncio.wait([first], timeout=0.5)
        await first
        yield tail
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def send(gateway: Process, model: str = "mock/any") -> str:
    reply = await gateway.ask(post(chat(model)))
    assert reply.status == 200
    return reply.headers["x-request-id"]


async def test_every_workers_exchanges_are_told_once(tmp_path: Path, upstream: MockUpstream) -> None:
    """Through a reload, and through the sudden death of each worker in turn."""
    config = write_config(tmp_path, upstream, plugins=PLUGINS)
    async with serve(config, "--workers", "2") as gateway:
        pids = await gateway.two_workers()
        assert await gateway.each_worker(pids, post(chat())) == [200, 200]
        async with tailing(gateway, "--json", "--face", "openai-chat") as tail:
            made = {await send(gateway) for _ in range(20)}
            told = await tail.names(made)
            gateway.send(signal.SIGHUP)
            later = {await send(gateway) for _ in range(10)}
            told += await tail.names(later)
            for pid in pids:
                last = {await send(gateway) for _ in range(6)}
                os.kill(pid, signal.SIGKILL)
                async with asyncio.timeout(20):
                    while pid in gateway.workers():
                        await asyncio.sleep(0.05)
                await gateway.two_workers()
                last |= {await send(gateway) for _ in range(4)}
                told += await tail.names(last)
            assert len(told) == len(set(told))
            assert tail.process.returncode is None
        assert CANARY not in gateway.errors()


NASTY = "mock/\x1b[2J\x1b]0;owned\x07\u009b31m\u202egnp.exe\r\nroot:\u2028\U000e0041é"


async def test_t141_a_terminal_is_told_nothing_to_obey(upstream: MockUpstream) -> None:
    """Escape sequences, bells, line ends and turned writing come out as question marks, or escaped.

    From a gateway that lets them pass: ours takes no model with a control character.
    """
    names = ("requestId", "face", "model", "provider", "outcome", "keyId", "errorCode")
    row = dict.fromkeys(names, NASTY) | {"id": "1", "createdAt": "2026-01-02T03:04:05Z", "cost": NASTY}
    row |= dict.fromkeys(("latencyMs", "status", "promptTokens", "completionTokens"), 7) | {"estimated": True}
    events = [b"id: 1\ndata: %b\n\n" % msgspec.json.encode(row)]
    for arguments in ((), ("--json",)):
        upstream.script(ScriptedReply(chunks=events, headers={"Content-Type": "text/event-stream"}))
        status, output, errors = await call(
            "tail", "--url", upstream.origin, *arguments, environment={"RAVEN_ADMIN_KEY": ADMIN_KEY}
        )
        assert status == 1  # the mock has nothing at that path the second time
        assert "404" in errors
        [line] = output.splitlines(keepends=True)
        assert line.endswith("\n")
        assert line[:-1].isprintable()
        if arguments:
            assert msgspec.json.decode(line) == row
        else:
            assert "mock/?[2J?]0;owned??31m?gnp.exe??root:??é @ mock/?[2J" in line


async def test_it_ends_when_asked_to(tmp_path: Path, upstream: MockUpstream) -> None:
    """Ctrl-C is a clean end; a gateway that goes away and comes back is no end."""
    config = write_config(tmp_path, upstream, plugins=PLUGINS)
    async with serve(config) as gateway:
        port = gateway.url.rpartition(":")[2]
        async with tailing(gateway, "--json", "--provider", "mock") as tail:
            name = await send(gateway)
            await tail.names({name})
            gateway.send(signal.SIGTERM)
            assert await gateway.ended() == 0
            async with serve(config, "--port", port) as again:
                name = await send(again)
                await tail.names({name})
                tail.process.send_signal(signal.SIGINT)
                _, errors = await asyncio.wait_for(tail.process.communicate(), PATIENCE_S)
                assert tail.process.returncode == 0
                assert "Traceback" not in errors.decode()
                assert ADMIN_KEY not in errors.decode()


@pytest.mark.parametrize(
    ("plugins", "key", "says"),
    [
        (PLUGINS, "rk_live_" + "x" * 40, "does not know this key: 401"),
        (PLUGINS, "", "give a key with --key, or in RAVEN_ADMIN_KEY"),
        (["auth-keys", "openai"], ADMIN_KEY, "is this a Raven Proxy with the plugin meter?: 404"),
    ],
    ids=["401", "none", "404"],
)
async def test_it_says_what_is_wrong(tmp_path: Path, plugins: list[str], key: str, says: str) -> None:
    """One line, and an exit status that is not 0."""
    async with serve(write_config(tmp_path, plugins=plugins)) as gateway:
        told = await call("tail", "--url", gateway.url, environment={"RAVEN_ADMIN_KEY": key})
        check_refusal(told, says, key)


async def test_it_says_that_nobody_is_there() -> None:
    for url, says in (
        ("http://127.0.0.1:9", "cannot be reached"),
        ("nonsense", "nonsense cannot be reached"),
    ):
        check_refusal(await call("tail", "--url", url, environment={"RAVEN_ADMIN_KEY": ADMIN_KEY}), says)


def check_refusal(told: tuple[int, str, Any], says: str, key: str = ADMIN_KEY) -> None:
    status, output, errors = told
    assert status in {1, 2}
    assert says in errors
    assert output == ""
    assert "Traceback" not in errors
    assert not key or key not in errors
