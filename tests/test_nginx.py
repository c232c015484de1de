"""Behind a real nginx, with `config/nginx.conf` as it is but for ports, names and certificates."""

from __future__ import annotations

import asyncio
import io
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import ClientSession, DummyCookieJar, TCPConnector  # noqa: TID251 - the client's side of a test

from raven_proxy import Exchange, hookimpl
from raven_proxy.harness import ADMIN_KEY, GatewayStarter
from raven_proxy.mock import MockUpstream, ScriptedReply

CONF = Path(__file__).parents[1] / "config" / "nginx.conf"
TRUST = {"trusted_proxies": ["127.0.0.1/32"]}
SSE = {"Content-Type": "text/event-stream"}
MAIN = """
daemon off; master_process off; worker_processes 1; pid {folder}/nginx.pid; error_log stderr warn;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  include {folder}/raven-proxy.conf;
}}
"""


def chat(**extra: Any) -> dict[str, Any]:
    return {"model": "mock/any", "messages": [{"role": "user", "content": "hi"}], **extra}


class Nginx:
    """A running nginx and a client that talks to it."""

    def __init__(self, url: str, client: ClientSession, trust: ssl.SSLContext) -> None:
        self.url, self.client, self.trust = url, client, trust

    async def ask(self, body: dict[str, Any], **options: Any) -> tuple[int, bytes]:
        async with self.client.post("/v1/chat/completions", json=body, **options) as reply:
            return reply.status, await reply.read()


def find(program: str) -> str:
    """Find a program; in CI its absence is a failure, elsewhere a reason to skip."""
    found = shutil.which(program, path=f"{os.environ.get('PATH', '')}{os.pathsep}/usr/sbin")
    if found is None:
        reason = f"{program} is not installed"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A throw-away certificate for 127.0.0.1, in cert.pem and key.pem."""
    folder = tmp_path_factory.mktemp("tls")
    make = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=x -addext subjectAltName=IP:127.0.0.1"
    subprocess.run(
        [find("openssl"), *make.split(), "-keyout", "key.pem", "-out", "cert.pem"],
        check=True,
        capture_output=True,
        cwd=folder,
    )
    return folder


def configure(folder: Path, certificate: Path, port: int, gateway_port: int) -> Path:
    """Write `config/nginx.conf` for this machine, and a main file that includes it."""
    text = CONF.read_text()
    for old, new in (
        ("server 127.0.0.1:4000 ", f"server 127.0.0.1:{gateway_port} "),
        ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
        ("    listen [::]:443 ssl http2;\n", ""),
        ("/etc/letsencrypt/live/llm.example/fullchain.pem", str(certificate / "cert.pem")),
        ("/etc/letsencrypt/live/llm.example/privkey.pem", str(certificate / "key.pem")),
    ):
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    (folder / "raven-proxy.conf").write_text(text)
    main = folder / "nginx.conf"
    main.write_text(MAIN.format(folder=folder))
    return main


Start = Callable[[str], Awaitable[Nginx]]


@pytest.fixture
async def nginx(tmp_path: Path, certificate: Path, unused_tcp_port: int) -> AsyncIterator[Start]:
    """Start nginx in front of a gateway's URL."""
    processes: list[asyncio.subprocess.Process] = []
    clients: list[ClientSession] = []
    program = find("nginx")

    async def start(gateway_url: str) -> Nginx:
        folder = tmp_path / "nginx"
        folder.mkdir()
        main = configure(folder, certificate, unused_tcp_port, int(gateway_url.rpartition(":")[2]))
        processes.append(
            await asyncio.create_subprocess_exec(
                program, "-p", str(folder), "-c", str(main), stderr=asyncio.subprocess.PIPE
            )
        )
        trust = ssl.create_default_context(cafile=str(certificate / "cert.pem"))
        clients.append(
            ClientSession(
                f"https://127.0.0.1:{unused_tcp_port}",
                connector=TCPConnector(ssl=trust, limit=0),
                headers={"Authorization": f"Bearer {ADMIN_KEY}"},
                json_serialize=lambda value: msgspec.json.encode(value).decode(),
            )
        )
        for _ in range(200):
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", unused_tcp_port)
            except OSError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                await writer.wait_closed()
                break
        return Nginx(f"https://127.0.0.1:{unused_tcp_port}", clients[0], trust)

    yield start
    for client in clients:
        await client.close()
    for process in processes:
        process.terminate()
        _, errors = await process.communicate()
        assert b"[emerg]" not in errors, errors.decode()


