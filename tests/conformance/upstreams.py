"""Which upstream of the matrix's gateway a recording comes from, and what that upstream's config is.

One upstream for each vendor and dialect, all of them at one mock.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
from collections.abc import Collection
from functools import cache
from typing import Any

import msgspec
import pytest

from .cases import Case

__all__ = [
    "ALL_FACES",
    "PLUGINS",
    "Route",
    "describe_upstreams",
    "find_installed",
    "find_route",
    "require_plugin",
]

PLUGINS = ("openai", "anthropic", "gemini", "bedrock", "cohere", "ollama")
ALL_FACES = ("chat", "responses", "messages", "completions")

# Vendors of OpenAI's dialects in the recordings → their preset in the gateway.
_PRESETS = {
    name: name
    for name in (
        "alibaba azure_openai cerebras cloudflare deepseek doubleword fireworks gpustack groq huggingface "
        "llamacpp mistral mistralrs moonshot ollama openai openrouter perplexity snowflake together venice "
        "vercel_gateway vllm xai zai"
    ).split()
} | {"azure_openai": "openai", "bedrock": "bedrock_mantle", "gemini": "gemini_openai"}
_APART = frozenset({"xai", "gemini"})
_SURFACES = {"openai.chat": "chat", "openai.completions": "own", "openai.responses": "responses"}
_NATIVE = {
    "openai.chat": "chat",
    "openai.responses": "responses",
    "openai.completions": "completions",
    "anthropic.messages": "messages",
    "vertex.anthropic": "messages",
    "bedrock.invoke": "messages",
}
_TABLES: dict[str, tuple[str, str, str]] = {  # upstream → plugin, preset, path of its base URL
    "anthropic": ("anthropic", "anthropic", "/v1"),
    "ollama-messages": ("anthropic", "ollama_anthropic", "/v1"),
    "gemini": ("gemini", "gemini", "/v1beta"),
    "vertex": ("gemini", "vertex", ""),
    "bedrock": ("bedrock", "bedrock", ""),
    "cohere": ("cohere", "cohere", ""),
    "ollama": ("ollama", "ollama_native", ""),
}
_KEYS = {"VENDOR_KEY": "sk-vendor-0123456789abcdef", "AWS_KEY": "AKIAABCDEFGHIJKLMNOP:secret-access-key"}


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """`model` as the client names it; `plugin` that must be installed.

    `native` is the face whose dialect is the vendor's; `apart` as in `meaning_openai.read_chat`.
    """

    model: str
    plugin: str
    native: str = ""
    apart: bool = False

    def is_native(self, face: str) -> bool:
        """Say whether the face's dialect is the vendor's, so that bytes pass."""
        return face == self.native


def find_route(case: Case, face: str) -> Route | None:
    """Give the upstream that answers a client of `face` with what the case holds; None if none would.

    The gateway asks a vendor for legacy completions only if its client did; of Bedrock it asks for Claude's
    own messages only for a client that speaks them.
    """
    surface = case.surface
    provider = "openai" if case.recording.provider == "parallel_corpus" else case.recording.provider
    native = _NATIVE.get(surface, "")
    if surface == "openai.completions" and face != "completions":
        return None
    if face == "completions" and surface != "openai.completions" and not _is_text(case):
        return None
    if surface in _SURFACES:
        name = f"{provider}-{_SURFACES[surface]}"
        return Route(model=f"{name}/any", plugin="openai", native=native, apart=provider in _APART)
    if surface == "anthropic.messages":
        name = "ollama-messages" if provider == "ollama" else "anthropic"
        return Route(model=f"{name}/claude-sonnet-4-5", plugin="anthropic", native=native)
    if surface == "gemini.generate":
        name = "vertex" if provider == "vertex" else "gemini"
        return Route(model=f"{name}/gemini-2.5-flash", plugin="gemini")
    if surface == "vertex.anthropic":
        return Route(model="vertex/claude-sonnet-4-5@20250929", plugin="gemini", native=native)
    if surface == "ollama.chat":
        return Route(model="ollama/qwen3:4b", plugin="ollama")
    if surface == "cohere.chat":
        return Route(model="cohere/command-a-03-2025", plugin="cohere")
    if surface == "bedrock.converse":
        return Route(model="bedrock/amazon.nova-lite-v1:0", plugin="bedrock")
    if surface == "bedrock.invoke" and face == "messages":
        return Route(
            model="bedrock/anthropic.claude-sonnet-4-5-20250929-v1:0", plugin="bedrock", native=native
        )
    return None


@cache
def find_installed() -> frozenset[str]:
    """Name the plugins that are installed."""
    entries = importlib.metadata.entry_points(group="raven_proxy")
    return frozenset(entry.name for entry in entries if importlib.util.find_spec(entry.module) is not None)


def require_plugin(name: str) -> None:
    """Skip (in CI fail) where a plugin is not installed."""
    if name not in find_installed():
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"the plugin {name} is not installed")


def _is_text(case: Case) -> bool:
    """Say whether a reply can be told as a legacy completion: text, and nothing else."""
    if case.status >= 400 or case.meaning.error:
        return True
    return b'"transcript"' not in case.body and all(
        answer.finish in ("stop", "length") and not (answer.calls or answer.refusal or answer.reasoning)
        for answer in case.meaning.answers
    )


def describe_upstreams(
    origin: str, installed: Collection[str], patch: pytest.MonkeyPatch
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """List the `[[upstreams]]` of every vendor whose plugin is installed, and their presets.

    The presets have nothing but chat, so that all other clients are translated, as they are for vendors
    that have nothing else.
    """
    for name, value in _KEYS.items():
        patch.setenv(name, value)
    described = [
        _describe(name, preset, origin + path, "AWS_KEY" if plugin == "bedrock" else "VENDOR_KEY")
        for name, (plugin, preset, path) in _TABLES.items()
        if plugin in installed
    ]
    presets: dict[str, Any] = {}
    for provider, preset in _PRESETS.items():
        chat_only = f"{preset}_chat_only"
        presets[chat_only] = _leave_chat_alone(preset)
        described.append(_describe(f"{provider}-chat", chat_only, f"{origin}/v1", "VENDOR_KEY"))
        described.append(_describe(f"{provider}-own", preset, f"{origin}/v1", "VENDOR_KEY"))
        described.append(_describe(f"{provider}-responses", preset, f"{origin}/v1", "VENDOR_KEY"))
        described[-1]["options"] = {"api": "responses"}
    return described, presets


def _describe(name: str, preset: str, base_url: str, key: str) -> dict[str, Any]:
    described: dict[str, Any] = {"name": name, "provider": preset, "base_url": base_url, "key": {"env": key}}
    if preset == "bedrock":
        described["region"] = "us-east-1"
    if preset == "vertex":
        described["options"] = {"project": "project-id", "location": "us-central1"}
    return described


def _leave_chat_alone(preset: str) -> dict[str, Any]:
    from raven_openai.presets import PRESETS

    row = PRESETS[preset]
    changed = msgspec.structs.replace(row, lacks=row.lacks | {"openai.completions"}, serves=frozenset())
    return {k: v for k, v in msgspec.to_builtins(changed).items() if v is not None}
