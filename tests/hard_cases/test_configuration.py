"""T129, T132, T133: a start that is refused says what is wrong, in one line, and binds nothing."""

from __future__ import annotations

import re
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from raven_proxy.cli import main
from raven_proxy.harness import write_toml

pytestmark = pytest.mark.usefixtures("log_lines")

Refusal = Callable[..., str]
PLAIN = {"plugins": ["openai"]}
HEAD = "from raven_proxy import Face, hookimpl, read_nothing\n"


@pytest.fixture
def refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Refusal:
    """Run `check` and `serve` on a config and drop-ins; both must refuse, and `serve` must say the same.

    Gives what was said. With `only` just that command runs: some things are only known at the start.
    """
    for name in ("RAVEN_ADMIN_KEY", "RAVEN_SECRET", "RAVEN_CONFIG"):
        monkeypatch.delenv(name, raising=False)

    def run(
        config: Mapping[str, Any] | str = PLAIN,
        files: Mapping[str, str] | None = None,
        *,
        only: str | None = None,
        listen: str = "127.0.0.1:0",
    ) -> str:
        folder = tmp_path / "plugins"
        folder.mkdir(exist_ok=True)
        for name, text in (files or {}).items():
            (folder / name).write_text(text)
        path = tmp_path / "raven.toml"
        if not isinstance(config, str):
            config = write_toml({"data_dir": str(tmp_path / "data"), "listen": listen, **config})
        path.write_text(config)
        said = [
            _refused(command, "--config", str(path), "--plugins-dir", str(folder))
            for command in ([only] if only else ["check", "serve"])
        ]
        assert len(set(said)) == 1
        return said[0]

    return run


def _refused(*arguments: str) -> str:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 1, (result.exit_code, result.output, result.exception)
    assert "listening" not in result.stdout
    assert result.stderr.count("\n") == 1, result.stderr
    assert result.stderr.startswith("raven-proxy: ")
    assert "Traceback" not in result.output
    return result.stderr


# -- T129: plugins that cannot be loaded --------------------------------------------------

BROKEN_FILES: dict[str, tuple[str, list[str]]] = {
    "syntax": ("def f(:\n    pass\n", ["guard.py", ":1:"]),
    "name error": ("x = 1\ny = undefined_name\n", ["guard.py", ":2:", "undefined_name"]),
    "missing dependency": ("import os\n\nimport no_such_package\n", ["guard.py", ":3:", "no_such_package"]),
    "exit": ("import sys\nsys.exit(3)\n", ["guard.py", ":2:"]),
    "not utf-8": ("# coding: ascii\nx = 'é'\n", ["guard.py"]),
    "api version": ("api_version = 99\n", ["guard", "99"]),
    "hook typo": (
        HEAD + "@hookimpl\nasync def check_requst(exchange):\n    pass\n",
        ["guard", "check_requst", "did you mean 'check_request'"],
    ),
    "unknown hook": (HEAD + "@hookimpl\ndef zzz(exchange):\n    pass\n", ["guard", "zzz", "authenticate"]),
    "wrong colour": (
        HEAD + "@hookimpl\ndef check_request(exchange):\n    pass\n",
        ["guard", "check_request", "async def"],
    ),
    "wrong colour of a stage": (
        HEAD + "@hookimpl\nasync def open_stage(exchange):\n    pass\n",
        ["guard", "open_stage", "plain def"],
    ),
    "wrong argument": (
        HEAD + "@hookimpl\nasync def check_request(request):\n    pass\n",
        ["guard", "check_request", "request"],
    ),
    "a wrapper": (
        HEAD + "@hookimpl(wrapper=True)\ndef open_stage(exchange):\n    return (yield)\n",
        ["guard", "open_stage"],
    ),
    "init raises": (
        HEAD + "class Plugin:\n    def __init__(self):\n        raise RuntimeError('no license')\n",
        ["guard", "no license"],
    ),
    "a face of its own on a core route": (
        HEAD + "@hookimpl\ndef register_faces(register):\n"
        "    register(Face(name='mine', path='/health/live', methods=('GET',), read_call=read_nothing))\n",
        ["guard", "/health/live", "guard.py:4"],
    ),
    "a route clash with another plugin": (
        HEAD + "@hookimpl\ndef register_faces(register):\n"
        "    register(Face(name='mine', path='/v1/chat/completions', read_call=read_nothing))\n",
        ["guard", "/v1/chat/completions", "guard.py:4"],
    ),
    "a route without serve": (
        HEAD + "@hookimpl\ndef register_routes(register):\n"
        "    register(Face(name='mine', path='/x', read_call=read_nothing))\n",
        ["guard", "/x", "guard.py:4"],
    ),
    "a face that is none": (
        HEAD + "@hookimpl\ndef register_faces(register):\n    register('chat')\n",
        ["guard", "Face", "guard.py:4"],
    ),
    "a provider twice": (
        HEAD + "class P:\n    name = 'openai'\n@hookimpl\ndef register_providers(register):\n    register(P())\n",
        ["guard", "openai", "already"],
    ),
    "register raises": (
        HEAD + "@hookimpl\ndef register_faces(register):\n    raise KeyError('oops')\n",
        ["guard", "register_faces", "oops", "guard.py:4"],
    ),
}


