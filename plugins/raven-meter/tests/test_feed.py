"""`GET /logs/stream`: every exchange once, only the caller's, and not a moment longer than allowed."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from raven_meter import feed as feed_module
from raven_meter.exchanges import RowIds

from raven_proxy import Exchange, Principal, hookimpl
from raven_proxy.harness import ADMINISTRATOR
from raven_proxy.mock import MockUpstream, ScriptedReply
from raven_proxy.organizations import Organization
from raven_proxy.sse import EventReader

CHAT = {"model": "mock/m", "messages": [{"role": "user", "content": "a word that no log has"}]}
ONLY_CHAT = "/logs/stream?face=openai-chat"
PATIENCE_S = 10.0


class Listener:
    """One connection to the feed."""

    def __init__(self, reply: Any) -> None:
        self.reply = reply
        self.last_id = ""
        self.raw = b""
        self._reader = EventReader()
        self._rows: list[Any] = []

    async def next(self) -> Any:
        """Wait for the next row; None at the end of the stream."""
        async with asyncio.timeout(PATIENCE_S):
            while not self._rows:
                if not await self._read():
                    return None
        self.last_id, row = self._rows.pop(0)
        return row

    async def opened(self) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not self.last_id:
                assert await self._read()

    async def _read(self) -> bool:
        data = await self.reply.content.readany()
        self.raw += data
        for event in self._reader.feed(data):
            name = (event.id or b"").decode()
            if event.data is not None:
                self._rows.append((name, msgspec.json.decode(event.data)))
            elif name and not self._rows:
                self.last_id = name
        return bool(data)


@asynccontextmanager
async def listening(
    gateway: Any, path: str = ONLY_CHAT, headers: Mapping[str, str] | None = None
) -> AsyncIterator[Listener]:
    async with gateway.client.get(path, headers=headers) as reply:
        assert reply.status == 200, await reply.text()
        assert reply.content_type == "text/event-stream"
        listener = Listener(reply)
        await listener.opened()
        yield listener


async def chat(gateway: Any, **fields: Any) -> str:
    async with gateway.client.post("/v1/chat/completions", json=CHAT | fields) as reply:
        await reply.read()
        return str(reply.headers["X-Request-ID"])


@pytest.fixture
async def gateway(raven: Any, upstream: MockUpstream) -> Any:
    return await raven(base=("meter", "openai"), upstreams=[upstream])


async def test_an_exchange_is_told_as_it_ends(gateway: Any, upstream: MockUpstream) -> None:
    """In the shape of /logs, failed ones too; what was before, and prompts, are not told."""
    await chat(gateway)
    async with listening(gateway) as listener:
        name = await chat(gateway)
        row = await listener.next()
        assert row["requestId"] == name
        async with gateway.client.get(f"/logs/{row['id']}") as reply:
            assert await reply.json() == row
        upstream.script(ScriptedReply.of_json({"error": {"message": "no"}}, status=400))
        await chat(gateway)
        assert (await listener.next())["outcome"] == "upstream_error"
        assert b"a word that no log has" not in listener.raw


async def test_who_comes_back_misses_nothing(gateway: Any) -> None:
    """`Last-Event-ID` goes on where it was: after each event, and where none had come yet."""
    made, got, last = [], [], ""
    for _ in range(4):
        async with listening(gateway, headers={"Last-Event-ID": last} if last else None) as listener:
            if last:
                got += [(await listener.next())["requestId"] for _ in range(2)]
            last = listener.last_id
        made += [await chat(gateway) for _ in range(3)]
    async with listening(gateway, headers={"Last-Event-ID": last}) as listener:
        while len(got) < len(made):
            got.append((await listener.next())["requestId"])
    assert got == made


async def test_a_strange_id_is_refused(gateway: Any) -> None:
    async with gateway.client.get("/logs/stream", headers={"Last-Event-ID": "../etc"}) as reply:
        assert reply.status == 400
        assert (await reply.json())["error"]["param"] == "Last-Event-ID"
    async with gateway.client.head("/logs/stream") as reply:
        assert reply.status == 200


async def test_filters_are_those_of_the_list(gateway: Any, upstream: MockUpstream) -> None:
    async with listening(gateway, ONLY_CHAT + "&status=400&model=mock/other") as listener:
        await chat(gateway)
        upstream.script(ScriptedReply.of_json({"error": {"message": "no"}}, status=400))
        wanted = await chat(gateway, model="mock/other")
        await chat(gateway, model="mock/other")
        assert (await listener.next())["requestId"] == wanted
        assert listener.raw.count(b"data:") == 1


async def test_a_late_row_is_told(gateway: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process's row that comes to the database after younger ones, and one page is not all."""
    monkeypatch.setattr(feed_module, "_PAGE", 2)
    monkeypatch.setattr(feed_module, "_FAR_EVERY_S", 0.3)
    async with listening(gateway) as listener:
        other = RowIds(77)
        late = [other.next() for _ in range(3)]
        made = [await chat(gateway) for _ in range(5)]
        assert [(await listener.next())["requestId"] for _ in made] == made
        await gateway.gateway.storage.flush()
        template = await gateway.gateway.storage.fetch_one(
            "SELECT * FROM exchanges WHERE face = 'openai-chat'"
        )
        for number, row_id in enumerate(late):
            row = template | {"id": row_id, "request_id": f"req_late{number}"}
            columns = ", ".join(row)
            await gateway.gateway.storage.execute(
                f"INSERT INTO exchanges ({columns}) VALUES ({', '.join('?' * len(row))})", tuple(row.values())
            )
        assert [(await listener.next())["requestId"] for _ in late] == ["req_late0", "req_late1", "req_late2"]
        last = await chat(gateway)
        assert (await listener.next())["requestId"] == last


