"""Plugins: found by name or by lying there, verified before anything starts, called in config order."""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from raven_proxy import hookimpl, plugins
from raven_proxy.config import FIRST_PARTY, Config
from raven_proxy.errors import ConfigError
from raven_proxy.plugins import call_register, find_first_party, load, register, resolve_hooks


def drop_in(folder: Path, name: str, text: str) -> Path:
    (folder / name).write_text(text)
    return folder


def entry(name: str, loaded: Any, owner: str = "raven-test") -> Any:
    def load_it() -> Any:
        if isinstance(loaded, Exception):
            raise loaded
        return loaded

    return SimpleNamespace(
        name=name, value=f"{owner}:X", load=load_it, dist=SimpleNamespace(name=owner, version="1.2")
    )


@pytest.fixture
def offer(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Play an environment in which these entry points are installed."""

    def replace(*entries: Any) -> None:
        def entry_points(*, group: str, name: str | None = None) -> list[Any]:
            assert group == "raven_proxy"
            return [e for e in entries if name is None or e.name == name]

        monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)

    return replace


class Plain:
    """A plugin without settings."""

    @hookimpl
    async def check_request(self) -> None:
        """Ask for nothing."""


class Configured:
    """A plugin with settings."""

    class Config(msgspec.Struct, forbid_unknown_fields=True):
        """Its table."""

        limit: int = 1

    def __init__(self, config: Config) -> None:
        self.config = config


# -- finding ------------------------------------------------------------------------


def test_without_a_list_every_installed_first_party_plugin_is_on_in_the_default_order(offer: Any) -> None:
    offer(entry("demo", Plain), entry("stranger", Plain), entry("auth-keys", Plain), entry("openai", Plain))
    assert find_first_party() == ("auth-keys", "openai", "demo")
    assert [p.name for p in load(Config(), None)] == ["auth-keys", "openai", "demo"]
    assert FIRST_PARTY.index("auth-keys") == 0


def test_an_installed_plugin_is_off_until_it_is_named(offer: Any) -> None:
    offer(entry("demo", Plain), entry("stranger", Plain))
    assert [p.name for p in load(Config(plugins=("stranger", "demo")), None)] == ["stranger", "demo"]
    assert load(Config(plugins=()), None) == ()


def test_where_it_comes_from_is_told(offer: Any) -> None:
    offer(entry("demo", Plain, "raven-demo"))
    (plugin,) = load(Config(plugins=("demo",)), None)
    assert (plugin.version, plugin.source, plugin.timeout_s) == ("1.2", "raven-demo", 10.0)


@pytest.mark.parametrize(
    ("entries", "config", "words"),
    [
        ([], Config(plugins=("demo",)), "plugins: 'demo' is not installed; installed: none"),
        ([("demo", Plain)], Config(plugins=("demo", "demo")), "plugins: 'demo' is named twice"),
        ([("demo", Plain), ("demo", Plain)], Config(plugins=("demo",)), "offered by more than one package"),
        (
            [("demo", ImportError("no module x"))],
            Config(plugins=("demo",)),
            "plugin demo: cannot be imported: ImportError: no module x",
        ),
        ([("demo", Plain)], Config(plugins=(), plugin={"demo": {}}), "[plugin.demo]: this plugin is not on"),
        (
            [("demo", Plain)],
            Config(plugins=("demo",), plugin={"demo": {"x": 1}}),
            "[plugin.demo]: unknown key 'x'; this plugin takes no settings",
        ),
        (
            [("demo", Configured)],
            Config(plugins=("demo",), plugin={"demo": {"limti": 1}}),
            "[plugin.demo]: unknown key 'limti'; did you mean 'limit'?",
        ),
        (
            [("demo", Configured)],
            Config(plugins=("demo",), plugin={"demo": {"limit": "x"}}),
            "[plugin.demo]: limit: expected `int`, got `str`",
        ),
        (
            [("demo", Plain)],
            Config(plugins=("demo",), plugin={"demo": {"timeout_s": 0}}),
            "timeout_s: expected seconds above 0",
        ),
        (
            [("demo", Plain)],
            Config(plugins=("demo",), plugin={"demo": {"timeout_s": True}}),
            "timeout_s: expected seconds above 0",
        ),
        (
            [("demo", Plain)],
            Config(plugins=("demo",), plugin={"demo": {"timeout_s": float("nan")}}),
            "timeout_s: expected seconds above 0",
        ),
        (
            [("demo", type("Old", (), {"api_version": 0}))],
            Config(plugins=("demo",)),
            "written for plugin API 0; this gateway has 1",
        ),
        ([("demo", lambda: None)], Config(plugins=("demo",)), ""),
    ],
)
def test_what_cannot_be_loaded_stops_the_start(
    offer: Any, entries: list[tuple[str, Any]], config: Config, words: str
) -> None:
    offer(*[entry(*pair) for pair in entries])
    if not words:
        assert load(config, None)
        return
    with pytest.raises(ConfigError) as refusal:
        load(config, None)
    assert words in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_plugin_is_built_with_its_own_table_and_its_own_limit(offer: Any) -> None:
    offer(entry("demo", Configured))
    (plugin,) = load(Config(plugins=("demo",), plugin={"demo": {"limit": 7, "timeout_s": 2}}), None)
    assert plugin.instance.config.limit == 7
    assert plugin.timeout_s == 2.0


def test_a_plugin_that_fails_while_it_is_built_is_named(offer: Any) -> None:
    class Failing:
        def __init__(self) -> None:
            raise ValueError("no room")

    offer(entry("demo", Failing))
    with pytest.raises(ConfigError, match="plugin demo: cannot be built: ValueError: no room"):
        load(Config(plugins=("demo",)), None)


# -- drop-in files ------------------------------------------------------------------

CLASS = """
from __future__ import annotations
import msgspec
from raven_proxy import hookimpl

class Plugin:
    class Config(msgspec.Struct, forbid_unknown_fields=True):
        class Inner(msgspec.Struct, frozen=True):
            words: list[str] = []
        limit: int = 1
        inner: Inner = Inner()

    def __init__(self, config: Config) -> None:
        self.limit = config.limit

    @hookimpl
    async def check_request(self, exchange):
        pass
"""


def test_a_file_is_on_by_lying_there_in_the_order_of_its_name(offer: Any, tmp_path: Path) -> None:
    offer(entry("demo", Plain))
    drop_in(tmp_path, "second.py", CLASS)
    drop_in(tmp_path, "first.py", CLASS)
    drop_in(tmp_path, "_not.py", "raise SystemExit")
    drop_in(tmp_path, "not.txt", "raise SystemExit")
    loaded = load(Config(plugins=("demo",), plugin={"second": {"limit": 3}}), tmp_path)
    assert [p.name for p in loaded] == ["demo", "first", "second"]
    assert [p.instance.limit for p in loaded[1:]] == [1, 3]
    assert loaded[1].source == str(tmp_path / "first.py")


def test_a_file_that_the_list_names_takes_its_place_there(offer: Any, tmp_path: Path) -> None:
    offer(entry("demo", Plain))
    drop_in(tmp_path, "mine.py", CLASS)
    assert [p.name for p in load(Config(plugins=("mine", "demo")), tmp_path)] == ["mine", "demo"]


def test_a_module_of_hooks_is_a_plugin_too(tmp_path: Path) -> None:
    drop_in(
        tmp_path,
        "stamp.py",
        "from raven_proxy import hookimpl\n@hookimpl\nasync def check_request(exchange):\n    pass\n",
    )
    (plugin,) = load(Config(plugins=()), tmp_path)
    hooks, _ = resolve_hooks(register([plugin]), [plugin])
    assert [call.plugin for call in hooks["check_request"]] == ["stamp"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import msgspec\n\ndef broken(:\n", "mine.py:3: "),
        ("import msgspec\n\n1 / 0\n", "mine.py:3: ZeroDivisionError: division by zero"),
        ("import no_such_module\n", "mine.py:1: ModuleNotFoundError"),
        ("def f():\n    return g()\ndef g():\n    return h()\nf()\n", "mine.py:4: NameError"),
    ],
)
def test_a_broken_file_stops_the_start_and_names_its_line(tmp_path: Path, text: str, words: str) -> None:
    drop_in(tmp_path, "mine.py", text)
    with pytest.raises(ConfigError) as refusal:
        load(Config(plugins=()), tmp_path)
    assert words in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_changed_file_is_read_anew_and_the_old_one_stays_alive(tmp_path: Path) -> None:
    drop_in(tmp_path, "mine.py", CLASS)
    (old,) = load(Config(plugins=()), tmp_path)
    drop_in(tmp_path, "mine.py", CLASS.replace("limit: int = 1", "limit: int = 2"))
    (new,) = load(Config(plugins=()), tmp_path)
    assert (old.instance.limit, new.instance.limit) == (1, 2)
    assert type(old.instance).__module__ in sys.modules


def test_a_folder_that_is_none_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"plugins_dir: .* is not a directory"):
        load(Config(plugins=()), tmp_path / "none")


# -- verifying ----------------------------------------------------------------------


def wrap(instance: Any, name: str = "plug") -> plugins.Plugin:
    return plugins.Plugin(name, "1", "test", instance)


def make(name: str, function: Any) -> Any:
    return type("P", (), {name: hookimpl(function)})()


async def _async_one(self: Any, exchange: Any) -> None: ...
def _plain_one(self: Any, exchange: Any) -> None: ...
async def _wrong_argument(self: Any, request: Any) -> None: ...


@pytest.mark.parametrize(
    ("name", "function", "words"),
    [
        ("check_reqest", _async_one, "there is no hook 'check_reqest'; did you mean 'check_request'?"),
        ("xyzzy", _async_one, "there is no hook 'xyzzy'; hooks: "),
        ("check_request", _plain_one, "check_request must be async def"),
        ("open_stage", _async_one, "open_stage must be a plain def"),
        ("check_request", _wrong_argument, "request"),
    ],
)
def test_a_hook_that_could_not_be_called_stops_the_start(name: str, function: Any, words: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        register([wrap(make(name, function))])
    assert words in str(refusal.value)
    assert "plugin plug" in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_wrapper_is_refused_and_not_silently_left_out() -> None:
    class Wrapping:
        @hookimpl(wrapper=True)
        def open_stage(self, exchange: Any) -> Any:
            return (yield)

    with pytest.raises(ConfigError, match="hook wrappers are not called"):
        register([wrap(Wrapping())])


def test_calls_are_in_config_order_and_carry_their_plugins_limit() -> None:
    first, second = wrap(Plain(), "first"), msgspec.structs.replace(wrap(Plain(), "second"), timeout_s=3.0)
    hooks, plain = resolve_hooks(register([first, second]), [first, second])
    assert [(call.plugin, call.timeout_s) for call in hooks["check_request"]] == [
        ("first", 10.0),
        ("second", 3.0),
    ]
    assert hooks["answer"] == ()
    assert plain["open_stage"] == ()


async def test_a_hook_gets_only_what_it_asks_for() -> None:
    class Mixed:
        @hookimpl
        async def check_request(self) -> str:
            return "nothing"

        @hookimpl
        async def authenticate(self, exchange: object) -> object:
            return exchange

        @hookimpl
        def open_stage(self) -> None:
            return None

    plugin = wrap(Mixed())
    hooks, plain = resolve_hooks(register([plugin]), [plugin])
    assert await hooks["check_request"][0].function("x") == "nothing"
    assert await hooks["authenticate"][0].function("x") == "x"
    subject: Any = None
    assert plain["open_stage"][0].function(subject) is None


def test_two_gateways_in_one_process_share_nothing() -> None:
    assert register([wrap(Plain())]) is not register([wrap(Plain())])


def test_an_error_while_registering_names_the_plugin_and_the_line() -> None:
    class Clumsy:
        @hookimpl
        def register_faces(self, register: Any) -> None:
            register("no face")

    line = Clumsy.register_faces.__code__.co_firstlineno + 2
    elsewhere: Any = int
    place = rf"plugin plug: register_faces: .*test_plugins\.py:{line}: invalid literal"
    with pytest.raises(ConfigError, match=place):
        call_register(register([wrap(Clumsy())]), "register_faces", elsewhere)