async def test_a_stream_is_not_held_back(raven: GatewayStarter, upstream: MockUpstream, nginx: Start) -> None:
    gateway = await raven(upstreams=[upstream], config=TRUST)
    front = await nginx(gateway.url)
    events = [b'data: {"n":%d}\n\n' % n for n in range(3)]
    upstream.script(
        ScriptedReply(
            chunks=[events[0], 0.3, events[1], 0.3, events[2], 0.1, b"data: [DONE]\n\n"], headers=SSE
        )
    )
    async with front.client.post(
        "/v1/chat/completions", json=chat(stream=True, stream_options={"include_usage": True})
    ) as reply:
        for event in events:
            async with asyncio.timeout(5):
                assert await reply.content.readany() == event
            if event is not events[2]:
                assert upstream.seen[0].ended_at is None  # the last one is not even sent
        assert await reply.content.read() == b"data: [DONE]\n\n"


async def test_a_body_of_20_mb_arrives(raven: GatewayStarter, upstream: MockUpstream, nginx: Start) -> None:
    gateway = await raven(upstreams=[upstream])
    front = await nginx(gateway.url)
    upstream.reply(json={"ok": True})
    for size, expected in ((20_000_000, 200), (40_000_000, 413)):
        body = msgspec.json.encode(chat(padding="x" * size))
        headers = {"Content-Type": "application/json"}
        async with front.client.post("/v1/chat/completions", data=io.BytesIO(body), headers=headers) as reply:
            assert reply.status == expected
    (seen,) = upstream.seen
    assert seen.body == msgspec.json.encode(chat(padding="x" * 20_000_000)).replace(b"mock/any", b"any")


async def test_the_clients_address_comes_through_and_cannot_be_forged(
    raven: GatewayStarter, nginx: Start, certificate: Path
) -> None:
    addresses: list[str] = []

    class Look:
        @hookimpl
        async def check_request(self, exchange: Exchange) -> None:
            addresses.append(exchange.client_address)

    gateway = await raven([Look], config=TRUST)
    front = await nginx(gateway.url)
    connector = TCPConnector(ssl=front.trust, local_addr=("127.0.0.2", 0))
    async with ClientSession(
        front.url, connector=connector, headers={"Authorization": f"Bearer {ADMIN_KEY}"}
    ) as client:
        for forged in (
            {},
            {"X-Forwarded-For": "8.8.8.8"},
            {"X-Forwarded-For": "127.0.0.1"},
            {"X-Real-IP": "8.8.8.8"},
        ):
            async with client.get("/v1/models", headers=forged) as reply:
                assert reply.status == 200
    assert addresses == ["127.0.0.2"] * 4


async def test_a_session_is_one_of_https(raven: GatewayStarter, nginx: Start) -> None:
    """Its cookie is Secure; a page of this origin, port included, may change something, another may not."""
    cheap = {"accounts": {"argon2_memory_kib": 19_456}}
    gateway = await raven(base=("auth-keys", "accounts"), config=TRUST | {"plugin": cheap})
    front = await nginx(gateway.url)
    owner = {"email": "olga@example.com", "password": "a raven on a wire"}
    async with front.client.post("/auth/setup", json=owner) as reply:
        assert reply.status == 201
        cookie, token = reply.headers["Set-Cookie"], (await reply.json())["csrfToken"]
    assert "; Secure" in cookie
    page = {"Cookie": cookie.partition(";")[0], "X-CSRF-Token": token}
    foreign = ("http" + front.url.removeprefix("https"), front.url.rpartition(":")[0], "https://127.0.0.1:1")
    connector = TCPConnector(ssl=front.trust)
    async with ClientSession(connector=connector, cookie_jar=DummyCookieJar()) as client:
        for origin, status in ((front.url, 201), *((one, 403) for one in foreign)):
            headers = page | {"Origin": origin}
            async with client.post(f"{front.url}/keys", json={"name": "k"}, headers=headers) as reply:
                assert reply.status == status, origin


async def test_connections_to_the_gateway_are_kept(
    raven: GatewayStarter, upstream: MockUpstream, nginx: Start
) -> None:
    gateway = await raven(upstreams=[upstream])
    front = await nginx(gateway.url)
    for number in range(20):
        assert (await front.ask(chat(stream=number % 2 == 0)))[0] == 200
    server: Any = gateway.service._server
    assert len(server.connections) == 1
    assert upstream.connections_opened == 1


