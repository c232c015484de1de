"""What raven-tally promises."""

import asyncio

import pytest
from click.testing import CliRunner
from raven_tally import Tally, show_tally

from raven_proxy import ConfigError


def ask(model):
    return {"model": model, "messages": [{"role": "user", "content": "Hello!"}]}


async def chat(gateway, model, **fields):
    async with gateway.client.post("/v1/chat/completions", json=ask(model) | fields) as reply:
        assert reply.status == 200, await reply.text()
        await reply.read()


async def read_tally(gateway, count):
    """Read the route; counting happens after the client has its reply."""
    while True:
        async with gateway.client.get("/tally") as reply:
            assert reply.status == 200
            rows = await reply.json()
        if sum(row["requests"] for row in rows) >= count:
            return rows
        await asyncio.sleep(0.01)


async def test_each_model_is_counted_with_its_tokens(raven):
    gateway = await raven([Tally])
    await chat(gateway, "demo/chat")
    await chat(gateway, "demo/chat", stream=True)
    await chat(gateway, "demo-chat")
    first, second = await read_tally(gateway, 3)
    assert (first["model"], first["requests"]) == ("demo/chat", 2)
    assert (second["model"], second["requests"]) == ("demo-chat", 1)
    assert first["tokens"] == 2 * second["tokens"] > 0


async def test_an_ignored_model_is_not_counted(raven):
    gateway = await raven([Tally], config={"plugin": {"tally": {"ignore": ["demo/*"]}}})
    await chat(gateway, "demo/chat")
    await chat(gateway, "demo-chat")
    assert [row["model"] for row in await read_tally(gateway, 1)] == ["demo-chat"]


async def test_the_tally_outlives_a_restart_and_the_command_prints_it(raven):
    gateway = await raven([Tally])
    await chat(gateway, "demo/chat")
    await read_tally(gateway, 1)
    data_dir = gateway.folder / "data"
    await raven.stop()
    # The command runs an event loop of its own.
    printed = await asyncio.to_thread(CliRunner().invoke, show_tally, ["--data-dir", str(data_dir)])
    assert printed.exit_code == 0, printed.output
    assert printed.output.split()[0] == "1"
    assert "demo/chat" in printed.output


async def test_an_unknown_setting_stops_the_start(raven):
    with pytest.raises(ConfigError, match="did you mean 'ignore'"):
        await raven([Tally], config={"plugin": {"tally": {"ignored": []}}})