class People:
    """Whoever the test says, by the bearer token."""

    def __init__(self) -> None:
        self.known: dict[str, Principal] = {}

    @hookimpl(tryfirst=True)
    async def authenticate(self, exchange: Exchange) -> Principal | None:
        return self.known.get(exchange.headers.get("authorization", "").removeprefix("Bearer "))


def viewer(organization_id: str = "org_a", **fields: Any) -> Principal:
    scopes = ADMINISTRATOR.scopes
    return Principal(**{
        "key_id": f"key_{organization_id}", "organization_id": organization_id, "role": "viewer",
        "scopes": scopes, **fields,
    })  # fmt: skip


async def test_another_organisations_exchanges_are_not_told(raven: Any, upstream: MockUpstream) -> None:
    people = People()
    people.known = {"a": viewer("org_a"), "b": viewer("org_b")}
    gateway = await raven([people], base=("meter", "openai"), upstreams=[upstream])
    async with listening(gateway, headers={"Authorization": "Bearer b"}) as listener:
        await chat(gateway)
        for who in ("a", "b"):
            async with gateway.client.post(
                "/v1/chat/completions", json=CHAT, headers={"Authorization": f"Bearer {who}"}
            ) as reply:
                wanted = reply.headers["X-Request-ID"]
        assert (await listener.next())["requestId"] == wanted
        assert listener.raw.count(b"data:") == 1


@pytest.mark.parametrize(
    ("then", "status"),
    [
        (None, 401),
        (viewer(scopes=frozenset({"chat:write"})), 403),
        (viewer(role="nobody"), 403),
        (viewer("org_b"), 200),
    ],
    ids=["revoked", "scope", "role", "organisation"],
)
async def test_t147_who_may_no_longer_listen_is_cut_off(
    raven: Any, upstream: MockUpstream, then: Principal | None, status: int
) -> None:
    """At once, with nothing more told."""
    people = People()
    people.known = {"a": viewer()}
    gateway = await raven([people], base=("meter", "openai"), upstreams=[upstream])
    headers = {"Authorization": "Bearer a"}
    async with listening(gateway, headers=headers) as listener:
        people.known = {} if then is None else {"a": then}
        since = asyncio.get_running_loop().time()
        await chat(gateway)
        assert await listener.next() is None
        assert asyncio.get_running_loop().time() - since < 5.0  # 0.25 s where the machine is not busy
        assert b"data:" not in listener.raw
    async with gateway.client.get("/logs/stream", headers=headers) as reply:
        assert reply.status == status


async def test_an_organisation_that_is_switched_off_is_cut_off(raven: Any, upstream: MockUpstream) -> None:
    people = People()
    people.known = {"a": viewer()}
    gateway = await raven([people], base=("meter", "openai"), upstreams=[upstream])
    async with listening(gateway, headers={"Authorization": "Bearer a"}) as listener:
        off = Organization(id="org_a", is_active=False)
        gateway.gateway.organizations.replace({"org_a": off})
        assert await listener.next() is None