async def test_an_error_keeps_its_shape(raven: GatewayStarter, nginx: Start) -> None:
    gateway = await raven()
    front = await nginx(gateway.url)
    async with front.client.post(
        "/v1/chat/completions", json={}, headers={"Authorization": "Bearer nobody"}
    ) as reply:
        error = msgspec.json.decode(await reply.read())["error"]
        assert (reply.status, error["request_id"]) == (401, reply.headers["X-Request-ID"])


async def test_who_leaves_nginx_leaves_the_provider(
    raven: GatewayStarter, upstream: MockUpstream, nginx: Start
) -> None:
    gateway = await raven(upstreams=[upstream])
    front = await nginx(gateway.url)
    upstream.script(ScriptedReply(chunks=[b"data: {}\n\n", 60], headers=SSE))
    async with front.client.post("/v1/chat/completions", json=chat(stream=True)) as reply:
        await reply.content.readany()
        assert reply.connection is not None
        assert reply.connection.transport is not None
        reply.connection.transport.abort()
    await upstream.wait_until(lambda: upstream.connections == 0)


class Load:
    """Clients that ask without a pause, until they are told to stop."""

    def __init__(
        self,
        ask: Callable[[dict[str, Any]], Awaitable[tuple[int, bytes]]],
        body: dict[str, Any],
        clients: int = 6,
    ) -> None:
        self.statuses: list[int] = []
        self._ask, self._body = ask, body
        self._running = True
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._run(number)) for number in range(clients)]

    async def _run(self, number: int) -> None:
        while self._running:
            status, body = await self._ask({**self._body, "stream": number % 2 == 0})
            assert status != 200 or number % 2 or body.endswith(b"data: [DONE]\n\n")
            self.statuses.append(status)

    async def stop(self) -> None:
        self._running = False
        await asyncio.gather(*self._tasks)


async def test_under_load_a_reload_loses_no_request(
    raven: GatewayStarter, upstream: MockUpstream, nginx: Start
) -> None:
    gateway = await raven(upstreams=[upstream])
    front = await nginx(gateway.url)
    load = Load(front.ask, chat())
    for number in range(6):
        await asyncio.sleep(0.1)
        await gateway.reload({"keepalive_s": number})
    await load.stop()
    assert len(load.statuses) > 50
    assert set(load.statuses) == {200}


async def test_under_load_a_new_binary_takes_over_the_socket_without_a_lost_request(
    tmp_path: Path, nginx: Start
) -> None:
    key = "rk_live_" + "k7Q2vX9m" * 5
    (tmp_path / "raven.toml").write_text(
        'plugins = ["auth-keys", "openai", "demo"]\naccess_log = false\n[plugin.demo]\ndelay_s = 0.001\n'
    )
    started = (
        "import os, sys; os.dup2(int(sys.argv[1]), 3);"
        "os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()));"
        "os.execv(sys.executable, [sys.executable, '-m', 'raven_proxy', 'serve', *sys.argv[2:]])"
    )
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith("RAVEN_")},
        "RAVEN_ADMIN_KEY": key,
    }

    async def start(sock: socket.socket) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", started, str(sock.fileno()), "--config", "raven.toml", "--data-dir", "data",
            pass_fds=[sock.fileno()], cwd=tmp_path, env=environment, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert process.stdout is not None
        assert re.search(rb"listening", await asyncio.wait_for(process.stdout.readline(), 15))
        return process

    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen(4096)
        processes = [await start(sock)]
        front = await nginx(f"http://127.0.0.1:{sock.getsockname()[1]}")
        front.client.headers["Authorization"] = f"Bearer {key}"
        load = Load(front.ask, {"model": "demo/chat", "messages": [{"role": "user", "content": "hi"}]})
        try:
            for _ in range(2):
                await asyncio.sleep(0.4)
                processes[-1].terminate()
                assert await asyncio.wait_for(processes[-1].wait(), 20) == 0
                processes.append(await start(sock))
            await asyncio.sleep(0.3)
        finally:
            await load.stop()
            for process in processes:
                if process.returncode is None:
                    process.kill()
                await process.communicate()
    assert len(load.statuses) > 50
    assert set(load.statuses) == {200}
