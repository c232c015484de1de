"""The files in `config/`: complete, true, and ready to use."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from raven_proxy import plugins
from raven_proxy.assembly import assemble
from raven_proxy.cli import main
from raven_proxy.config import Config, ModelAlias, Secret, UpstreamConfig, load

FOLDER = Path(__file__).parents[2] / "config"
EXAMPLE = FOLDER / "raven.toml"
PLUGINS = Path(__file__).parents[2] / "plugins"


def uncommented() -> dict[str, Any]:
    """Read the example with every setting in force: "#" and no space after it is what hides one."""
    return tomllib.loads(re.sub(r"(?m)^#(?=[a-z\[])", "", EXAMPLE.read_text()))


def defaults(kind: type[msgspec.Struct]) -> dict[str, Any]:
    """Give each field's default, as TOML would hold it; a required field has none."""
    found = {}
    for field in msgspec.structs.fields(kind):
        value = field.default_factory() if field.default_factory is not msgspec.NODEFAULT else field.default
        found[field.encode_name] = list(value) if isinstance(value, tuple) else value
    return found


def check(shown: dict[str, Any], kind: type[msgspec.Struct], also: set[str] = frozenset()) -> None:  # type: ignore[assignment]
    """Assert that a table shows every key of a Struct and no other, at its default where it has one."""
    expected = defaults(kind)
    assert set(shown) - also == set(expected)
    for name, value in expected.items():
        if value is not None and value is not msgspec.NODEFAULT and value != [] and value != {}:
            assert shown[name] == value, f"{name} is not at its default"


def test_as_it_is_the_example_says_what_no_file_would() -> None:
    """`config/raven.toml` loads as it is, and changes nothing."""
    folder = str(EXAMPLE.parent / "data")  # paths are read from the file's folder
    assert load(EXAMPLE) == msgspec.structs.replace(Config(), data_dir=folder)
    result = CliRunner().invoke(main, ["check", "--config", str(EXAMPLE)])
    assert result.output.startswith("ok: "), result.output


def test_every_setting_is_shown_with_its_default() -> None:
    """Every top-level key of the config is in the example with its default value, and no other is."""
    shown = uncommented()
    check(shown, Config)
    for name in ("trusted_proxies",):
        assert shown[name] == []
    assert tuple(shown["plugins"]) == plugins.find_first_party()


def test_every_setting_of_upstreams_and_models_is_shown() -> None:
    """The first table of each kind shows every key, all tables together those that exclude each other."""
    shown = uncommented()
    check(shown["upstreams"][0], UpstreamConfig)
    together: dict[str, Any] = {}
    for table in shown["models"]:
        together |= table
    check(together, ModelAlias)
    assert set(shown["upstreams"][0]["key"]) <= {f.encode_name for f in msgspec.structs.fields(Secret)}


def test_every_setting_of_every_plugin_is_shown() -> None:
    """Each first-party plugin has a table with every key of its `Config`, and its time limit."""
    shown = uncommented()["plugin"]
    loaded = {plugin.name: type(plugin.instance) for plugin in plugins.load(Config(), None)}
    assert (
        set(shown)
        == set(loaded)
        == {path.name.removeprefix("raven-") for path in PLUGINS.iterdir() if path.is_dir()}
    )
    for name, kind in loaded.items():
        settings = getattr(kind, "Config", None)
        assert shown[name]["timeout_s"] == 10.0
        check(shown[name], settings or msgspec.defstruct("None_", []), {"timeout_s"})


