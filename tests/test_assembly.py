"""Assembly: a config becomes a pipeline, or one line that says what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raven_proxy.assembly import assemble
from raven_proxy.config import Config, ModelAlias, UpstreamConfig
from raven_proxy.errors import ConfigError
from raven_proxy.faces import Face, read_nothing

HEAD = """from raven_proxy import Face, Reply, hookimpl, read_nothing
def face(path="/x", **fields): return Face(name="x", path=path, read_call=read_nothing, **fields)
"""
PROVIDER = """
class Vendor:
    name = "vendor"
    def base_url(self, preset): return "http://vendor.invalid/v1"
    def known_models(self, preset): return ()
"""
CORE = Face(name="core", path="/core", read_call=read_nothing)


@pytest.fixture
def build(tmp_path: Path) -> Callable[..., Any]:
    """Assemble a config with one drop-in plugin, given as text."""

    def run(text: str = "", **config: Any) -> Any:
        (tmp_path / "plug.py").write_text(HEAD + PROVIDER + text)
        return assemble(Config(plugins=(), **config), (CORE,), tmp_path)

    return run


REGISTER = "\n@hookimpl\ndef register_providers(register):\n    register(Vendor(), presets=('preset',){})\n"


def test_a_config_becomes_a_pipeline(build: Any) -> None:
    upstream = UpstreamConfig(name="main", provider="preset")
    pipeline = build(
        REGISTER.format(""), upstreams=(upstream,), models=(ModelAlias(name="fast", target="main/x"),)
    )
    assert [plugin.name for plugin in pipeline.plugins] == ["plug"]
    assert pipeline.faces() == (CORE,)
    assert list(pipeline.upstreams) == ["main"]
    assert pipeline.upstreams["main"].preset == "preset"
    assert pipeline.catalogue.resolve("fast")[0].model == "x"
    assert not any(pipeline.hooks.values())


def test_an_implicit_provider_is_an_upstream_unless_the_config_has_one_of_its_name(build: Any) -> None:
    text = REGISTER.format(", implicit=True")
    assert build(text).upstreams["vendor"].implicit
    named = UpstreamConfig(name="vendor", provider="preset")
    assert not build(text, upstreams=(named,)).upstreams["vendor"].implicit


def test_a_face_with_two_methods_is_listed_once(build: Any) -> None:
    text = "\n@hookimpl\ndef register_faces(register):\n    register(face(methods=('GET', 'POST')))\n"
    assert [face.name for face in build(text).faces()] == ["core", "x"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            'def register_faces(register):\n    register(face("/core"))',
            "plug.py:10: POST /core is already served by 'core'",
        ),
        ('def register_faces(register):\n    register("x")', "plug.py:10: expected a Face, got str"),
        (
            "def register_routes(register):\n    register(face())",
            "the route /x needs an async serve function",
        ),
        (
            "def register_routes(register):\n    register(face(serve=print))",
            "the route /x needs an async serve function",
        ),
        (
            "def register_providers(register):\n    register(Vendor())\n    register(Vendor())",
            "plug.py:11: the provider 'vendor' is already registered",
        ),
        (
            "def register_providers(register):\n    register(Vendor(), presets=('vendor',))",
            "the provider 'vendor' is already registered",
        ),
    ],
)
def test_what_a_plugin_registers_wrongly_is_an_error_at_its_line(build: Any, text: str, words: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        build(f"@hookimpl\n{text}\n")
    assert words in str(refusal.value)
    assert str(refusal.value).startswith("plugin plug: register_")


@pytest.mark.parametrize(
    ("upstream", "words"),
    [
        (
            UpstreamConfig(name="main", provider="none"),
            "[[upstreams]] main: provider 'none' is unknown; known: preset, vendor",
        ),
        (UpstreamConfig(name="chat", provider="vendor"), "[[upstreams]] chat: this name is a path under /v1"),
        (UpstreamConfig(name="main", provider="vendor", base_url="x"), "is not an http(s) URL"),
    ],
)
def test_an_upstream_that_cannot_be_is_named(build: Any, upstream: UpstreamConfig, words: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        build(REGISTER.format(""), upstreams=(upstream,))
    assert words in str(refusal.value)


CHOOSY = """
    def check_options(self, preset, options):
        if "ap" in options:
            from raven_proxy.errors import ConfigError
            raise ConfigError(f"options of {preset}: unknown key 'ap'; did you mean 'api'?")
"""


def test_a_provider_may_judge_options_at_the_start(build: Any) -> None:
    """A misspelt option stops the start, with the upstream's name before the provider's words."""
    text = CHOOSY + REGISTER.format("")
    assert build(text, upstreams=(UpstreamConfig(name="main", provider="preset", options={"api": 1}),))
    wrong = UpstreamConfig(name="main", provider="preset", options={"ap": 1})
    with pytest.raises(ConfigError) as refusal:
        build(text, upstreams=(wrong,))
    expected = "[[upstreams]] main: options of preset: unknown key 'ap'; did you mean 'api'?"
    assert expected in str(refusal.value)


def test_without_a_provider_plugin_that_is_said() -> None:
    with pytest.raises(ConfigError, match="known: none; no provider plugin is on"):
        assemble(Config(plugins=(), upstreams=(UpstreamConfig(name="a", provider="openai"),)), ())
