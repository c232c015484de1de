"""The command line client `llm`, told of the gateway in its own configuration file, works against it."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio

from raven_proxy.harness import ADMIN_KEY
from raven_proxy.mock import MockUpstream

from .clients import MODELS, run_program
from .conftest import VendorStarter

Command = Callable[..., Awaitable[tuple[int, str, str]]]
_MODELS = """
- model_id: raven
  model_name: mock-small
  api_base: {url}/v1
  api_key_name: raven
  supports_schema: true
  supports_tools: true
- model_id: raven-broken
  model_name: fx-reset-mid
  api_base: {url}/v1
  api_key_name: raven
"""


@pytest_asyncio.fixture
async def llm(vendor: VendorStarter, tmp_path: Path) -> Command:
    """Run `llm` with arguments; give its exit code, output and errors."""
    gateway = await vendor(models=[*MODELS, "fx-*"])
    (tmp_path / "extra-openai-models.yaml").write_text(_MODELS.format(url=gateway.url))
    (tmp_path / "keys.json").write_bytes(msgspec.json.encode({"raven": ADMIN_KEY}))
    environment = {"LLM_USER_PATH": str(tmp_path), "LLM_LOAD_PLUGINS": ""}

    async def run(*arguments: str) -> tuple[int, str, str]:
        done = await run_program(sys.executable, "-m", "llm", *arguments, environment=environment)
        return done.returncode, done.stdout, done.stderr

    return run


@pytest.mark.parametrize("options", [[], ["--no-stream"]])
async def test_a_prompt(llm: Command, upstream: MockUpstream, options: list[str]) -> None:
    """A prompt is answered, streamed or not, and logged with its usage."""
    code, out, err = await llm("-m", "raven", *options, "--usage", "Are you there?")
    assert (code, "You said: Are you there?" in out) == (0, True), err
    assert upstream.seen[0].json["stream"] is (not options)
    assert "Token usage" in err


async def test_a_conversation(llm: Command, upstream: MockUpstream) -> None:
    """A conversation goes on where it was."""
    await llm("-m", "raven", "My name is Ada.")
    code, out, err = await llm("-c", "What is my name?")
    assert (code, "What is my name?" in out) == (0, True), err
    assert len(upstream.seen[1].json["messages"]) == 3


async def test_a_schema(llm: Command) -> None:
    """A schema is filled in."""
    code, out, err = await llm("-m", "raven", "--schema", "name, age int", "Invent a dog")
    assert code == 0, err
    assert set(msgspec.json.decode(out)) == {"name", "age"}


async def test_a_tool(llm: Command, upstream: MockUpstream) -> None:
    """A tool is called and its result goes back to the model."""
    code, out, err = await llm("-m", "raven", "-T", "llm_version", "Which version? Use the tool llm_version")
    assert code == 0, err
    assert "The tool answered:" in out
    assert [message["role"] for message in upstream.seen[1].json["messages"]] == ["user", "assistant", "tool"]


async def test_errors(llm: Command) -> None:
    """A refusal and a broken stream end in an error with the gateway's words, not in silence."""
    code, _, err = await llm("-m", "raven", "--key", "rk_live_nobody", "Hello")
    assert (code, "key" in err) == (1, True)
    code, _, err = await llm("-m", "raven-broken", "Hello")
    assert code == 1
    assert "broke off" in err
