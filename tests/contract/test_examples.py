"""The examples that newcomers copy are run: each through the real gateway."""

import ast
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from raven_proxy.mock import ScriptedReply
from raven_proxy.testing import run_stage

EXAMPLES = Path(__file__).parents[2] / "examples"
ONE_FILE = sorted(EXAMPLES.glob("*.py"))
CHAT = "/v1/chat/completions"


def ask(model="mock/any", text="Hello!", **fields):
    return {"model": model, "messages": [{"role": "user", "content": text}], **fields}


async def post(gateway, body):
    async with gateway.client.post(CHAT, json=body) as reply:
        return reply, await reply.read()


def test_every_example_is_tested_here():
    assert [path.stem for path in ONE_FILE] == ["acme", "header_stamp", "model_allow_list", "shouting"]
    assert {path.name for path in EXAMPLES.iterdir() if path.is_dir() and path.name[0] not in "._"} == {
        "plugin-package"
    }


@pytest.mark.parametrize("path", ONE_FILE, ids=lambda path: path.stem)
def test_an_example_is_short_and_explained(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 80
    assert ast.get_docstring(ast.parse(text))
    assert path.name in (EXAMPLES / "README.md").read_text()


# -- model_allow_list ----------------------------------------------------------------


async def test_a_model_that_is_not_listed_is_refused(raven, upstream):
    config = {"plugin": {"model_allow_list": {"models": ["demo/*", "mock/good"]}}}
    gateway = await raven([EXAMPLES / "model_allow_list.py"], upstreams=[upstream], config=config)
    for model, status in (("demo/chat", 200), ("mock/good", 200), ("mock/bad", 403), ("demo-chat", 403)):
        reply, body = await post(gateway, ask(model))
        assert reply.status == status, body
    error = msgspec.json.decode(body)["error"]
    assert (error["code"], error["param"]) == ("model_not_allowed", "model")
    assert [seen.model for seen in upstream.seen] == ["good"]
    async with gateway.client.get("/v1/models") as reply:
        assert reply.status == 200


async def test_the_raw_path_is_no_way_round_the_list(raven, upstream):
    config = {"plugin": {"model_allow_list": {"models": ["good"]}}}
    gateway = await raven([EXAMPLES / "model_allow_list.py"], upstreams=[upstream], config=config)
    for model, status in (("good", 200), ("bad", 403)):
        async with gateway.client.post("/v1/mock/chat/completions", json=ask(model)) as reply:
            assert reply.status == status
    assert [seen.model for seen in upstream.seen] == ["good"]


# -- header_stamp --------------------------------------------------------------------


async def test_both_directions_are_stamped(raven, upstream):
    gateway = await raven([EXAMPLES / "header_stamp.py"], upstreams=[upstream])
    for fields in ({}, {"stream": True}):
        reply, _ = await post(gateway, ask(**fields))
        assert reply.headers["x-key-name"] == "test"
        sent = upstream.seen[-1].headers
        assert sent["x-team"] == "org_default"
        assert sent["x-gateway-request"] == reply.headers["X-Request-ID"]
        assert "x-key-name" not in sent


# -- shouting ------------------------------------------------------------------------


def event(text, index=0):
    return (
        b"data: " + msgspec.json.encode({"choices": [{"index": index, "delta": {"content": text}}]}) + b"\n\n"
    )


def test_shouting_sees_words_across_every_border():
    shouting = load("shouting")
    quiet, done = b": a comment\r\n\r\n", b"data: [DONE]\n\n"
    said = [
        event("He"),
        quiet,
        event("llo"),
        event("ab", 1),
        event("! you sch"),
        event("ön"),
        event("!", 1),
        event("! bye"),
    ]
    loud = [
        event("HE"),
        quiet,
        event("LLO"),
        event("AB", 1),
        event("! you SCH"),
        event("ÖN"),
        event("!", 1),
        event("! bye"),
    ]
    assert run_stage(shouting.ShoutedStream, b"".join(said) + done) == b"".join(loud) + done


def test_what_nobody_shouts_passes_byte_for_byte():
    shouting = load("shouting")
    odd = b'data:{"choices" : [ {"index":0, "delta":{"content":"hel\\u006co"}}]}\r\n\r\n'
    odd += b'data: {"choices":[],"usage":{}}\n\n'
    assert run_stage(shouting.ShoutedStream, odd) == odd
    assert run_stage(shouting.ShoutedStream, event("cut off in mid-wor")) == event("cut off in mid-wor")


def test_a_word_without_end_is_not_held_for_ever():
    shouting = load("shouting")
    stage = shouting.ShoutedStream()
    assert b"".join(stage.feed(event("x" * 10)) for _ in range(50)).count(b"data:") >= 40


async def test_shouting_through_the_gateway(raven, upstream):
    gateway = await raven([EXAMPLES / "shouting.py"], upstreams=[upstream])
    _, body = await post(gateway, ask("demo/chat", text="wake up now! please"))
    text = msgspec.json.decode(body)["choices"][0]["message"]["content"]
    assert "HELLO! I am" in text
    assert "“wake up NOW! please”" in text
    _, body = await post(gateway, ask("demo/chat", text="wake up now! please", stream=True))
    assert join(body) == text
    chunks = [b"".join(map(event, ["ge", "t out", "!"])), b"data: [DONE]\n\n"]
    upstream.reply(
        headers={"Content-Type": "text/event-stream"},
        chunks=[chunk[i : i + 7] for chunk in chunks for i in range(0, len(chunk), 7)],
    )
    _, body = await post(gateway, ask(stream=True))
    assert join(body) == "get OUT!"
    assert body.endswith(b"data: [DONE]\n\n")


def join(stream):
    chunks = [msgspec.json.decode(line[6:]) for line in stream.splitlines() if line.startswith(b"data: {")]
    return "".join(c["delta"].get("content") or "" for chunk in chunks for c in chunk["choices"])


def load(name):
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# -- acme ------------------------------------------------------------------------------


async def start_acme(raven, upstream, tmp_path):
    (tmp_path / "key").write_text("ak-0123456789")
    place = {
        "name": "acme",
        "provider": "acme",
        "base_url": upstream.url,
        "key": {"file": str(tmp_path / "key")},
    }
    return await raven([EXAMPLES / "acme.py"], upstreams=[place], base=("openai", "anthropic"))


async def test_acme_serves_clients_of_any_dialect(raven, upstream, tmp_path):
    gateway = await start_acme(raven, upstream, tmp_path)
    upstream.reply(json={"say": "Hi.", "units": [3, 2]})
    _, body = await post(gateway, ask("acme/large", temperature=1))
    reply = msgspec.json.decode(body)
    assert reply["choices"][0]["message"]["content"] == "Hi."
    assert (reply["usage"]["prompt_tokens"], reply["usage"]["completion_tokens"]) == (3, 2)
    seen = upstream.seen[-1]
    assert (seen.target, seen.headers["x-acme-key"]) == ("/v1/talk", "ak-0123456789")
    assert msgspec.json.decode(seen.body) == {
        "engine": "large", "live": False, "turns": [{"who": "user", "say": "Hello!"}],
    }  # fmt: skip
    upstream.script(ScriptedReply.of_events([{"id": "t"}, {"say": "H"}, {"say": "i."}, {"units": [3, 2]}]))
    async with gateway.client.post(
        "/v1/messages", json=ask("acme/large", stream=True, max_tokens=9)
    ) as reply:
        stream = await reply.text()
    assert stream.index('"text":"H"') < stream.index('"text":"i."') < stream.index("message_stop")
    assert '"output_tokens":2' in stream


async def test_acme_refuses_in_plain_words(raven, upstream, tmp_path):
    gateway = await start_acme(raven, upstream, tmp_path)
    strict = {"X-Raven-Strict": "true"}
    async with gateway.client.post(CHAT, json=ask("acme/large", temperature=1), headers=strict) as reply:
        assert (reply.status, (await reply.json())["error"]["param"]) == (400, "temperature")
    tool = {"type": "function", "function": {"name": "f"}}
    reply, _ = await post(gateway, ask("acme/large", tools=[tool]))
    assert (reply.status, upstream.seen) == (400, [])
    upstream.reply(status=429, json={"error": "slower, ak-0123456789"})
    reply, body = await post(gateway, ask("acme/large"))
    assert (reply.status, b"slower" in body, b"ak-0123456789" in body) == (429, True, False)


async def test_acmes_own_api_passes_untouched(raven, upstream, tmp_path):
    gateway = await start_acme(raven, upstream, tmp_path)
    upstream.reply(json={"free": 7})
    async with gateway.client.get("/v1/acme/engines/large?unit=hour") as reply:
        assert (reply.status, await reply.json()) == (200, {"free": 7})
    assert upstream.seen[-1].target == "/v1/engines/large?unit=hour"


# -- plugin-package ------------------------------------------------------------------


def test_the_example_package_passes_its_own_tests():
    package = EXAMPLES / "plugin-package"
    path = os.pathsep.join([str(package), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider"],
        cwd=package,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
