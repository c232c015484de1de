"""The kit for plugin authors does what it says, and notices what it must notice."""

import asyncio
import subprocess
import sys
import tomllib
from types import ModuleType

import msgspec
import pytest

from raven_proxy import ConfigError, Principal, Refused, Reply, harness, hookimpl
from raven_proxy.harness import ADMIN_KEY, write_toml
from raven_proxy.testing import assert_fails_closed, run_stage

CHAT = "/v1/chat/completions"


def ask(model="demo/chat", **fields):
    return {"model": model, "messages": [{"role": "user", "content": "Hello!"}], **fields}


class Stamp:
    """Adds a header; `word` comes from its config."""

    class Config(msgspec.Struct, forbid_unknown_fields=True):
        word: str = "plain"

    def __init__(self, config):
        self.word = config.word

    @hookimpl
    async def check_request(self, exchange):
        exchange.response_headers["x-stamp"] = self.word


async def stamp_of(gateway):
    async with gateway.client.post(CHAT, json=ask()) as reply:
        assert reply.status == 200, await reply.text()
        return reply.headers.get("x-stamp")


# -- raven ---------------------------------------------------------------------------


async def test_a_gateway_answers_on_a_real_socket(raven):
    gateway = await raven()
    assert gateway.url.startswith("http://127.0.0.1:")
    assert await stamp_of(gateway) is None
    async with gateway.client.get("/v1/models", headers={"Authorization": "Bearer wrong"}) as reply:
        assert reply.status == 401
    async with gateway.client.get(
        "/v1/models", headers={"Authorization": "", "x-api-key": gateway.key}
    ) as reply:
        assert reply.status == 200


async def test_plugins_are_classes_instances_modules_files_and_names(raven, tmp_path):
    module = ModuleType("stamp_module")
    exec("from raven_proxy import hookimpl\n" + _SOURCE.format(word="module"), vars(module))
    file = tmp_path / "stamp_file.py"
    file.write_text("from raven_proxy import hookimpl\n" + _SOURCE.format(word="file"))
    for plugin, word in (
        (Stamp, "plain"),
        (Stamp(Stamp.Config("one")), "one"),
        (module, "module"),
        (file, "file"),
    ):
        gateway = await raven([plugin])
        assert await stamp_of(gateway) == word
    names = [plugin.name for plugin in gateway.gateway.pipeline.plugins]
    assert names[1:] == ["stamp_file", "openai", "demo"]


_SOURCE = """
@hookimpl
async def check_request(exchange):
    exchange.response_headers["x-stamp"] = {word!r}
"""


@pytest.mark.parametrize("config", [{"plugin": {"stamp": {"word": "said"}}}, '[plugin.stamp]\nword = "said"'])
async def test_config_is_a_mapping_or_toml(raven, config):
    assert await stamp_of(await raven([Stamp], config=config)) == "said"


async def test_a_bad_config_is_a_config_error(raven):
    with pytest.raises(ConfigError, match="unknown key 'wrod'; did you mean 'word'"):
        await raven([Stamp], config={"plugin": {"stamp": {"wrod": "x"}}})


async def test_a_mock_upstream_is_reached_with_its_own_key(raven, upstream):
    gateway = await raven(upstreams=[upstream])
    async with gateway.client.post(CHAT, json=ask("mock/any")) as reply:
        assert reply.status == 200
    assert [seen.model for seen in upstream.seen] == ["any"]
    assert upstream.seen[0].key == "sk-upstream-test"
    assert ADMIN_KEY.encode() not in upstream.seen[0].raw


async def test_the_principal_can_be_chosen(raven):
    gateway = await raven(principal=Principal(key_id="key_small", scopes=frozenset({"models:read"})))
    async with gateway.client.post(CHAT, json=ask()) as reply:
        assert (reply.status, (await reply.json())["error"]["code"]) == (403, "missing_scope")


async def test_reload_takes_a_new_config_and_changed_files(raven, tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "stamp_file.py").write_text("from raven_proxy import hookimpl\n" + _SOURCE.format(word="first"))
    gateway = await raven(plugins_dir=folder)
    assert await stamp_of(gateway) == "first"
    (folder / "stamp_file.py").unlink()
    (folder / "other_file.py").write_text(
        "from raven_proxy import hookimpl\n" + _SOURCE.format(word="second")
    )
    await gateway.reload()
    assert await stamp_of(gateway) == "second"
    assert [path.name for path in folder.glob("*.py")] == ["other_file.py"]
    with pytest.raises(ConfigError):
        await gateway.reload({"max_body_bytes": "many"})
    assert await stamp_of(gateway) == "second"


async def test_two_gateways_live_side_by_side(raven):
    one = await raven([Stamp], config={"plugin": {"stamp": {"word": "one"}}})
    two = await raven([Stamp], config={"plugin": {"stamp": {"word": "two"}}})
    assert [await stamp_of(one), await stamp_of(two)] == ["one", "two"]


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(harness, "_SETTLE_S", 0.1)


async def _stops(raven):
    """Stop now and say what leaked."""
    with pytest.raises(AssertionError, match="the gateway leaks") as caught:
        await raven.stop()
    return str(caught.value)


async def test_a_task_that_goes_on_is_a_leak(raven, impatient):
    class Careless:
        @hookimpl
        async def startup(self, gateway):
            self.task = asyncio.get_running_loop().create_task(asyncio.sleep(60), name="careless")

    plugin = Careless()
    await raven([plugin])
    assert "the task careless goes on" in await _stops(raven)
    plugin.task.cancel()


async def test_an_exchange_that_never_ends_is_a_leak(raven, impatient):
    class Stuck:
        @hookimpl
        async def finish_exchange(self, exchange):
            await asyncio.sleep(60)

    gateway = await raven([Stuck], config={"drain_timeout_s": 0.1})
    assert await stamp_of(gateway) is None
    assert "background tasks go on" in await _stops(raven)