@pytest.mark.parametrize("name", BROKEN_FILES)
def test_t129_a_broken_drop_in_stops_the_start(refusal: Refusal, name: str) -> None:
    """A plugin file with a fault is named, with its line, and nothing starts without it."""
    text, words = BROKEN_FILES[name]
    said = refusal(files={"guard.py": text})
    assert all(word in said for word in words), said


def test_t129_startup_that_raises_stops_the_start(refusal: Refusal) -> None:
    """What only shows at the start is refused there, naming plugin and hook."""
    text = HEAD + "@hookimpl\nasync def startup(gateway):\n    raise OSError('no disk')\n"
    said = refusal(files={"guard.py": text}, only="serve")
    assert "guard" in said
    assert "startup" in said
    assert "no disk" in said


def test_t129_a_plugin_that_is_absent_is_never_just_left_out(refusal: Refusal) -> None:
    """Named in the config but not installed: refused, with what is installed."""
    said = refusal({"plugins": ["auth-keys", "guardrailz", "openai"]})
    assert "guardrailz" in said
    assert "auth-keys" in said
    said = refusal({"plugins": ["openai"], "plugin": {"auth-keys": {"timeout_s": 1}}})
    assert "auth-keys" in said
    assert "not on" in said


def test_t129_a_name_twice_is_refused(refusal: Refusal) -> None:
    """The same plugin twice, or a file with the name of an installed plugin, is refused."""
    assert "'openai' is named twice" in refusal({"plugins": ["openai", "openai"]})
    said = refusal({"plugins": ["auth-keys", "openai"]}, {"auth-keys.py": HEAD})
    assert "auth-keys.py" in said


def test_t129_a_missing_folder_is_refused(tmp_path: Path) -> None:
    """A drop-in folder that is not there would be plugins that are silently absent."""
    missing = tmp_path / "nowhere"
    for command in ("check", "serve"):
        assert str(missing) in _refused(command, "--plugins-dir", str(missing))


def package(folder: Path, dist: str, module: str, code: str, name: str = "fake") -> None:
    """Put an installed package with a plugin into `folder`."""
    info = folder / f"{dist}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {dist}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[raven_proxy]\n{name} = {module}:Plugin\n")
    (folder / f"{module}.py").write_text(code)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import no_such_package\n", ["ModuleNotFoundError", "no_such_package"]),
        ("Plug = 1\n", ["AttributeError"]),
        ("class Plugin:\n    api_version = 2\n", ["API 2"]),
        ("import sys\nsys.exit()\n", ["SystemExit"]),
        ("class Plugin:\n    def __init__(self):\n        1 / 0\n", ["ZeroDivisionError"]),
    ],
)
def test_t129_an_installed_plugin_that_cannot_be_imported(
    refusal: Refusal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, words: list[str]
) -> None:
    """The same for a package: its name and what is wrong."""
    module = f"raven_fake_{abs(hash(code))}"
    package(tmp_path / "site", "raven-fake", module, code)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    said = refusal({"plugins": ["fake", "openai"]})
    assert all(word in said for word in ["fake", *words]), said