async def test_a_reload_and_a_drain_end_it(gateway: Any) -> None:
    """Cleanly, so that the listener comes back; the old plugins are let go of."""
    async with listening(gateway) as listener:
        old = gateway.gateway.pipeline
        await gateway.reload()
        assert await listener.next() is None
        while old.in_flight:
            await asyncio.sleep(0.01)
    async with listening(gateway, headers={"Last-Event-ID": listener.last_id}) as listener:
        name = await chat(gateway)
        assert (await listener.next())["requestId"] == name
        gateway.gateway.is_draining = True
        assert await listener.next() is None
        gateway.gateway.is_draining = False


async def test_silence_is_no_end(raven: Any, upstream: MockUpstream) -> None:
    """Comments keep it alive under a short `idle_timeout_s`; it ends before `total_timeout_s` cuts it."""
    config = {"idle_timeout_s": 0.6, "total_timeout_s": 4.0}
    gateway = await raven(base=("meter", "openai"), upstreams=[upstream], config=config)
    async with listening(gateway) as listener:
        assert await listener.next() is None
        assert listener.raw.count(b": keep-alive\nid: ") >= 2
        assert b"error" not in listener.raw


async def test_listeners_are_counted(gateway: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_module, "_MOST_LISTENERS", 1)
    async with listening(gateway), gateway.client.get("/logs/stream") as reply:
        assert reply.status == 503
        assert reply.headers["Retry-After"] == "1"
    while gateway.gateway.in_flight:
        await asyncio.sleep(0.01)
    async with listening(gateway):
        pass


async def test_one_key_and_one_organisation_take_nobody_elses_place(
    raven: Any, upstream: MockUpstream
) -> None:
    """What one asks for beyond its share is a 503 that says so, also if it all comes at once."""
    people = People()
    people.known = {who: viewer("org_a", key_id=f"key_{who}") for who in ("a1", "a2", "a3")}
    people.known["b"] = viewer("org_b")
    gateway = await raven([people], base=("meter", "openai"), upstreams=[upstream])
    async with AsyncExitStack() as open_ones:

        async def ask(who: str) -> tuple[int, str]:
            asked = gateway.client.get("/logs/stream", headers={"Authorization": f"Bearer {who}"})
            reply = await open_ones.enter_async_context(asked)
            return reply.status, "" if reply.status == 200 else (await reply.json())["error"]["message"]

        for who, let_in, words in (
            ("a1", 8, "8 connections of this key"),
            ("a2", 8, "8 connections of this key"),
            ("a3", 0, "16 connections of this organisation"),
        ):
            answers = await asyncio.gather(*(ask(who) for _ in range(12)))
            assert [status for status, _ in answers].count(200) == let_in
            assert all(status == 200 or words in said for status, said in answers)
        assert (await ask("b"))[0] == 200
    while gateway.gateway.in_flight:
        await asyncio.sleep(0.01)
    async with listening(gateway, headers={"Authorization": "Bearer a1"}):
        pass


async def test_nobody_listening_costs_nothing(gateway: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a task nor a question to the database is there for it."""
    asked: list[str] = []
    fetch_one = gateway.gateway.storage.fetch_one

    async def note(sql: str, params: Any = ()) -> Any:
        asked.append(sql)
        return await fetch_one(sql, params)

    monkeypatch.setattr(gateway.gateway.storage, "fetch_one", note)
    await chat(gateway)
    await asyncio.sleep(0.6)
    assert not [sql for sql in asked if "exchanges" in sql]
    async with listening(gateway) as listener:
        name = await chat(gateway)
        assert (await listener.next())["requestId"] == name
    assert [sql for sql in asked if "exchanges" in sql]


async def test_the_readmes_curl_line_runs(gateway: Any) -> None:
    """It opens the feed, and ends where it says that it does."""
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    [line] = [text for text in re.findall(r"(?ms)^```sh\n(.*?)^```$", readme) if "/logs/stream" in text]
    line = line.replace("http://127.0.0.1:4000", gateway.url).replace("curl ", "curl -sS --fail ")
    process = await asyncio.create_subprocess_exec(
        "bash", "-euo", "pipefail", "-c", line,
        stdout=asyncio.subprocess.PIPE, env={**os.environ, "RAVEN_KEY": gateway.key},
    )  # fmt: skip
    output, _ = await process.communicate()
    assert process.returncode == 0
    assert output.startswith(b"retry: 1000\nid: ")
