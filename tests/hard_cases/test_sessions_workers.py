"""T55, T139: a session begins and ends in every worker process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from raven_proxy.harness import ADMIN_KEY
from raven_proxy.mock import MockUpstream

from .running import Process, serve, write_config

PASSWORD = "a raven on a wire"
KEY = {"Authorization": f"Bearer {ADMIN_KEY}"}


def request(method: str, path: str, body: Any = None, **headers: str) -> bytes:
    data = b"" if body is None else msgspec.json.encode(body)
    if body is not None:
        headers |= {"Content-Type": "application/json", "Content-Length": str(len(data))}
    lines = [f"{method} {path} HTTP/1.1", "Host: a", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + data


async def sign_in(gateway: Process, email: str) -> dict[str, str]:
    """Sign in; give the headers of a page that is."""
    reply = await gateway.ask(request("POST", "/auth/login", {"email": email, "password": PASSWORD}))
    assert reply.status == 200, reply.body
    cookie = reply.headers["set-cookie"].partition(";")[0]
    return {"Cookie": cookie, "Origin": "http://a", "X-CSRF-Token": reply.json()["csrfToken"]}


async def until_all(gateway: Process, pids: list[int], raw: bytes, status: int) -> None:
    """Wait until every worker answers so, and see that each does from then on."""
    async with asyncio.timeout(10):
        while await gateway.each_worker(pids, raw) != [status] * len(pids):
            await asyncio.sleep(0.05)
    assert await gateway.each_worker(pids, raw) == [status] * len(pids)


async def test_a_session_begins_and_ends_in_every_worker(tmp_path: Path, upstream: MockUpstream) -> None:
    """It is good in each at once; a logout, a password, switching off and deleting end it in each."""
    accounts = {"argon2_memory_kib": 19_456}
    config = write_config(
        tmp_path, upstream, plugins=["auth-keys", "accounts", "openai"], plugin={"accounts": accounts}
    )
    async with serve(config, "--workers", "2") as gateway:
        pids = await gateway.two_workers()
        members = "/orgs/org_default/members"
        new = {"email": "ann@example.com", "role": "admin", "password": PASSWORD}
        made = (await gateway.ask(request("POST", members, new, **KEY))).json()
        path = f"{members}/{made['id']}"
        key = (
            await gateway.ask(request("POST", "/keys", {"name": "k", "memberId": made["id"]}, **KEY))
        ).json()
        of_ann = request("GET", "/v1/models", Authorization=f"Bearer {key['key']}")
        await until_all(gateway, pids, of_ann, 200)

        ends: list[Callable[[dict[str, str]], bytes]] = [
            lambda page: request("POST", "/auth/logout", **page),
            lambda page: request("PATCH", path, {"password": PASSWORD + "!"}, **KEY),
            lambda page: request("PATCH", path, {"password": PASSWORD, "isActive": False}, **KEY),
            lambda page: request("DELETE", path, **KEY),
        ]
        for number, end in enumerate(ends):
            if number == 2:
                await gateway.ask(request("PATCH", path, {"password": PASSWORD}, **KEY))
            if number == 3:
                await gateway.ask(request("PATCH", path, {"isActive": True}, **KEY))
            page = await sign_in(gateway, "ann@example.com")
            me = request("GET", "/auth/me", **page)
            assert await gateway.each_worker(pids, me) == [200, 200]  # also in the one that did not make it
            assert (await gateway.ask(end(page))).status == 200
            await until_all(gateway, pids, me, 401)
            if number >= 2:
                await until_all(gateway, pids, of_ann, 401)
        assert PASSWORD not in gateway.errors()
        assert "Traceback" not in gateway.errors()


async def test_what_an_answer_says_holds_in_every_worker(tmp_path: Path, upstream: MockUpstream) -> None:
    """A key that was just made or just ended, and an organisation that is new: nobody has to try twice."""
    config = write_config(tmp_path, upstream, plugins=["auth-keys", "accounts", "openai"])
    async with serve(config, "--workers", "2") as gateway:
        pids = await gateway.two_workers()

        async def manage(method: str, path: str, body: Any = None) -> Any:
            reply = await gateway.ask(request(method, path, body, **KEY))
            assert reply.status < 300, reply.body
            return reply.json()

        for number in range(5):
            key = await manage("POST", "/keys", {"name": "k"})
            with_it = request("GET", "/v1/models", Authorization=f"Bearer {key['key']}")
            assert await gateway.each_worker(pids, with_it) == [200, 200]
            await manage("DELETE", f"/keys/{key['id']}")
            assert await gateway.each_worker(pids, with_it) == [401, 401]
            made = await manage("POST", "/orgs", {"name": f"Team {number}"})
            for_it = request("GET", "/keys", X_Org_Id=made["id"], **KEY)
            assert await gateway.each_worker(pids, for_it) == [200, 200]
