"""Bodies are kept only where that was chosen, sealed, and shown to an administrator of their organisation."""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from raven_bodies import shelf as shelf_module
from raven_bodies.copying import Copy
from raven_bodies.shelf import Kept, Shelf

from raven_proxy import Exchange, Principal, Refused, hookimpl
from raven_proxy.harness import ADMINISTRATOR
from raven_proxy.mock import MockUpstream, ScriptedReply
from raven_proxy.sealing import Sealer
from raven_proxy.testing import run_stage

PROMPT = "a-prompt-that-nobody-should-read"
CHAT = {"model": "mock/m", "messages": [{"role": "user", "content": PROMPT}]}
README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


class Desk:
    def __init__(self, gateway: Any) -> None:
        self.running = gateway
        self.gateway = gateway.gateway

    async def chat(self, **fields: Any) -> tuple[str, bytes]:
        async with self.running.client.post("/v1/chat/completions", json=CHAT | fields) as reply:
            return reply.headers["X-Request-ID"], await reply.read()

    async def look(self, name: str, key: str | None = None) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        async with self.running.client.get(f"/logs/bodies/{name}", headers=headers) as reply:
            return reply.status, await reply.json()

    async def kept(self) -> list[Any]:
        while len(self.gateway.tasks):
            await asyncio.sleep(0.01)
        plugins = self.gateway.pipeline.plugins
        await next(one.instance for one in plugins if one.name == "bodies")._shelf.flush()
        return list(await self.gateway.storage.fetch_all("SELECT * FROM kept_bodies"))


@pytest.fixture
def desk(raven: Any, upstream: MockUpstream) -> Any:
    async def start(*plugins: Any, **settings: Any) -> Desk:
        config = {"plugin": {"bodies": settings}}
        return Desk(await raven(plugins, base=("openai", "bodies"), upstreams=[upstream], config=config))

    return start


async def test_nothing_is_kept_unless_that_was_chosen(desk: Any, upstream: MockUpstream) -> None:
    """Not a row, not a byte on the disk, and no stage stands in a reply's way."""
    at = await desk()
    name, _ = await at.chat()
    upstream.script(ScriptedReply.of_json({"error": {"message": "no"}}, status=400))
    await at.chat()
    assert await at.kept() == []
    assert (await at.look(name))[0] == 404
    for path in (at.running.folder / "data").rglob("*"):
        assert path.is_dir() or PROMPT.encode() not in path.read_bytes()


@pytest.mark.parametrize("stream", [False, True])
async def test_what_was_asked_and_answered_is_kept(desk: Any, stream: bool) -> None:
    """As the client sent and got it; sealed in the table, and each look is noted."""
    at = await desk(keep="all")
    name, answer = await at.chat(stream=stream)
    [row] = await at.kept()
    assert row["request_id"] == name
    status, shown = await at.look(name)
    assert status == 200
    assert msgspec.json.decode(shown["request"]["text"]) == CHAT | {"stream": stream}
    assert shown["response"]["text"].encode() == answer
    assert (shown["response"]["size"], shown["response"]["isTruncated"]) == (len(answer), False)
    assert shown["response"]["contentType"].startswith("text/event-stream" if stream else "application/json")
    assert shown["error"] is None
    for path in (at.running.folder / "data").rglob("raven.db*"):
        assert PROMPT.encode() not in path.read_bytes()
    async with at.running.client.get("/audit-logs?action=bodies.read") as reply:
        assert [entry["targetId"] for entry in await reply.json()] == [name]


async def test_only_errors_are_kept(desk: Any, upstream: MockUpstream) -> None:
    """What a provider refused, what broke off, what was refused here; not what went well."""
    at = await desk(keep="errors")
    await at.chat()
    upstream.script(ScriptedReply.of_json({"error": {"message": "no such thing"}}, status=400))
    failed = (await at.chat())[0]
    refused = (await at.chat(messages="none"))[0]
    assert {row["request_id"] for row in await at.kept()} == {failed, refused}
    status, shown = await at.look(failed)
    assert (status, shown["error"]) == (200, "no such thing")
    assert PROMPT in shown["request"]["text"]


class Gate:
    """Refuses every request, or every reply; it stands before or behind everything else."""

    def __init__(self, hook: str) -> None:
        self.hook = hook

    @hookimpl
    async def check_request(self, exchange: Exchange) -> None:
        if self.hook == "check_request" and exchange.face.serve is None:
            raise Refused("No money.", status=402)

    @hookimpl
    async def check_reply(self, exchange: Exchange) -> None:
        if self.hook == "check_reply" and exchange.face.serve is None:
            raise Refused("Not this reply.", status=403)


@pytest.mark.parametrize("base", [("bodies", "openai"), ("openai", "bodies")])
async def test_what_nobody_judged_is_not_kept(raven: Any, upstream: MockUpstream, base: Any) -> None:
    """Refused at a gate, malformed, a reply that a plugin refused: sizes and reasons, and no text."""
    said = {"message": {"role": "assistant", "content": PROMPT}, "index": 0, "finish_reason": "stop"}
    answer = {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [said]}
    for hook, reason, is_kept in (
        ("check_request", "No money.", False),
        ("check_reply", "Not this reply.", True),
        ("none", "messages", False),
    ):
        upstream.script(ScriptedReply.of_json(answer))
        config = {"plugin": {"bodies": {"keep": "all"}}}
        at = Desk(await raven((Gate(hook),), base=base, upstreams=[upstream], config=config))
        name, _ = await at.chat(**({"messages": PROMPT} if hook == "none" else {}))
        await at.kept()
        _, shown = await at.look(name)
        assert reason in shown["error"]
        assert (PROMPT in shown["request"]["text"]) is is_kept, hook
        assert (shown["request"]["size"] > 0, shown["response"]["text"]) == (True, "")
        await at.running.stop()


