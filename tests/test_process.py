"""The process: what it prints, which signals it obeys, which sockets it takes over."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import shutil
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import ClientSession  # noqa: TID251 - the client's side of a test

ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith(("RAVEN_", "LISTEN_"))}
QUESTION = {"model": "demo/chat", "messages": [{"role": "user", "content": "Hello!"}]}


class Running:
    """A gateway in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.greeting = ""
        self.url = ""
        self.key = ""

    async def read_greeting(self) -> None:
        assert self.process.stdout is not None
        while not self.greeting.endswith(("to see it stream.\n\n", "makes another.\n")):
            line = await asyncio.wait_for(self.process.stdout.readline(), 15)
            assert line, "it ended: " + await self.read_log()
            self.greeting += line.decode()
        self.url = re.search(r"listening on (\S+)", self.greeting)[1]  # type: ignore[index]
        found = re.search(r"^  (rk_\S+)$", self.greeting, re.MULTILINE)
        self.key = found[1] if found else ""

    async def read_log(self) -> str:
        assert self.process.stderr is not None
        return (await self.process.stderr.read()).decode()

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    async def ask(self, key: str | None = None, **extra: Any) -> int:
        async with (
            ClientSession(headers={"Authorization": f"Bearer {key or self.key}"}) as client,
            client.post(f"{self.url}/v1/chat/completions", data=msgspec.json.encode(QUESTION | extra),
                        headers={"Content-Type": "application/json"}) as reply,
        ):  # fmt: skip
            await reply.read()
            return reply.status


@asynccontextmanager
async def serve(
    folder: Path, *options: str, env: dict[str, str] | None = None, **spawn: Any
) -> AsyncIterator[Running]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "raven_proxy", "serve", "--data-dir", str(folder / "data"), *options,
        cwd=folder, env={**ENVIRONMENT, **(env or {})}, stdout=-1, stderr=-1, **spawn,
    )  # fmt: skip
    running = Running(process)
    try:
        await running.read_greeting()
        yield running
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


def write_config(folder: Path, **extra: str) -> str:
    path = folder / "raven.toml"
    table = {"plugins": '["auth-keys", "openai", "demo"]', **extra}
    path.write_text("".join(f"{key} = {value}\n" for key, value in table.items()))
    return str(path)


async def test_the_printed_curl_answers_as_it_stands(tmp_path: Path) -> None:
    began = time.monotonic()
    async with serve(tmp_path, "--port", "0") as running:
        assert time.monotonic() - began < 10
        command = running.greeting.partition("Try it:\n\n")[2].partition("\n\nAdd")[0].replace("\\\n", " ")
        words = shlex.split(command)
        assert words[0] == "curl"
        headers = dict(word.split(": ") for flag, word in pairwise(words) if flag == "-H")
        body = words[words.index("-d") + 1]
        async with ClientSession() as client, client.post(words[1], data=body, headers=headers) as reply:
            assert reply.status == 200
            answer = msgspec.json.decode(await reply.read())
        assert answer["choices"][0]["message"]["content"]
        assert await running.ask(stream=True) == 200


async def run_in_shell(command: str) -> tuple[int, Any]:
    """Run a printed curl line; give the status, and what was answered."""
    if not shutil.which("curl"):
        pytest.fail("curl is not installed") if os.environ.get("CI") else pytest.skip("curl is not installed")
    script = command.strip() + " -sS -w '\\n%{http_code}'"
    process = await asyncio.create_subprocess_exec("sh", "-c", script, stdout=-1, stderr=-1)
    said, errors = await process.communicate()
    assert process.returncode == 0, errors
    answer, _, status = said.decode().rpartition("\n")
    return int(status), msgspec.json.decode(answer)