def test_with_every_setting_in_force_the_example_still_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The example with nothing commented out is a valid config."""
    for name in re.findall(r'env = "([A-Z_]+)"', EXAMPLE.read_text()):
        monkeypatch.setenv(name, "sk-test")
    (tmp_path / "plugins.d").mkdir()
    path = tmp_path / "raven.toml"
    text = re.sub(r"(?m)^#(?=[a-z\[])", "", EXAMPLE.read_text())
    path.write_text(text.replace('"plugins.d"', f'"{tmp_path}/plugins.d"'))
    config = load(path)
    pipeline = assemble(config, (), tmp_path / "plugins.d")
    assert set(pipeline.upstreams) == {"openai-main", "local", "demo"}
    assert pipeline.catalogue.resolve("safe")[1].upstream.name == "local"


def written_elsewhere() -> list[Any]:
    """Find the TOML blocks of every README but the main one, which is tested with the rest of its code."""
    root = FOLDER.parent
    paths = [*PLUGINS.glob("*/README.md"), *(root / "examples").rglob("README.md")]
    return [
        pytest.param(block, id=f"{path.parent.name}-{number}")
        for path in sorted(paths)
        for number, block in enumerate(re.findall(r"(?ms)^```toml\n(.*?)^```$", path.read_text()))
    ]


@pytest.mark.parametrize("text", written_elsewhere())
def test_a_config_in_a_readme_is_one(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every TOML block in the README of a plugin or an example is a config that loads."""
    for name in re.findall(r'env = "(\w+)"', text):
        monkeypatch.setenv(name, "sk-test")
    for name in re.findall(r'file = "([\w.-]+)"', text):
        (tmp_path / name).write_text("sk-test")
    path = tmp_path / "raven.toml"
    path.write_text(text)
    config = load(path)
    installed = {plugin.name for plugin in plugins.load(Config(), None)}
    if set(config.plugins or ()) | set(config.plugin) <= installed:
        assert assemble(config, ()).config is config


def test_every_setting_is_explained() -> None:
    """Above every setting stands what it means, in words."""
    lines = EXAMPLE.read_text().splitlines()
    for number, line in enumerate(lines):
        if re.match(r"#[a-z_]+ = ", line) and not line.startswith(
            ("#name =", "#provider =", "#timeout_s", "#targets")
        ):
            assert lines[number - 1].startswith("# "), f"line {number + 1}: {line}"


def test_every_time_and_size_says_its_unit() -> None:
    """Names end in `_s` or `_bytes` where the value is a time or a size."""
    for name, value in defaults(Config).items():
        if isinstance(value, float):
            assert name.endswith("_s")
        elif isinstance(value, int) and not isinstance(value, bool):
            assert name.endswith("_bytes") or name in {"workers", "max_concurrency"}


def test_nginx_and_the_gateway_agree_about_sizes_and_times() -> None:
    """`config/nginx.conf` lets pass what the gateway's defaults let pass."""
    text = (FOLDER / "nginx.conf").read_text()

    def value(name: str) -> int:
        found = re.search(rf"^\s*{name} (\d+)[ms]", text, re.MULTILINE)
        assert found, name
        return int(found[1])

    config = Config()
    assert value("client_max_body_size") * 2**20 == config.max_body_bytes
    assert value("client_body_timeout") == config.body_timeout_s
    assert value("send_timeout") == config.send_timeout_s
    assert value("proxy_read_timeout") >= max(config.first_byte_timeout_s, config.idle_timeout_s)
    assert value("keepalive_timeout") < 75


@pytest.mark.parametrize("name", ["raven-proxy.service", "raven-proxy.socket"])
def test_the_systemd_units_are_valid(name: str, tmp_path: Path) -> None:
    """`systemd-analyze verify` has nothing to say against the units, and the drain fits into its time."""
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed")
    for unit in ("raven-proxy.service", "raven-proxy.socket"):
        text = (FOLDER / unit).read_text().replace("/opt/raven-proxy/bin/raven-proxy", "/bin/true")
        (tmp_path / unit).write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", name], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    about_ours = [line for line in done.stderr.splitlines() if line.startswith("raven-proxy")]
    assert about_ours == []
    stop = re.search(r"TimeoutStopSec=(\d+)", (FOLDER / "raven-proxy.service").read_text())
    assert stop is not None
    assert int(stop[1]) > Config().drain_timeout_s
