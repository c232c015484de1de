"""From names in the config to a verified set of plugins: find → build → register → verify → resolve.

An installed plugin is off until the config names it; a file in the drop-in directory is on by
lying there. Whatever is wrong stops the start and names the plugin and, where there is one, the line.
"""

from __future__ import annotations

import difflib
import importlib.machinery
import importlib.metadata
import importlib.util
import inspect
import itertools
import sys
import traceback
from collections.abc import Callable, Iterable
from math import inf
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pluggy

from . import hookspecs
from .config import FIRST_PARTY, Config, decode_table
from .errors import PLUGIN_FAULTS, ConfigError
from .pipeline import HookCall, PlainCall

__all__ = ["API_VERSION", "GROUP", "Plugin", "find_first_party", "load", "register", "resolve_hooks"]

GROUP = "raven_proxy"
API_VERSION = 1
"""What `api_version` of a plugin is compared with; a plugin that names none is taken as current."""

_DEFAULT_TIMEOUT_S = 10.0
_generation = itertools.count(1)
_ASYNC_HOOKS = (
    "startup", "shutdown", "authenticate", "check_request", "answer", "choose_upstreams",
    "provide_credential", "before_send", "check_reply", "finish_exchange", "observe_event",
    "find_principal", "explain_exchange",
)  # fmt: skip
_PLAIN_HOOKS = ("open_stage", "settle_exchange")


class Plugin(msgspec.Struct, frozen=True):
    """One plugin, built and ready to be registered."""

    name: str
    version: str
    source: str  # the distribution, or the file
    instance: Any
    timeout_s: float = _DEFAULT_TIMEOUT_S


def find_first_party() -> tuple[str, ...]:
    """Name the first-party plugins that are installed, in their default order."""
    installed = {entry.name for entry in importlib.metadata.entry_points(group=GROUP)}
    return tuple(name for name in FIRST_PARTY if name in installed)


def load(config: Config, drop_in_dir: Path | None) -> tuple[Plugin, ...]:
    """Find and build every plugin of a config, in order of call. Raises ConfigError."""
    names = find_first_party() if config.plugins is None else config.plugins
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ConfigError(f"plugins: {repeated[0]!r} is named twice")
    files = _drop_ins(drop_in_dir)
    for name in names:
        # One of the two would be absent without a word, and it could be the one that keeps the door.
        if name in files and importlib.metadata.entry_points(group=GROUP, name=name):
            raise ConfigError(
                f"plugin {files[name]}: an installed plugin is called {name!r}; rename the file"
            )
    plugins = [
        _from_file(files.pop(name), config) if name in files else _from_entry(name, config) for name in names
    ]
    plugins += [_from_file(path, config) for path in files.values()]
    known = {plugin.name for plugin in plugins}
    for name in config.plugin:
        if name not in known:
            raise ConfigError(f"[plugin.{name}]: this plugin is not on; name it in plugins")
    return tuple(plugins)


def register(plugins: Iterable[Plugin]) -> pluggy.PluginManager:
    """Register plugins and verify every hook: known, right arguments, right colour.

    pluggy calls the last registered first, so the order is turned round here.
    """
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    ordered = list(plugins)
    for plugin in reversed(ordered):
        try:
            manager.register(plugin.instance, plugin.name)
        except (pluggy.PluginValidationError, ValueError) as error:
            raise ConfigError(f"plugin {plugin.name}: {' '.join(str(error).split())}") from error
    for plugin in ordered:
        _check_hooks(manager, plugin)
    return manager


def resolve_hooks(
    manager: pluggy.PluginManager, plugins: Iterable[Plugin]
) -> tuple[dict[str, tuple[HookCall, ...]], dict[str, tuple[PlainCall, ...]]]:
    """Freeze each hook of a request into a tuple of calls: the asynchronous ones, and the plain ones."""
    timeouts = {plugin.name: plugin.timeout_s for plugin in plugins}
    hooks: dict[str, tuple[HookCall, ...]] = {}
    for hook in _ASYNC_HOOKS:
        hooks[hook] = tuple(
            HookCall(impl.plugin_name, hook, _adapt(impl), timeouts[impl.plugin_name])
            for impl in _in_call_order(manager, hook)
        )
    plain = {
        hook: tuple(PlainCall(impl.plugin_name, _adapt(impl)) for impl in _in_call_order(manager, hook))
        for hook in _PLAIN_HOOKS
    }
    return hooks, plain


def call_register(
    manager: pluggy.PluginManager,
    hook: str,
    callback: Callable[..., None],
    begin: Callable[[str], None] = lambda _plugin: None,
) -> None:
    """Call a `register_…` hook of every plugin in order; an error names the plugin and its line.

    `begin` is told whose turn it is.
    """
    for impl in _in_call_order(manager, hook):
        begin(impl.plugin_name)
        try:
            impl.function(callback) if impl.argnames else impl.function()
        except PLUGIN_FAULTS as error:
            place = _place(error, inspect.getsourcefile(impl.function))
            raise ConfigError(f"plugin {impl.plugin_name}: {hook}: {place}{error}") from error


def _in_call_order(manager: pluggy.PluginManager, hook: str) -> list[pluggy.HookImpl]:
    return list(reversed(getattr(manager.hook, hook).get_hookimpls()))


