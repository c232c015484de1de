"""Real coding agents work through the gateway: Claude Code and Codex read a file with a tool, and say so.

Each of them with a provider of its own dialect and of others. Their packages are large: `make agents`
installs them and runs this file; elsewhere it is skipped.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from raven_proxy.harness import RunningGateway
from raven_proxy.mock import MockUpstream

from .clients import run_program
from .conftest import VendorStarter
from .meaning import Json
from .scripted_model import ScriptedModel

_PROGRAMS = Path(__file__).parents[1] / "clients" / "agents" / "node_modules" / ".bin"
_SECRET = "the secret number is 4711"
_SAID = "The secret number is 4711."
_QUESTION = "What is the secret number in secret.txt?"

Agent = Callable[[RunningGateway, Path], Awaitable[subprocess.CompletedProcess[str]]]


def _find(name: str) -> str:
    if not (_PROGRAMS / name).exists():
        reason = f"{name} is not installed; run make agents"
        if os.environ.get("RAVEN_AGENTS"):
            pytest.fail(reason)
        pytest.skip(reason)
    return str(_PROGRAMS / name)


def _home(folder: Path) -> Path:
    """Make a home of the agent's own, and the folder that it works in."""
    home = folder / "home"
    (home / ".codex").mkdir(parents=True)
    (folder / "work").mkdir()
    (folder / "work" / "secret.txt").write_text(_SECRET + "\n")
    return home


async def _run_claude(gateway: RunningGateway, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {
        "HOME": str(_home(folder)),
        "ANTHROPIC_BASE_URL": gateway.url,
        "ANTHROPIC_AUTH_TOKEN": gateway.key,
        "ANTHROPIC_API_KEY": "",
        "ANTHROPIC_MODEL": "agent-model",
        "ANTHROPIC_SMALL_FAST_MODEL": "agent-model",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_AUTOUPDATER": "1",
        "DISABLE_ERROR_REPORTING": "1",
        "DISABLE_TELEMETRY": "1",
        "CLAUDECODE": "",
    }
    command = (_find("claude"), "-p", _QUESTION, "--output-format", "json")
    return await run_program(*command, environment=environment, folder=folder / "work")


async def _run_codex(gateway: RunningGateway, folder: Path) -> subprocess.CompletedProcess[str]:
    home = _home(folder)
    vendor = {
        "name": "Raven",
        "base_url": f"{gateway.url}/v1",
        "env_key": "RAVEN_KEY",
        "wire_api": "responses",
    }
    lines = ['model = "agent-model"', 'model_provider = "raven"']
    lines += ["[model_providers.raven]", *(f'{name} = "{value}"' for name, value in vendor.items())]
    (home / ".codex" / "config.toml").write_text("\n".join(lines) + "\n")
    environment = {"HOME": str(home), "CODEX_HOME": str(home / ".codex"), "RAVEN_KEY": gateway.key}
    options = ("exec", "--skip-git-repo-check", "-s", "danger-full-access", "--json")
    command = (_find("codex"), *options, _QUESTION)
    return await run_program(*command, environment=environment, folder=folder / "work")


@pytest.mark.parametrize("preset", ["anthropic", "openai", "mistral"])
async def test_claude_code(
    preset: str, vendor: VendorStarter, upstream: MockUpstream, tmp_path: Path
) -> None:
    """Claude Code calls its Read tool and answers, whichever dialect the provider speaks."""
    path = str(tmp_path / "work" / "secret.txt")
    model = ScriptedModel("Read", {"file_path": path}, _SAID)
    result = await _turn(preset, _run_claude, model, vendor, upstream, tmp_path)
    assert result["result"] == _SAID
    assert not result["is_error"]
    assert result["num_turns"] == 2
    assert result["usage"]["input_tokens"] == 20
    assert result["usage"]["output_tokens"] == 10


@pytest.mark.parametrize("preset", ["openai", "anthropic", "mistral"])
async def test_codex(preset: str, vendor: VendorStarter, upstream: MockUpstream, tmp_path: Path) -> None:
    """Codex runs a command and answers, whichever dialect the provider speaks."""
    model = ScriptedModel("exec_command", {"cmd": "cat secret.txt"}, _SAID)
    events = await _turn(preset, _run_codex, model, vendor, upstream, tmp_path)
    items = [event["item"] for event in events if event["type"] == "item.completed"]
    assert any(item.get("aggregated_output") == _SECRET + "\n" for item in items)
    assert [item["text"] for item in items if item["type"] == "agent_message"] == [_SAID]
    [turn] = [event for event in events if event["type"] == "turn.completed"]
    assert (turn["usage"]["input_tokens"], turn["usage"]["output_tokens"]) == (20, 10)


async def _turn(
    preset: str, run: Agent, model: ScriptedModel, vendor: VendorStarter, upstream: MockUpstream, folder: Path
) -> Json | list[Json]:
    """Let the agent work; give its JSON, or its lines of JSON."""
    upstream.handler = model.answer
    base_path = "" if preset == "anthropic" else "/v1"
    gateway = await vendor(
        preset, base_path, aliases={"agent-model": "scripted"}, base=("openai", "anthropic")
    )
    done = await run(gateway, folder)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said[-3000:]
    assert _SECRET in "".join(model.results), said[-3000:]
    lines = [msgspec.json.decode(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return lines[0] if len(lines) == 1 else lines