@pytest.mark.parametrize("base", [("bodies", "guardrails", "openai"), ("guardrails", "openai", "bodies")])
@pytest.mark.parametrize("action", ["block", "redact"])
async def test_what_guardrails_took_out_is_not_kept(
    raven: Any, upstream: MockUpstream, base: Any, action: str
) -> None:
    """Wherever it stands, in requests, replies, streams and what a provider says of an error."""
    rule = {"name": "x", "type": "custom_regex", "action": action, "config": {"patterns": [PROMPT]}}
    config = {"plugin": {"bodies": {"keep": "all"}, "guardrails": {"rules": [rule]}}}
    at = Desk(await raven(base=base, upstreams=[upstream], config=config))
    hi = {"messages": [{"role": "user", "content": "hi"}]}
    said = {"message": {"role": "assistant", "content": PROMPT}, "index": 0, "finish_reason": "stop"}
    answer = {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [said]}
    names = [(await at.chat())[0]]
    upstream.script(ScriptedReply.of_json(answer))
    names.append((await at.chat(**hi))[0])
    upstream.script(ScriptedReply.of_json({"error": {"message": PROMPT}}, status=400))
    names.append((await at.chat(**hi))[0])
    assert {row["request_id"] for row in await at.kept()} == set(names)
    for name in names:
        assert PROMPT not in str(await at.look(name))


async def test_long_bodies_are_cut(desk: Any) -> None:
    at = await desk(keep="all", max_bytes=20)
    name, answer = await at.chat()
    await at.kept()
    _, shown = await at.look(name)
    assert shown["response"]["text"].encode() == answer[:20]
    assert (shown["response"]["size"], shown["response"]["isTruncated"]) == (len(answer), True)
    assert len(shown["request"]["text"]) == 20


def test_a_copy_changes_nothing() -> None:
    for limit in (1, 5, 100):
        data = b"some bytes of a reply"
        assert run_stage(lambda limit=limit: Copy(limit), data) == data
        copy = Copy(limit)
        for at in range(0, len(data), 3):
            copy.feed(data[at : at + 3])
        assert (copy.taken(), copy.size) == (data[:limit], len(data))


class People:
    @hookimpl(tryfirst=True)
    async def authenticate(self, exchange: Exchange) -> Principal | None:
        who = exchange.headers["authorization"].removeprefix("Bearer ")
        whose, _, role = who.partition("-")
        if whose not in {"a", "b"}:
            return None
        return Principal(
            key_id=f"key_{who}",
            organization_id=f"org_{whose}",
            scopes=ADMINISTRATOR.scopes,
            role=role or "admin",
        )


async def test_others_see_nothing(desk: Any) -> None:
    """Neither another organisation's administrator nor a developer of the same one."""
    at = await desk(People(), keep="all")
    async with at.running.client.post(
        "/v1/chat/completions", json=CHAT, headers={"Authorization": "Bearer a"}
    ) as reply:
        name = reply.headers["X-Request-ID"]
    assert len(await at.kept()) == 1
    assert (await at.look(name, "a-admin"))[0] == 200
    assert (await at.look(name, "a-developer"))[0] == 403
    assert (await at.look(name, "b-admin"))[0] == 404
    assert (await at.look(name))[0] == 404


async def test_what_is_old_is_dropped(desk: Any) -> None:
    at = await desk(keep="all")
    await at.chat()
    assert len(await at.kept()) == 1
    await at.gateway.storage.execute("UPDATE kept_bodies SET created_at = created_at - 8 * 86400")
    await at.running.reload()
    async with asyncio.timeout(10):
        while await at.gateway.storage.fetch_all("SELECT * FROM kept_bodies"):
            await asyncio.sleep(0.02)


async def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the database does not take them, the newest are not kept, and it is said."""
    monkeypatch.setattr(shelf_module, "_MAX_WAITING", 10_000)
    nobody: Any = None
    shelf = Shelf(nobody, Sealer(b"1" * 32))
    kept = Kept(
        request_type="", request=os.urandom(3000), request_size=3000, response_type="", response=b"",
        response_size=0, error=None,
    )  # fmt: skip
    for number in range(10):
        shelf.put(f"req_{number}", "org_a", kept)
    assert shelf.lost == 8


def test_a_row_gives_no_hint() -> None:
    """Of a sealed body nothing is in the clear, not even its end."""
    sealer = Sealer(b"1" * 32)
    sealed = sealer.seal("a long enough text", "here", show_hint=False)
    assert Sealer.hint(sealed) == "…"
    assert b"text" not in sealed
    assert sealer.open(sealed, "here") == "a long enough text"


async def test_a_curl_line_runs(desk: Any) -> None:
    at = await desk(keep="all")
    name, _ = await at.chat()
    await at.kept()
    [line] = re.findall(r"(?ms)^```sh\n(.*?)^```$", README)
    process = await asyncio.create_subprocess_exec(
        "bash", "-euo", "pipefail", "-c",
        line.replace("http://127.0.0.1:4000", at.running.url).replace("curl ", "curl -sS --fail "),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "RAVEN_KEY": at.running.key, "REQUEST_ID": name},
    )  # fmt: skip
    output, _ = await process.communicate()
    assert msgspec.json.decode(output)["requestId"] == name
