"""T134: a new configuration while requests come: a broken one changes nothing, a good one loses nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec
import pytest

from raven_proxy import ConfigError, Outcome
from raven_proxy.harness import ADMINISTRATOR, RunningGateway
from raven_proxy.mock import MockUpstream

from .conftest import Case
from .drop_ins import HARMLESS, HOOK, RELOAD, STAMP, Files
from .wire import chat, post


def break_config(gateway: RunningGateway, text: str) -> Callable[[], None]:
    """Write a broken config; give what puts the old one back."""
    path = gateway.folder / "raven.toml"
    before = path.read_text()
    path.write_text(text.replace("OLD", before))
    return lambda: (path.write_text(before), None)[1]


BROKEN = {
    "no TOML": 'OLD\nlisten = "127',
    "unknown key": "OLD\nmax_body_byte = 1\n",
    "wrong type": 'OLD\nmax_body_bytes = "x"\n',
    "an alias of nothing": 'OLD\n[[models]]\nname = "x"\ntarget = "nobody/x"\n',
}
BROKEN_FILES = {
    "syntax": "def (\n",
    "import": "import no_such_package\n",
    "exit": "import sys\nsys.exit(0)\n",
    "typo": HOOK + "async def check_requets(exchange): ...\n",
    "startup": HOOK + "async def startup(gateway): raise OSError('no disk')\n",
    "startup exits": HOOK + "async def startup(gateway): raise SystemExit\n",
    "clash": STAMP.replace("/version-{version}", "/health/live"),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_t134_a_broken_config_leaves_the_old_one_serving(case: Case, files: Files, name: str) -> None:
    """Reload with a broken file: 400 that says why, an alarm in the log, and the old pipeline goes on."""
    gateway = await case.start(plugins_dir=files.folder)
    before = gateway.gateway.pipeline
    case.may_fail = True
    restore = break_config(gateway, BROKEN[name])
    inner = case.refused(await case.ask(RELOAD), 400, type="validation_error")
    assert "raven.toml" in inner["message"] or "models" in inner["message"]
    assert gateway.gateway.pipeline is before
    assert gateway.gateway.config is before.config
    assert gateway.service.failed_reloads == 1
    assert any(line["level"] == "error" and "reload failed" in line["event"] for line in case.log)
    assert (await case.chat()).headers["x-stamp"] == "one"
    restore()
    assert (await case.ask(RELOAD)).json()["success"] is True
    assert (await case.chat()).headers["x-stamp"] == "one"


@pytest.mark.parametrize("name", BROKEN_FILES)
async def test_t134_a_broken_drop_in_leaves_the_old_one_serving(case: Case, files: Files, name: str) -> None:
    """The same for a plugin file that is broken, does not start, or exits."""
    gateway = await case.start(plugins_dir=files.folder)
    before = gateway.gateway.pipeline
    case.may_fail = True
    files.stamp("two")
    files.write("guard.py", BROKEN_FILES[name])
    with pytest.raises(ConfigError, match="guard"):
        await gateway.reload()
    (files.folder / "guard.py").write_text(HARMLESS)
    assert gateway.gateway.pipeline is before
    assert (await case.chat()).headers["x-stamp"] == "one"
    await gateway.reload()
    assert (await case.chat()).headers["x-stamp"] == "two"


async def test_t134_only_an_administrator_may_reload(case: Case) -> None:
    """`POST /reload` takes the scope admin:write."""
    scopes = ADMINISTRATOR.scopes - {"admin:write"}
    gateway = await case.start(principal=msgspec.structs.replace(ADMINISTRATOR, scopes=scopes))
    before = gateway.gateway.pipeline
    case.refused(await case.ask(RELOAD), 403, code="missing_scope")
    case.refused(await case.ask(post(b"", "/reload", key=None)), 401)
    assert gateway.gateway.pipeline is before


async def test_t134_a_stream_ends_on_the_pipeline_on_which_it_began(case: Case, files: Files) -> None:
    """A changed plugin takes effect at once, while a stream goes on under the old one to its end."""
    gateway = await case.start(plugins_dir=files.folder)
    old = gateway.gateway.pipeline
    async with await case.wire() as wire:
        await wire.send(post(chat("mock/fx-paced-40", stream=True)))
        status, headers = await wire.head()
        assert (status, headers["x-stamp"]) == (200, "one")
        body = await wire.chunk()
        files.stamp("two")
        await gateway.reload()
        assert gateway.gateway.pipeline is not old
        assert old.in_flight == 1
        reply = await case.stream("any")
        assert reply.headers["x-stamp"] == "two"
        assert reply.body.count(b'"content":"two:') > 5
        assert b"one:" not in reply.body
        while piece := await wire.chunk():
            body += piece
    assert body.endswith(b"data: [DONE]\n\n")
    assert body.count(b'"content":"one:') == reply.body.count(b'"content":"two:')
    assert b"two:" not in body
    async with asyncio.timeout(5):
        while old.in_flight or old.upstreams["mock"].open_connections:
            await asyncio.sleep(0.01)


async def test_t134_what_is_derived_from_the_config_is_new_too(case: Case, files: Files) -> None:
    """Aliases, routes, limits, keys and upstreams follow the new file; old connections are closed."""
    async with MockUpstream() as second:
        case.upstreams = [case.upstream, second]
        alias = {"name": "fast", "target": "mock/small"}
        gateway = await case.start(
            plugins_dir=files.folder, config={"models": [alias], "header_timeout_s": 5}
        )
        assert (await case.chat("fast")).json()["model"] == "small"
        assert (await case.ask(post(b"", "/version-one", method="GET"))).body == b"one"
        key = gateway.folder / "second-key"
        key.write_text("sk-second-key-0123456789")
        case.needles.append("sk-second-key-0123456789")
        table = {"name": "other", "provider": "openai", "base_url": second.url, "key": {"file": str(key)}}
        files.stamp("two")
        await gateway.reload(
            {
                "upstreams": [table],
                "models": [{"name": "fast", "target": "other/large"}],
                "max_body_bytes": 1000,
                "header_timeout_s": 0.3,
            }
        )
        assert (await case.chat("fast")).json()["model"] == "large"
        assert second.seen[0].key == "sk-second-key-0123456789"
        case.refused(await case.ask(post(b"", "/version-one", method="GET")), 404)
        assert (await case.ask(post(b"", "/version-two", method="GET"))).body == b"two"
        case.refused(await case.ask(post(chat(padding="x" * 1000))), 413)
        async with await case.wire() as wire:  # the new limit for a slow head
            await wire.send(b"GET /heal")
            assert await asyncio.wait_for(wire.rest(), 3) == b""
        await case.upstream.wait_until(lambda: case.upstream.connections == 0)


async def test_t134_good_reloads_under_load_lose_nothing(case: Case, files: Files) -> None:
    """Ten reloads while clients call without a pause: every reply is whole, none fails."""
    gateway = await case.start(plugins_dir=files.folder, config={"access_log": False})
    stop = asyncio.Event()
    stamps: list[str] = []

    async def client(number: int) -> int:
        count = 0
        async with await case.wire() as wire:
            while not stop.is_set():
                stream = (count + number) % 2 == 0
                await wire.send(post(chat(stream=stream)))
                reply = await wire.reply()
                assert reply.status == 200
                assert reply.is_whole
                assert not stream or reply.body.endswith(b"data: [DONE]\n\n")
                stamps.append(reply.headers["x-stamp"])
                count += 1
        return count

    clients = [asyncio.get_running_loop().create_task(client(number)) for number in range(8)]
    for number in range(10):
        await asyncio.sleep(0.03)
        files.stamp(f"v{number}")
        if number == 5:
            case.may_fail = True
            files.write("guard.py", "def (\n")
            with pytest.raises(ConfigError):
                await gateway.reload()
            files.write("guard.py", HARMLESS)
        await gateway.reload()
    await asyncio.sleep(0.03)
    stop.set()
    counts = await asyncio.gather(*clients)
    assert min(counts) > 3
    assert {"one", "v0", "v9"} <= set(stamps)
    assert {one.outcome for one in await case.settle()} == {Outcome.COMPLETED}


async def test_t134_concurrent_reloads_end_in_one_state(case: Case, files: Files) -> None:
    """Reloads asked for at the same time run one after the other; every old pipeline is retired."""
    gateway = await case.start(plugins_dir=files.folder)
    files.stamp("two")
    replies = await asyncio.gather(*(case.ask(RELOAD) for _ in range(5)))
    assert {reply.status for reply in replies} == {200}
    assert (await case.chat()).headers["x-stamp"] == "two"
    await case.settle()
    assert gateway.gateway.pipeline.in_flight == 0