def _adapt(impl: pluggy.HookImpl) -> Callable[[Any], Any]:
    function: Callable[..., Any] = impl.function
    return function if impl.argnames else (lambda _subject: function())


def _check_hooks(manager: pluggy.PluginManager, plugin: Plugin) -> None:
    known = [
        name for name in vars(hookspecs) if hasattr(getattr(hookspecs, name), f"{hookspecs.PROJECT}_spec")
    ]
    callers = manager.get_hookcallers(plugin.instance)
    if not callers:
        raise ConfigError(
            f"plugin {plugin.name}: {plugin.source} has no @hookimpl function, nor a class Plugin with one"
        )
    for caller in callers:
        for impl in caller.get_hookimpls():
            if impl.plugin_name != plugin.name:
                continue
            if not caller.has_spec():
                near = difflib.get_close_matches(caller.name, known, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else f"; hooks: {', '.join(known)}"
                raise ConfigError(f"plugin {plugin.name}: there is no hook {caller.name!r}{hint}")
            if impl.wrapper or impl.hookwrapper:
                raise ConfigError(
                    f"plugin {plugin.name}: {caller.name}: hook wrappers are not called; use a plain hook"
                )
            wanted = inspect.iscoroutinefunction(getattr(hookspecs, caller.name))
            if inspect.iscoroutinefunction(impl.function) != wanted:
                colour = "async def" if wanted else "a plain def"
                raise ConfigError(f"plugin {plugin.name}: {caller.name} must be {colour}")


def _from_entry(name: str, config: Config) -> Plugin:
    entries = list(importlib.metadata.entry_points(group=GROUP, name=name))
    if not entries:
        installed = sorted({entry.name for entry in importlib.metadata.entry_points(group=GROUP)})
        raise ConfigError(f"plugins: {name!r} is not installed; installed: {', '.join(installed) or 'none'}")
    if len(entries) > 1:
        owners = ", ".join(sorted(entry.dist.name for entry in entries if entry.dist is not None))
        raise ConfigError(f"plugins: {name!r} is offered by more than one package: {owners}")
    entry = entries[0]
    try:
        loaded = entry.load()
    except PLUGIN_FAULTS as error:
        raise ConfigError(f"plugin {name}: cannot be imported: {type(error).__name__}: {error}") from error
    dist = entry.dist
    return _build(name, loaded, config, dist.version if dist else "?", dist.name if dist else entry.value)


def _drop_ins(directory: Path | None) -> dict[str, Path]:
    if directory is None:
        return {}
    if not directory.is_dir():
        raise ConfigError(f"plugins_dir: {directory} is not a directory")
    return {path.stem: path for path in sorted(directory.glob("*.py")) if not path.name.startswith("_")}


class _FreshLoader(importlib.machinery.SourceFileLoader):
    """Compiles the file as it is now: a cached compilation could be a second old, and stale."""

    def path_stats(self, path: Any) -> Any:
        raise OSError(path)


def _from_file(path: Path, config: Config) -> Plugin:
    # Nested Structs look their module up in sys.modules, so it must be there before it runs;
    # a reload must not pull it away under the old plugin, so the name is new each time.
    module_name = f"raven_drop_in_{next(_generation)}_{path.stem}"
    loader = _FreshLoader(module_name, str(path))
    spec = importlib.util.spec_from_loader(module_name, loader, origin=str(path))
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        loader.exec_module(module)
    except SyntaxError as error:
        raise ConfigError(f"plugin {path.name}: {path}:{error.lineno}: {error.msg}") from None
    except PLUGIN_FAULTS as error:
        raise ConfigError(
            f"plugin {path.name}: {_place(error, str(path))}{type(error).__name__}: {error}"
        ) from error
    loaded: Any = getattr(module, "Plugin", module)
    return _build(path.stem, loaded, config, getattr(module, "__version__", "file"), str(path))


def _place(error: BaseException, source: str | None) -> str:
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == source]
    return f"{source}:{frames[-1].lineno}: " if frames else ""


def _build(name: str, loaded: Any, config: Config, version: str, source: str) -> Plugin:
    wanted = getattr(loaded, "api_version", API_VERSION)
    if wanted != API_VERSION:
        raise ConfigError(f"plugin {name}: written for plugin API {wanted}; this gateway has {API_VERSION}")
    table = dict(config.plugin.get(name, {}))
    timeout_s = table.pop("timeout_s", _DEFAULT_TIMEOUT_S)
    if isinstance(timeout_s, bool) or not isinstance(timeout_s, int | float) or not 0 < timeout_s < inf:
        raise ConfigError(f"[plugin.{name}]: timeout_s: expected seconds above 0, got {timeout_s!r}")
    settings = getattr(loaded, "Config", None)
    if settings is None or isinstance(loaded, ModuleType):
        if table:
            raise ConfigError(f"[plugin.{name}]: unknown key {min(table)!r}; this plugin takes no settings")
        arguments: tuple[Any, ...] = ()
    else:
        arguments = (decode_table(table, settings, f"[plugin.{name}]"),)
    try:
        instance = loaded(*arguments) if isinstance(loaded, type) else loaded
    except ConfigError:
        raise
    except PLUGIN_FAULTS as error:
        raise ConfigError(f"plugin {name}: cannot be built: {type(error).__name__}: {error}") from error
    return Plugin(name, str(version), source, instance, float(timeout_s))