async def test_leaks_can_be_allowed(raven, impatient):
    class Careless:
        @hookimpl
        async def startup(self, gateway):
            self.task = asyncio.get_running_loop().create_task(asyncio.sleep(60))

    plugin = Careless()
    await raven([plugin], check_leaks=False)
    await raven.stop()
    plugin.task.cancel()


async def test_a_stream_under_way_is_ended_and_not_a_leak(raven, upstream):
    upstream.reply(events=[{"choices": []}] * 3, end="hang", done=False)
    gateway = await raven(upstreams=[upstream])
    async with gateway.client.post(CHAT, json=ask("mock/any", stream=True)) as reply:
        assert reply.status == 200
        await reply.content.readuntil(b"\n\n")
        await raven.stop()
    await upstream.wait_until(lambda: not upstream.connections)


# -- exchange ------------------------------------------------------------------------


async def test_an_exchange_has_everything_that_hooks_read(exchange):
    made = exchange({"model": "o3", "stream": True}, headers={"X-Team": "blue"})
    assert (made.model, made.stream) == ("o3", True)
    assert made.headers == {"x-team": "blue"}
    assert made.face.endpoint == "chat/completions"
    assert made.candidates[0].model == "o3"
    assert made.head.headers["content-type"] == "text/event-stream"
    assert made.outgoing.body == made.body
    assert "chat:write" in made.principal.scopes
    made.replace_body(b'{"model": "o4"}')
    assert made.model == "o4"
    plugin = Stamp(Stamp.Config("direct"))
    await plugin.check_request(made)
    assert made.response_headers == {"x-stamp": "direct"}


async def test_each_exchange_is_new(exchange):
    exchange().notes["x"] = 1
    exchange().response_headers["x"] = "1"
    assert exchange().notes == exchange().response_headers == {}


# -- run_stage -----------------------------------------------------------------------


class Upper:
    def feed(self, data):
        return data.upper()

    def close(self):
        return b"."


class Naive:
    """Looks for a word in each read alone."""

    def feed(self, data):
        return data.replace(b"secret", b"******")

    def close(self):
        return b""


def test_a_stage_that_does_not_mind_cuts_passes():
    assert run_stage(Upper, b"some text") == b"SOME TEXT."
    assert run_stage(Upper, b"") == b"."


def test_a_stage_that_minds_cuts_is_found_out():
    assert run_stage(Naive, b"nothing to see") == b"nothing to see"
    with pytest.raises(AssertionError, match="something else"):
        run_stage(Naive, b"my secret")


# -- assert_fails_closed -------------------------------------------------------------


class Raises:
    @hookimpl
    async def check_request(self, exchange):
        raise RuntimeError("a traceback nobody may see")


class Hangs:
    @hookimpl
    async def before_send(self, exchange):
        await asyncio.sleep(30)


class Refuses:
    @hookimpl
    async def check_request(self, exchange):
        raise Refused("No.")


class Waves:
    """Should refuse, and does not."""

    @hookimpl
    async def check_request(self, exchange):
        return


class AnswersAnyway:
    @hookimpl
    async def answer(self, exchange):
        return Reply(200, {"Content-Type": "application/json"}, b"{}")


@pytest.mark.parametrize(("plugin", "status"), [(Raises, 500), (Hangs, 500), (Refuses, 403)])
async def test_a_gate_that_breaks_refuses(raven, upstream, plugin, status):
    assert await assert_fails_closed(raven, upstream, plugin) == status


class HangsAsToldTo:
    class Config(msgspec.Struct):
        seconds: float

    def __init__(self, config):
        self.seconds = config.seconds

    @hookimpl
    async def before_send(self, exchange):
        await asyncio.sleep(self.seconds)


async def test_a_gate_with_settings_keeps_its_limit(raven, upstream):
    """Settings stand beside `timeout_s`, not in its place."""
    settings = {"plugin": {"hangs-as-told-to": {"seconds": 30}}}
    async with asyncio.timeout(9):  # the limit that a plugin has by itself is 10 s
        assert await assert_fails_closed(raven, upstream, HangsAsToldTo, config=settings) == 500


@pytest.mark.parametrize(("plugin", "what"), [(Waves, "saw the request"), (AnswersAnyway, "was not refused")])
async def test_a_gate_that_lets_it_pass_is_found_out(raven, upstream, plugin, what):
    with pytest.raises(AssertionError, match=what):
        await assert_fails_closed(raven, upstream, plugin)


# -- the plugin itself ---------------------------------------------------------------


def test_pytest_plugin_is_light():
    """Every pytest run imports it: neither the gateway nor aiohttp may come with it."""
    code = (
        "import sys, raven_proxy.testing as t; print(sorted(m for m in sys.modules if m in "
        "('aiohttp', 'aiosqlite', 'raven_proxy.gateway', 'raven_proxy.service', 'raven_proxy.mock')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_toml_is_written_so_that_it_reads_the_same():
    table = {
        "text": 'quotes " and \\ and\nlines and ü 🙂',
        "number": 1.5,
        "truth": True,
        "list": [1, "two", {"three": [3]}],
        "a key": {"x.y": {"z": ""}},
        "absent": None,
    }
    read = tomllib.loads(write_toml(table))
    del table["absent"]
    assert read == table


async def test_the_key_plugin_takes_the_same_key(raven):
    pytest.importorskip("raven_auth_keys")
    gateway = await raven(["auth-keys"])
    for key, status in ((gateway.key, 200), ("rk_test_" + "x" * 40, 401)):
        async with gateway.client.get("/v1/models", headers={"Authorization": f"Bearer {key}"}) as reply:
            assert reply.status == status