async def test_the_printed_set_up_works_as_it_stands_and_says_what_then(tmp_path: Path) -> None:
    """It comes after the key, and makes an owner; sent again it names the command that makes another."""
    async with serve(tmp_path, "--port", "0") as running:
        assert running.process.stdout is not None
        text = (await asyncio.wait_for(running.process.stdout.readuntil(b"}'\n"), 15)).decode()
        command = text[text.index("  curl ") :]
        assert (await run_in_shell(command))[0] == 201
        token = re.search(r"rk_setup_[\w-]+", command)[0]  # type: ignore[index]
        for credential, status in ((token, 401), (running.key, 409)):
            again, answer = await run_in_shell(command.replace(token, credential))
            assert (again, "raven-proxy members add" in answer["error"]["message"]) == (status, True)
            assert "--operator" in answer["error"]["message"]


def has_ipv6() -> bool:
    """Say whether this machine can listen on ::1; many containers cannot."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
async def test_an_ipv6_address_is_printed_as_it_is_typed(tmp_path: Path) -> None:
    config = write_config(tmp_path)
    async with serve(tmp_path, "--host", "::1", "--port", "0", "--config", config) as running:
        assert running.url.startswith("http://[::1]:")
        assert await running.ask() == 200


async def test_the_key_is_shown_once_and_works_after_a_restart(tmp_path: Path) -> None:
    config = write_config(tmp_path)
    async with serve(tmp_path, "--port", "0", "--config", config) as first:
        assert first.key.startswith("rk_")
        first.signal(signal.SIGTERM)
        assert await asyncio.wait_for(first.process.wait(), 10) == 0
        assert first.key not in await first.read_log()
    async with serve(tmp_path, "--port", "0", "--config", config) as second:
        assert second.key == ""
        assert "was shown at the first start" in second.greeting
        command = re.search("`raven-proxy (.*)`", second.greeting)[1]  # type: ignore[index]
        made = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "raven_proxy", *command.split(), "--data-dir", str(tmp_path / "data"),
            env=ENVIRONMENT, stdout=-1,
        )  # fmt: skip
        assert b"admin:write" in (await made.communicate())[0]
        assert await second.ask(first.key) == 200


async def test_the_environment_may_bring_the_key(tmp_path: Path) -> None:
    key = "rk_live_" + "k7Q2vX9m" * 5
    async with serve(
        tmp_path, "--port", "0", "--config", write_config(tmp_path), env={"RAVEN_ADMIN_KEY": key}
    ) as running:
        assert "is the one in RAVEN_ADMIN_KEY" in running.greeting
        assert key not in running.greeting
        assert await running.ask(key) == 200
        assert await running.ask("rk_live_other") == 401


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_finishes_what_is_in_flight_and_exits_with_0(tmp_path: Path, number: int) -> None:
    async with serve(tmp_path, "--port", "0", "--config", write_config(tmp_path)) as running:
        stream = asyncio.get_running_loop().create_task(running.ask(stream=True))
        await asyncio.sleep(0.2)
        running.signal(number)
        assert await asyncio.wait_for(running.process.wait(), 15) == 0
        assert await stream == 200


async def test_a_second_signal_means_now(tmp_path: Path) -> None:
    config = write_config(tmp_path, drain_timeout_s="60")
    plugin = tmp_path / "mine"
    plugin.mkdir()
    (plugin / "slow.py").write_text(
        "import asyncio\nfrom raven_proxy import hookimpl\n"
        "@hookimpl\nasync def check_request(exchange):\n    await asyncio.sleep(9)\n"
    )
    async with serve(tmp_path, "--port", "0", "--config", config, "--plugins-dir", str(plugin)) as running:
        task = asyncio.get_running_loop().create_task(running.ask())
        await asyncio.sleep(0.3)
        running.signal(signal.SIGTERM)
        await asyncio.sleep(0.3)
        assert running.process.returncode is None
        running.signal(signal.SIGTERM)
        assert await asyncio.wait_for(running.process.wait(), 3) == 130
        with pytest.raises(Exception, match=r"disconnected|reset|closed"):
            await task


async def test_sighup_reloads_and_a_broken_config_leaves_the_old_one_serving(tmp_path: Path) -> None:
    config = write_config(tmp_path)
    alias = '[[models]]\nname = "mine"\ntarget = "demo/chat"\n'
    async with serve(tmp_path, "--port", "0", "--config", config) as running:
        assert await running.ask(model="mine") == 400
        Path(config).write_text(Path(config).read_text() + alias)
        running.signal(signal.SIGHUP)
        for _ in range(50):
            await asyncio.sleep(0.1)
            if await running.ask(model="mine") == 200:
                break
        else:
            pytest.fail("the new config is not in force")
        Path(config).write_text("plugins = [\n")
        running.signal(signal.SIGHUP)
        await asyncio.sleep(0.3)
        assert await running.ask(model="mine") == 200
        running.signal(signal.SIGTERM)
        assert await asyncio.wait_for(running.process.wait(), 10) == 0
        events = [msgspec.json.decode(line) for line in (await running.read_log()).splitlines()]
        assert [e["event"] for e in events if "reload" in e["event"]] == [
            "reloaded",
            "reload failed; the old configuration goes on",
        ]
        assert "not valid TOML" in next(e["reason"] for e in events if "reason" in e)


async def test_a_socket_of_systemd_is_taken_over(tmp_path: Path) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        port = sock.getsockname()[1]
        started = (
            "import os, sys; os.dup2(int(sys.argv[1]), 3);"
            "os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()));"
            "os.execv(sys.executable, [sys.executable, '-m', 'raven_proxy', 'serve', *sys.argv[2:]])"
        )
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", started, str(sock.fileno()), "--config", write_config(tmp_path),
            "--data-dir", str(tmp_path / "data"),
            pass_fds=[sock.fileno()], cwd=tmp_path, env=ENVIRONMENT, stdout=-1, stderr=-1,
        )  # fmt: skip
        running = Running(process)
        try:
            await running.read_greeting()
            assert running.url == f"http://127.0.0.1:{port}"
            assert await running.ask() == 200
            process.terminate()
            assert await asyncio.wait_for(process.wait(), 10) == 0
        finally:
            if process.returncode is None:
                process.kill()
            await process.communicate()


async def test_workers_share_the_port_and_one_that_dies_is_replaced(tmp_path: Path) -> None:
    async with serve(
        tmp_path, "--port", "0", "--workers", "2", "--config", write_config(tmp_path)
    ) as running:
        children = Path(f"/proc/{running.process.pid}/task/{running.process.pid}/children")

        async def workers(count: int, without: int = 0) -> list[int]:
            for _ in range(100):
                pids = [int(pid) for pid in children.read_text().split()]
                if len(pids) == count and without not in pids:
                    return pids
                await asyncio.sleep(0.1)
            raise AssertionError(f"{pids} are not {count} workers")

        async def answers() -> None:
            for _ in range(100):
                try:
                    if await running.ask() == 200:
                        return
                except OSError:
                    pass
                await asyncio.sleep(0.1)
            raise AssertionError("no worker answers")

        first, _ = await workers(2)
        await answers()
        os.kill(first, signal.SIGKILL)
        await workers(2, without=first)
        await answers()
        running.signal(signal.SIGTERM)
        assert await asyncio.wait_for(running.process.wait(), 15) == 0


@pytest.mark.parametrize(
    ("options", "env", "words"),
    [
        (["--port", "BUSY"], {}, "Address already in use; end what listens there, or choose another --port"),
        (["--host", "no-such-host.invalid"], {}, "listen: no-such-host.invalid:4000: "),
        (["--config", "none.toml"], {}, "none.toml: cannot be read"),
        (["--data-dir", "/proc/none", "--port", "0"], {}, "/proc/none"),
        (["--host", "0.0.0.0", "--port", "0"], {"RAVEN_SECRET": "changeme"}, "RAVEN_SECRET is too weak"),
    ],
)
async def test_what_stops_the_start_is_one_line(
    tmp_path: Path, options: list[str], env: dict[str, str], words: str
) -> None:
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        arguments = [str(busy.getsockname()[1]) if o == "BUSY" else o for o in options]
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "raven_proxy",
            "serve",
            *arguments,
            cwd=tmp_path,
            env={**ENVIRONMENT, **env},
            stdout=-1,
            stderr=-1,
        )
        out, err = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 1
    assert words in err.decode()
    assert err.decode().startswith("raven-proxy: ")
    assert err.decode().count("\n") == 1
    assert out == b""
