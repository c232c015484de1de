"""T132: a config file that is wrong is refused by file, table, key and remedy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from .refusals import PLAIN, Refusal, refused

pytestmark = pytest.mark.usefixtures("log_lines")


UPSTREAM = {"name": "a", "provider": "openai", "base_url": "http://127.0.0.1:1/v1"}
WRONG_CONFIGS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "unknown key": ({"max_body_byte": 5}, ["'max_body_byte'", "'max_body_bytes'"]),
    "unknown key far from any": ({"zzz": 5}, ["'zzz'", "max_body_bytes"]),
    "unknown table": ({"upstream": [UPSTREAM]}, ["'upstream'", "'upstreams'"]),
    "unknown key of an upstream": (
        {"upstreams": [UPSTREAM, {**UPSTREAM, "name": "b", "base_ur": "x"}]},
        ["upstreams[1]", "'base_ur'", "'base_url'"],
    ),
    "unknown key of an alias": (
        {"models": [{"name": "x", "targget": "a/b"}]},
        ["models[0]", "'targget'", "'target'"],
    ),
    "unknown key of a secret": (
        {"upstreams": [{**UPSTREAM, "key": {"envv": "X"}}]},
        ["upstreams[0].key", "'envv'", "'env'"],
    ),
    "unknown key of a plugin": (
        {"plugins": ["openai"], "plugin": {"openai": {"preset": {}}}},
        ["[plugin.openai]", "'preset'", "'presets'"],
    ),
    "wrong type": ({"max_body_bytes": "32 MB"}, ["max_body_bytes", "int", "str"]),
    "wrong type in a list": ({"trusted_proxies": [1]}, ["trusted_proxies[0]"]),
    "wrong type of a plugin's key": (
        {"plugins": ["openai", "demo"], "plugin": {"demo": {"delay_s": "slow"}}},
        ["[plugin.demo]", "delay_s"],
    ),
    "not a table": ({"plugin": {"openai": 5}}, ["plugin"]),
    "zero": ({"idle_timeout_s": 0}, ["idle_timeout_s"]),
    "negative": ({"max_concurrency": -1}, ["max_concurrency"]),
    "a plugin's limit": ({"plugin": {"openai": {"timeout_s": -1}}}, ["[plugin.openai]", "timeout_s"]),
    "not a level": ({"log_level": "loud"}, ["log_level"]),
    "a plan's figure": ({"plans": {"gold": {"tokens_per_day": -1}}}, ["plans.gold.tokens_per_day"]),
    "no data folder": ({"data_dir": "raven.toml"}, ["data_dir", "raven.toml is not a folder"]),
    "listen without port": ({"listen": "127.0.0.1"}, ["listen"]),
    "listen on a port too high": ({"listen": "127.0.0.1:70000"}, ["listen"]),
    "no network": ({"trusted_proxies": ["10.0.0.0/33"]}, ["trusted_proxies", "10.0.0.0/33"]),
    "a network with host bits": ({"trusted_proxies": ["10.0.0.1/8"]}, ["trusted_proxies"]),
    "missing name": ({"upstreams": [{"provider": "openai"}]}, ["upstreams[0]", "name"]),
    "a name twice": ({"upstreams": [UPSTREAM, UPSTREAM]}, ["upstreams", "'a'"]),
    "a name that is a path": ({"upstreams": [{**UPSTREAM, "name": "chat"}]}, ["chat"]),
    "a name with a slash": ({"upstreams": [{**UPSTREAM, "name": "a/b"}]}, ["a/b"]),
    "unknown provider": ({"upstreams": [{**UPSTREAM, "provider": "opnai"}]}, ["opnai", "openai"]),
    "no URL": ({"upstreams": [{**UPSTREAM, "base_url": "ftp://x"}]}, ["ftp://x"]),
    "half a URL": ({"upstreams": [{**UPSTREAM, "base_url": "http://[::1"}]}, ["base_url"]),
    "an impossible port": ({"upstreams": [{**UPSTREAM, "base_url": "http://a:99999/v1"}]}, ["base_url"]),
    "an alias of nothing": (
        {"upstreams": [UPSTREAM], "models": [{"name": "x", "target": "b/c"}]},
        ["x", "b/c"],
    ),
    "an alias without target": ({"models": [{"name": "x"}]}, ["x", "target"]),
    "an alias twice": (
        {"upstreams": [UPSTREAM], "models": [{"name": "x", "target": "a/b"}, {"name": "x", "target": "a/c"}]},
        ["models", "'x'"],
    ),
    "a secret in the file": ({"upstreams": [{**UPSTREAM, "key": "sk-inline"}]}, ["upstreams[0].key"]),
    "a secret of nowhere": ({"upstreams": [{**UPSTREAM, "key": {}}]}, ["a", "key", "env"]),
    "a secret of two places": ({"upstreams": [{**UPSTREAM, "key": {"env": "A", "file": "b"}}]}, ["key"]),
    "a missing variable": (
        {"upstreams": [{**UPSTREAM, "key": {"env": "RAVEN_NO_SUCH"}}]},
        ["[[upstreams]] a", "RAVEN_NO_SUCH"],
    ),
    "an empty variable": ({"upstreams": [{**UPSTREAM, "key": {"env": "RAVEN_EMPTY"}}]}, ["a", "RAVEN_EMPTY"]),
    "a missing file": ({"upstreams": [{**UPSTREAM, "key": {"file": "/no/such"}}]}, ["a", "/no/such"]),
    "a missing ca file": (
        {"upstreams": [{**UPSTREAM, "base_url": "https://x/v1", "ca_file": "/no/ca"}]},
        ["a", "ca_file"],
    ),
}


@pytest.mark.parametrize("name", WRONG_CONFIGS)
def test_t132_a_wrong_config_is_refused_by_name(
    refusal: Refusal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """File, table, key and the nearest known one, in one line; `check` and `serve` say the same."""
    monkeypatch.setenv("RAVEN_EMPTY", "")
    config, words = WRONG_CONFIGS[name]
    said = refusal({**PLAIN, **config})
    assert all(word in said for word in words), said
    assert "sk-inline" not in said
    if not name.startswith(("a secret of", "a missing", "an empty")) and "plugin" not in config:
        assert "raven.toml" in said or "upstream" in said or "models" in said


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('a = 1\nlisten = "127.0.0.1:4000', ["not valid TOML", "Unterminated string"]),
        ("a = 1\na = 2\n", ["not valid TOML", "line 2"]),
        ("plugins = [\n", ["not valid TOML"]),
        ("\x00", ["not valid TOML"]),
    ],
)
def test_t132_what_is_no_toml_is_refused_with_its_line(refusal: Refusal, text: str, words: list[str]) -> None:
    """A file that does not parse is named with the line."""
    said = refusal(text)
    assert all(word in said for word in [*words, "raven.toml"]), said


def test_t132_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    """No such file, no text: a line that says so."""
    broken = tmp_path / "latin.toml"
    broken.write_bytes(b"listen = '\xe9'\n")
    for path in (tmp_path / "nothing.toml", broken):
        for command in ("check", "serve"):
            assert path.name in refused(command, "--config", str(path))
