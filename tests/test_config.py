"""The configuration: strict, complete without a file, and wrong in one line that names the remedy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from raven_proxy.config import Config, ModelAlias, Secret, UpstreamConfig, decode_table, load
from raven_proxy.errors import ConfigError


def write(folder: Path, text: str) -> Path:
    path = folder / "raven.toml"
    path.write_text(text)
    return path


def test_without_a_file_every_default_applies() -> None:
    assert load(None) == Config()
    assert Config().address() == ("127.0.0.1", 4000)


def test_options_of_the_command_line_win_and_none_is_no_option(tmp_path: Path) -> None:
    path = write(tmp_path, 'listen = "127.0.0.1:1"\ndata_dir = "a"\n')
    config = load(path, listen="127.0.0.1:2", data_dir=None)
    assert (config.listen, config.data_dir) == ("127.0.0.1:2", str(tmp_path / "a"))


def test_relative_paths_are_read_from_the_files_folder(tmp_path: Path) -> None:
    """Every command means the same database, wherever it is called."""
    (tmp_path / "key").write_text("sk-from-a-file")
    upstream = '[[upstreams]]\nname = "a"\nprovider = "openai"\nkey = { file = "key" }\nca_file = "ca.pem"\n'
    config = load(write(tmp_path, 'plugins_dir = "p"\n' + upstream))
    assert (config.data_dir, config.plugins_dir) == (str(tmp_path / "data"), str(tmp_path / "p"))
    assert config.upstreams[0].key is not None
    assert config.upstreams[0].key.reveal() == "sk-from-a-file"
    assert config.upstreams[0].ca_file == str(tmp_path / "ca.pem")


def test_relative_paths_are_so_at_any_depth(tmp_path: Path) -> None:
    """The catalogue, and the secrets of plugins and of an upstream's options; a mark at the start is none."""
    config = load(write(tmp_path, "\ufeff" + """
        catalog = "prices.json"
        plugin.alerts.smtp = { password = { file = "smtp" }, ca_file = "ca.pem" }
        plugin.webhooks.endpoints = [{ url = "https://x", secret = { file = "/etc/hook" } }]
        upstreams = [{ name = "a", provider = "b", options = { access_key_id = { file = "aws" } } }]
    """))  # fmt: skip
    assert config.catalog == str(tmp_path / "prices.json")
    assert config.plugin["alerts"]["smtp"]["password"] == {"file": str(tmp_path / "smtp")}
    assert config.plugin["alerts"]["smtp"]["ca_file"] == str(tmp_path / "ca.pem")
    assert config.plugin["webhooks"]["endpoints"][0]["secret"] == {"file": "/etc/hook"}
    assert config.upstreams[0].options["access_key_id"] == {"file": str(tmp_path / "aws")}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("max_body_byte = 1", "unknown key 'max_body_byte'; did you mean 'max_body_bytes'?"),
        (
            "[[upstreams]]\nname='a'\nprovider='b'\nbase_ulr='c'",
            "[upstreams[0]] unknown key 'base_ulr'; did you mean 'base_url'?",
        ),
        ("[[models]]\nname='a'\ntraget='b'", "[models[0]] unknown key 'traget'; did you mean 'target'?"),
        ("[[upstreams]]\nname='a'\nprovider='b'\nkey={ evn='X' }", "unknown key 'evn'; did you mean 'env'?"),
        ("xyzzy = 1", "known keys: access_log,"),
        ("idle_timeout_s = 0", "idle_timeout_s: expected `float` > 0"),
        ("send_timeout_s = inf", "send_timeout_s: expected `float` <= 2000000"),
        ("drain_timeout_s = nan", "drain_timeout_s: expected `float` > 0"),
        ("models_refresh_s = 1e9", "models_refresh_s: expected `float` <= 2000000"),
        ("max_concurrency = 'many'", "max_concurrency: expected `int`"),
        ("[[upstreams]]\nname='a'", "upstreams[0]: object missing required field `provider`"),
        ("listen = '4000'", 'is not "host:port"'),
        ("listen = '127.0.0.1:99999'", 'is not "host:port"'),
        ("trusted_proxies = ['10.0.0.0/33']", "trusted_proxies:"),
        ("[[upstreams]]\nname='a b'\nprovider='b'", "may hold only letters"),
        (
            "[[upstreams]]\nname='a'\nprovider='b'\n[[upstreams]]\nname='a'\nprovider='b'",
            "'a' is empty or used twice",
        ),
        ("[[models]]\nname=''\ntarget='a/b'", "'' is empty or used twice"),
        ("plans.gold.rpm = 5", "[plans.gold] unknown key 'rpm'"),
        (
            "plans.a.requests_per_day = 1\nplans.gold.requests_per_day = -1",
            "plans.gold.requests_per_day: expected",
        ),
        ("[[models]]\nname='fast'", "[[models]] fast: set target or targets"),
        (
            "[[upstreams]]\nname='a'\nprovider='b'\nkey={ env='RAVEN_NO_SUCH' }",
            "[[upstreams]] a: key: the environment variable RAVEN_NO_SUCH is not set",
        ),
        ("listen = ", "not valid TOML"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_with_file_and_place(tmp_path: Path, text: str, words: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as refusal:
        load(path)
    message = str(refusal.value)
    assert message.startswith(f"{path}: ")
    assert words in message
    assert "\n" not in message


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml: cannot be read: No such file"):
        load(tmp_path / "none.toml")
    (tmp_path / "latin.toml").write_bytes(b'data_dir = "\xff"')
    with pytest.raises(ConfigError, match=r"latin\.toml: cannot be read"):
        load(tmp_path / "latin.toml")


@pytest.mark.parametrize(
    ("listen", "address", "loopback"),
    [
        ("127.0.0.1:4000", ("127.0.0.1", 4000), True),
        ("localhost:1", ("localhost", 1), True),
        ("[::1]:4000", ("::1", 4000), True),
        ("0.0.0.0:80", ("0.0.0.0", 80), False),
        (":80", ("127.0.0.1", 80), True),
        ("gateway.example:80", ("gateway.example", 80), False),
    ],
)
def test_an_address_is_split_and_judged(listen: str, address: tuple[str, int], *, loopback: bool) -> None:
    config = Config(listen=listen)
    assert config.address() == address
    assert config.is_loopback() is loopback


def test_a_secret_is_read_from_its_place_and_never_written_in_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAVEN_TEST_KEY", "from-env")
    (tmp_path / "key").write_text("from-file\n")
    (tmp_path / "empty").write_text("\n")
    assert Secret(env="RAVEN_TEST_KEY").reveal() == "from-env"
    assert Secret(file=str(tmp_path / "key")).reveal() == "from-file"
    for broken in (
        Secret(),
        Secret(env="A", file="b"),
        Secret(file=str(tmp_path / "empty")),
        Secret(file=str(tmp_path / "none")),
    ):
        with pytest.raises(ConfigError):
            broken.reveal()
    with pytest.raises(ConfigError, match=r"key: expected `object . null`, got `str`"):
        decode_table({"name": "a", "provider": "b", "key": "sk-in-the-file"}, UpstreamConfig, "x")


def test_targets_are_listed_in_order() -> None:
    assert ModelAlias(name="a", target="x/1", targets=("y/2", "z/3")).all_targets() == ("x/1", "y/2", "z/3")


def test_a_plugins_table_is_decoded_by_the_same_rules() -> None:
    class Settings(msgspec.Struct, forbid_unknown_fields=True):
        models: tuple[str, ...] = ()

    table: dict[str, Any] = {"model": []}
    with pytest.raises(ConfigError, match=r"\[plugin\.x\]: unknown key 'model'; did you mean 'models'\?"):
        decode_table(table, Settings, "[plugin.x]")
