"""The table of vendors is plain data that a config can rely on."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from raven_openai import OpenAI
from raven_openai.presets import PRESETS, Preset

from raven_proxy.config import decode_table
from raven_proxy.errors import ConfigError

STANDARD = {"stop", "length", "tool_calls", "content_filter", "error"}
# Recorded under another path of the same vendor, by its self-hosters, or by a vendor without a row.
ELSEWHERE = {"azure_openai", "bedrock", "gemini", "llamacpp", "mistralrs", "ollama", "vllm", "gpustack"}


def test_there_are_many_vendors() -> None:
    assert len(PRESETS) >= 25


@pytest.mark.parametrize("name", PRESETS)
def test_a_row_is_well_formed(name: str) -> None:
    preset = PRESETS[name]
    assert re.fullmatch(r"[a-z][a-z0-9_]*", name)
    if preset.base_url is not None:
        local = preset.base_url.startswith("http://127.0.0.1:")
        assert local or preset.base_url.startswith("https://")
        assert local is not preset.needs_key
        assert not preset.base_url.endswith("/")
    assert not preset.renames.keys() & preset.unsupported
    assert "model" not in preset.renames.keys() | preset.unsupported
    assert set((preset.finish_words or {}).values()) <= STANDARD


def test_recorded_traffic_went_to_these_addresses(recordings: list[Any]) -> None:
    for recording in recordings:
        url = recording.request["url"]
        preset = PRESETS.get(recording.provider)
        if recording.provider in ELSEWHERE or preset is None or preset.base_url is None:
            continue
        host = preset.base_url.split("/")[2].rpartition(".")[0]  # Together has moved from .xyz to .ai
        assert host in url.split("/")[2], recording.id


def test_every_recorded_vendor_has_a_row(recordings: list[Any]) -> None:
    renamed = {"azure_openai": "openai", "bedrock": "bedrock_mantle", "gemini": "gemini_openai"}
    assert {renamed.get(r.provider, r.provider) for r in recordings} <= PRESETS.keys()


def test_the_config_adds_and_replaces_rows() -> None:
    table = {
        "presets": {"mine": {"base_url": "https://llm.example/v1"}, "vllm": {"usage_in_stream": "never"}}
    }
    config = decode_table(table, OpenAI.Config, "raven.toml")
    names: list[str] = []
    found: list[Any] = []

    def register(provider: Any, presets: tuple[str, ...]) -> None:
        found.append(provider)
        names.extend(presets)

    OpenAI(config).register_providers(register)
    assert {"mine", "vllm", "groq"} <= set(names)
    assert "openai" not in names
    assert found[0].base_url("mine") == "https://llm.example/v1"
    assert found[0].base_url("vllm") is None
    assert found[0].needs_key("groq")
    assert not found[0].needs_key("ollama")
    assert found[0].known_models("openai") == ()


def test_a_misspelt_key_of_a_row_is_refused() -> None:
    with pytest.raises(ConfigError, match="base_ulr"):
        decode_table({"presets": {"mine": {"base_ulr": "x"}}}, OpenAI.Config, "raven.toml")
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"usage_in_stream": "sometimes"}, Preset)


def test_the_first_faces_are_the_three_of_the_contract() -> None:
    faces: list[Any] = []
    OpenAI(OpenAI.Config()).register_faces(faces.append)
    assert [(f.path, f.methods, f.scope, f.dialect.name) for f in faces[:3]] == [
        ("/v1/chat/completions", ("POST",), "chat:write", "openai.chat"),
        ("/v1/completions", ("POST",), "chat:write", "openai.completions"),
        ("/v1/embeddings", ("POST",), "embeddings:write", "openai.embeddings"),
    ]


def test_the_readme_names_every_vendor() -> None:
    text = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    assert [name for name in PRESETS if f"`{name}`" not in text] == []
    without = {name for name, preset in PRESETS.items() if preset.base_url is None}
    assert [name for name in without if text.count(f"`{name}`") < 2] == []


def test_the_readmes_row_is_one_that_the_config_takes() -> None:
    text = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    blocks = [tomllib.loads(block.split("```")[0]) for block in text.split("```toml\n")[1:]]
    config = decode_table(blocks[1]["plugin"]["openai"], OpenAI.Config, "README.md")
    assert config.presets["mine"].unsupported == {"logit_bias"}