def test_t129_two_packages_with_one_name(
    refusal: Refusal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two packages that offer a plugin of one name: neither is chosen silently."""
    for number in (1, 2):
        package(tmp_path / "site", f"raven-fake{number}", f"raven_fakes{number}", "class Plugin: pass\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    said = refusal({"plugins": ["fake", "openai"]})
    assert "raven-fake1, raven-fake2" in said


# -- T132: the file itself ----------------------------------------------------------------

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
    "an alias of nothing": ({"upstreams": [UPSTREAM], "models": [{"name": "x", "target": "b/c"}]}, ["x", "b/c"]),
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
        ('listen = "127.0.0.1:4000', ["not valid TOML", "line 1"]),
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
            assert path.name in _refused(command, "--config", str(path))


# -- T133: secrets ------------------------------------------------------------------------

WEAK = ["", "   ", "abcd", "changeme", "secret", "password123", "x" * 64, "testtesttesttesttesttest", "1234" * 10]
STRONG = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822c"


@pytest.mark.parametrize("value", WEAK)
def test_t133_a_weak_secret_is_refused_where_others_can_reach_us(
    refusal: Refusal, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    """RAVEN_SECRET that is empty, short or a default: no start on an address that is not loopback."""
    monkeypatch.setenv("RAVEN_SECRET", value)
    said = refusal(only="serve", listen="0.0.0.0:0")
    assert "RAVEN_SECRET" in said
    assert "openssl rand" in said
    if len(value) > 3 and value.strip():
        assert value not in said


def test_t133_an_empty_secret_is_refused_everywhere(
    refusal: Refusal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Set but empty is a mistake, on loopback too."""
    monkeypatch.setenv("RAVEN_SECRET", "")
    assert "RAVEN_SECRET" in refusal(only="serve")


@pytest.mark.parametrize("value", ["", "\n", "abcd\n", "secret"])
def test_t133_a_secret_file_that_was_emptied_is_not_replaced(refusal: Refusal, tmp_path: Path, value: str) -> None:
    """What it encrypted could not be read any more: the start is refused, naming the file."""
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "secret").write_text(value)
    assert str(folder / "secret") in refusal(only="serve")
    assert (folder / "secret").read_text() == value


@pytest.mark.parametrize("value", ["", "abcd", "admin", "changeme-changeme-changeme", "x" * 40, "secret key with spaces!"])
@pytest.mark.parametrize("listen", ["127.0.0.1:0", "0.0.0.0:0"])
def test_t133_a_weak_administrator_key_is_refused(
    refusal: Refusal, monkeypatch: pytest.MonkeyPatch, value: str, listen: str
) -> None:
    """RAVEN_ADMIN_KEY that can be guessed stops the start, on any address."""
    monkeypatch.setenv("RAVEN_SECRET", STRONG)
    monkeypatch.setenv("RAVEN_ADMIN_KEY", value)
    said = refusal({"plugins": ["auth-keys", "openai"]}, only="serve", listen=listen)
    assert "RAVEN_ADMIN_KEY" in said


async def test_t133_the_first_administrator_is_random_and_shown_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No default password: a first start invents a key, the second does not show it, another folder has another."""
    from raven_proxy.service import Service

    monkeypatch.delenv("RAVEN_ADMIN_KEY", raising=False)
    monkeypatch.delenv("RAVEN_SECRET", raising=False)
    shown: list[list[str]] = []
    for folder in ("one", "one", "two"):
        path = tmp_path / "raven.toml"
        path.write_text(write_toml({"data_dir": str(tmp_path / folder), "plugins": ["auth-keys", "openai"]}))
        service = Service(path)
        gateway = await service.start()
        shown.append([value for kind, value in gateway.announcements if kind == "admin_key"])
        await service.stop(grace_s=0)
    assert [len(keys) for keys in shown] == [1, 0, 1]
    first, third = shown[0][0], shown[2][0]
    assert first != third
    assert re.fullmatch(r"rk_live_[0-9A-Za-z]{27,}", first)
    for path in (tmp_path / "one").rglob("*"):
        assert first.encode() not in path.read_bytes()
        assert first[len("rk_live_") + 4 :].encode() not in path.read_bytes()
    secret = tmp_path / "one" / "secret"
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "one").stat().st_mode) == 0o700
    assert secret.read_text() != (tmp_path / "two" / "secret").read_text()
