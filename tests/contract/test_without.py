"""Deleting a plugin's folder deletes its feature, and nothing else breaks."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from raven_proxy.mock import MockUpstream
from raven_proxy.plugins import find_first_party

PLUGINS = find_first_party()
PACKAGES = Path(__file__).parents[2] / "plugins"
CHAT = {"messages": [{"role": "user", "content": "hi"}]}


@pytest.mark.parametrize("absent", PLUGINS)
async def test_a_gateway_serves_without(raven: Any, upstream: MockUpstream, absent: str) -> None:
    """It starts, answers, describes itself and lists its models; what the others keep can still be read."""
    others = tuple(name for name in PLUGINS if name != absent)
    gateway = await raven(base=others, upstreams=[upstream] if absent != "openai" else [])
    asked = {
        "openai": ("/v1/messages", {"model": "demo/chat", "max_tokens": 9}),
        "demo": ("/v1/chat/completions", {"model": "mock/m"}),
    }
    path, fields = asked.get(absent, ("/v1/chat/completions", {"model": "demo/chat"}))
    async with gateway.client.post(path, json=CHAT | fields) as reply:
        assert reply.status == 200, await reply.text()
    for path in (
        "/openapi.json",
        "/v1/models",
        *(
            one.base_path.replace("{organization}", "org_default")
            for one in gateway.gateway.pipeline.resources
        ),
    ):
        async with gateway.client.get(path) as reply:
            assert reply.status == 200, (path, await reply.text())


@pytest.mark.parametrize("package", sorted(path.name for path in PACKAGES.iterdir() if path.is_dir()))
def test_no_policy_imports_another(package: str) -> None:
    """Vendors may share a dialect's package, and declare it; policies share the core only."""
    own = package.replace("-", "_")
    declared = (PACKAGES / package / "pyproject.toml").read_text()
    for module in (PACKAGES / package / own).rglob("*.py"):
        if "snippets" in module.parts:
            continue
        for name in re.findall(r"^\s*(?:from|import) (raven_\w+)", module.read_text(), re.MULTILINE):
            if name not in {own, "raven_proxy"}:
                assert f'"{name.replace("_", "-")}' in declared, (module, name)
