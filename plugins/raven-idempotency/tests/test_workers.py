"""Several processes on one data_dir, restarts, crashes, and what lies on the disk meanwhile."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import ClientSession  # noqa: TID251 - the client's side of a test

from raven_proxy.harness import ADMIN_KEY, write_toml
from raven_proxy.mock import MockUpstream

from .caller import CHAT, KEY, question, reply, stream

PROMPT, SAID = "canary-prompt-7f3a", "canary-reply-91bc"
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("RAVEN_")}


class Process:
    """`raven-proxy serve` with workers."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.url = ""

    async def listen(self) -> None:
        assert self.process.stdout is not None
        async with asyncio.timeout(20):
            while not self.url:
                line = (await self.process.stdout.readline()).decode()
                assert line, "it ended at its start"
                self.url = found[0] if (found := re.search(r"http://127\.0\.0\.1:\d+", line)) else ""
            while not await self.is_ready():
                await asyncio.sleep(0.05)

    async def is_ready(self) -> bool:
        with suppress(OSError):
            async with ClientSession() as client, client.get(self.url + "/health/ready") as got:
                return got.status == 200
        return False

    def workers(self) -> list[int]:
        pid = self.process.pid
        return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    async def chat(self, key: str = KEY, **fields: Any) -> tuple[int, bool, bytes]:
        headers = {"Authorization": f"Bearer {ADMIN_KEY}", "Idempotency-Key": key}
        headers["Content-Type"] = "application/json"
        body = msgspec.json.encode(question(**fields))
        async with (  # a connection of its own: any worker may take it
            ClientSession() as client,
            client.post(self.url + CHAT, data=body, headers=headers) as got,
        ):
            return got.status, "Idempotent-Replayed" in got.headers, await got.read()


@asynccontextmanager
async def serve(
    folder: Path, upstream: MockUpstream, workers: int = 2, **settings: Any
) -> AsyncIterator[Process]:
    (folder / "provider-key").write_text("sk-upstream-test")
    upstreams = [
        {"name": "mock", "provider": "openai", "base_url": upstream.url,
         "key": {"file": str(folder / "provider-key")}}
    ]  # fmt: skip
    table = {
        "plugins": ["auth-keys", "idempotency", "openai"], "data_dir": str(folder / "data"),
        "upstreams": upstreams, "workers": workers, "models_refresh_s": 0, "drain_timeout_s": 2,
        "plugin": {"idempotency": settings},
    }  # fmt: skip
    (folder / "raven.toml").write_text(write_toml(table))
    with (folder / "stderr").open("ab") as errors:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "raven_proxy", "serve", "--config", str(folder / "raven.toml"),
            "--port", "0",
            stdout=asyncio.subprocess.PIPE, stderr=errors, env={**ENVIRONMENT, "RAVEN_ADMIN_KEY": ADMIN_KEY},
        )  # fmt: skip
    running = Process(process)
    try:
        await running.listen()
        yield running
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(15):
                await process.wait()
    finally:
        if process.returncode is None:
            pids = running.workers()
            process.kill()
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        await process.wait()


def scan(folder: Path) -> set[str]:
    """Name the needles that lie in plain in any file below `folder`."""
    data = b"".join(path.read_bytes() for path in (folder / "data").rglob("*") if path.is_file())
    assert b"idempotency" in data
    return {needle for needle in (PROMPT, SAID, KEY) if needle.encode() in data}


async def test_of_many_in_two_workers_one_goes_up(tmp_path: Path, upstream: MockUpstream) -> None:
    """The others are a 409 while it runs, and get its bytes afterwards, from whichever worker."""
    upstream.script(reply(SAID, delay_s=1.0))
    async with serve(tmp_path, upstream) as running:
        async with asyncio.timeout(20):
            while len(running.workers()) < 2:
                await asyncio.sleep(0.05)
        answers = await asyncio.gather(*(running.chat() for _ in range(30)))
        assert sorted(status for status, _, _ in answers) == [200] + [409] * 29
        body = next(body for status, _, body in answers if status == 200)
        again = await asyncio.gather(*(running.chat() for _ in range(30)))
        assert set(again) == {(200, True, body)}
    assert len(upstream.seen) == 1


async def test_a_reply_outlives_a_restart_and_nothing_lies_in_plain(
    tmp_path: Path, upstream: MockUpstream
) -> None:
    """Whole and streamed; neither prompt nor reply nor key is readable on the disk at any time."""
    upstream.script(reply(SAID), stream(SAID))
    ask = {"messages": [{"role": "user", "content": PROMPT}]}
    async with serve(tmp_path, upstream, workers=1) as running:
        first = [await running.chat(**ask), await running.chat("streamed", stream=True, **ask)]
        assert [(status, again) for status, again, _ in first] == [(200, False)] * 2
        assert SAID.encode() in first[1][2]
        assert scan(tmp_path) == set()
    assert scan(tmp_path) == set()
    async with serve(tmp_path, upstream, workers=1) as running:
        second = [await running.chat(**ask), await running.chat("streamed", stream=True, **ask)]
    assert second == [(200, True, body) for _, _, body in first]
    assert len(upstream.seen) == 2
    log = (tmp_path / "stderr").read_text()
    assert not any(needle in log for needle in (PROMPT, SAID, KEY))


async def test_a_worker_that_is_killed_blocks_its_keys_for_a_lease_only(
    tmp_path: Path, upstream: MockUpstream
) -> None:
    """409 until the lease is over, though nobody lives to give it back; then the request runs."""
    upstream.script(reply(delay_s=30))
    async with serve(tmp_path, upstream, workers=1, lease_s=5) as running:
        lost = asyncio.ensure_future(running.chat())  # noqa: TID251
        await upstream.wait_until(lambda: upstream.seen, timeout_s=10)
        running.process.kill()
        await running.process.wait()
        await asyncio.gather(lost, return_exceptions=True)
        async with serve(tmp_path, upstream, workers=1, lease_s=5) as other:
            statuses = []
            async with asyncio.timeout(20):
                while not statuses or statuses[-1] == 409:
                    statuses.append((await other.chat())[0])
                    await asyncio.sleep(0.1)
            assert statuses[0] == 409
            assert statuses[-1] == 200
            assert len(upstream.seen) == 2
            assert (await other.chat())[1]


async def test_two_gateways_on_one_folder_answer_for_each_other(
    start: Any, upstream: MockUpstream, tmp_path: Path
) -> None:
    """What one of them keeps the other gives again, and what runs in one is a conflict in the other."""
    here, there = [await start(config={"data_dir": str(tmp_path / "shared")}) for _ in range(2)]
    upstream.script(reply(SAID, delay_s=0.4))
    running = asyncio.ensure_future(here.chat())  # noqa: TID251
    await upstream.wait_until(lambda: upstream.seen)
    assert (await there.chat()).status == 409
    assert (await there.chat(temperature=0)).error["code"] == "idempotency_key_reused"
    first = await running
    async with asyncio.timeout(2):
        while (again := await there.chat()).status == 409:
            await asyncio.sleep(0.01)
    assert (again.replayed, again.body) == (True, first.body)
    assert len(upstream.seen) == 1
