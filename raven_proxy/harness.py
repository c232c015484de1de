"""A gateway under test: started like a real one, on a real socket, and searched for leaks at its end.

What the fixture `raven` of `testing` is made of. Knows nothing of assertions about replies.
"""

from __future__ import annotations

import asyncio
import gc
import importlib.metadata
import re
import sys
import threading
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest
from aiohttp import ClientSession  # noqa: TID251 - the client's side of a test, not the proxy's

from .exchange import Exchange, Principal
from .gateway import Gateway
from .hookspecs import hookimpl
from .mock import MockUpstream
from .plugins import GROUP
from .service import Service, listen_on

__all__ = ["ADMINISTRATOR", "ADMIN_KEY", "GatewayStarter", "RunningGateway", "name_of"]

ADMIN_KEY = "rk_test_" + "raven" * 8
"""The key that every gateway of `raven` accepts, with every scope."""

_SCOPES = (
    "chat:write embeddings:write images:write audio:write video:write files:read files:write "
    "models:read usage:read admin:read admin:write"
)
ADMINISTRATOR = Principal(
    key_id="key_test", name="test", scopes=frozenset(_SCOPES.split()), role="owner", is_operator=True
)
_SETTLE_S = 3.0  # what is on its way may take so long to end before it counts as a leak


class RunningGateway:
    """A gateway that serves on 127.0.0.1.

    `client` is an `aiohttp.ClientSession` that sends `key` and takes paths ("/v1/models"). `folder` holds
    the gateway's config, data and drop-in plugins. `url` has no trailing slash.
    """

    def __init__(self, folder: Path, plugins_dir: Path | None) -> None:
        self.folder = folder
        self.key = ADMIN_KEY
        self.service = Service(folder / "raven.toml")
        self.gateway: Gateway
        self.client: ClientSession
        self.url = ""
        self._plugins_dir = plugins_dir

    async def start(self) -> None:
        """Start, and listen on a free port; for `GatewayStarter`. Raises ConfigError."""
        self._link_drop_ins()
        self.gateway = await self.service.start()
        sock = listen_on("127.0.0.1", 0)
        await self.service.listen(sock)
        self.url = f"http://127.0.0.1:{sock.getsockname()[1]}"
        self.client = ClientSession(
            self.url,
            headers={"Authorization": f"Bearer {self.key}"},
            json_serialize=lambda value: msgspec.json.encode(value).decode(),
        )

    async def reload(self, config: Mapping[str, Any] | None = None) -> None:
        """Change top-level keys of the config file and reload. Raises ConfigError as a reload does."""
        path = self.folder / "raven.toml"
        path.write_text(write_toml(tomllib.loads(path.read_text()) | dict(config or {})))
        self._link_drop_ins()
        await self.service.reload()

    async def stop(self) -> list[str]:
        """Stop, and say what it left behind; for `GatewayStarter`."""
        gateway = self.gateway
        await self.client.close()
        leaks = []
        if not await _settles(lambda: not (gateway.in_flight or len(gateway.tasks))):
            leaks.append(f"{gateway.in_flight} exchanges and {len(gateway.tasks)} background tasks go on")
        await self.service.stop(grace_s=0.0)
        gc.unfreeze()  # what each service freezes for speed would pile up over a test run
        pipeline = gateway.pipeline
        own = [one.upstream for holding in pipeline.catalogue.holdings.all() for one in holding.held]
        upstreams = [*pipeline.upstreams.values(), *own]
        await _settles(lambda: not any(upstream.open_connections for upstream in upstreams))
        leaks += [f"connections to {one.name} are open" for one in upstreams if one.open_connections]
        return leaks

    def _link_drop_ins(self) -> None:
        """Put links to the test's own files beside ours: its folder is not ours to write in."""
        here = self.folder / "plugins"
        for link in here.glob("*.py"):
            if link.is_symlink() and not link.exists():
                link.unlink()
        for path in self._plugins_dir.glob("*.py") if self._plugins_dir is not None else ():
            if not (here / path.name).exists():
                (here / path.name).symlink_to(path.resolve())


class GatewayStarter:
    """What the fixture `raven` is: call it, and await a `RunningGateway`."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder = folder
        self._monkeypatch = monkeypatch
        self._running: list[RunningGateway] = []
        self._started = 0
        self._check_leaks = True
        self._tasks_before: set[asyncio.Task[Any]] = set()
        self._threads_before: set[threading.Thread] = set()

    async def __call__(
        self,
        plugins: Sequence[Any] = (),
        *,
        config: Mapping[str, Any] | str | None = None,
        upstreams: Sequence[MockUpstream | Mapping[str, Any]] = (),
        plugins_dir: Path | None = None,
        base: Sequence[str] = ("openai", "demo"),
        principal: Principal = ADMINISTRATOR,
        check_leaks: bool = True,
    ) -> RunningGateway:
        """Start a gateway with `plugins` in this order, and then those of `base`.

        A plugin is an entry point's name, the path of a one-file plugin, or an object: class, instance
        or module. Its config table is called like the entry point or file; that of a class `ModelList`
        is "model-list", or "model-list-under-test" where another plugin of that name is installed.
        `config` is the TOML file as a mapping or text. A MockUpstream becomes the upstream "mock"
        ("mock2", …) of the provider "openai". Who sends `ADMIN_KEY` is `principal`; with the plugin
        "auth-keys" it is that plugin's administrator key. The plugin "meter" lets models without a price
        through unless its config says otherwise. Raises ConfigError as a start does.
        """
        self._started += 1
        folder = self._folder / f"gateway{self._started}"
        (folder / "plugins").mkdir(parents=True)
        wanted = [*plugins, *(name for name in base if name not in plugins)]
        if "auth-keys" in wanted:
            self._monkeypatch.setenv("RAVEN_ADMIN_KEY", ADMIN_KEY)
        else:
            wanted.insert(0, TestKeys(principal))
        table: dict[str, Any] = {
            "data_dir": str(folder / "data"),
            "plugins": [self._place(plugin, folder / "plugins") for plugin in wanted],
            "plugins_dir": str(folder / "plugins"),
            "upstreams": [_describe(one, index, folder) for index, one in enumerate(upstreams)],
            "drain_timeout_s": 2,
            "models_refresh_s": 0,  # providers see what a test sends, and nothing else
        }
        table |= tomllib.loads(config) if isinstance(config, str) else config or {}
        if "meter" in table["plugins"]:
            settings = {"allow_unpriced": True, **table.get("plugin", {}).get("meter", {})}
            table["plugin"] = {**table.get("plugin", {}), "meter": settings}
        (folder / "raven.toml").write_text(write_toml(table))
        if not self._running:
            self._tasks_before, self._threads_before = asyncio.all_tasks(), set(threading.enumerate())
        self._check_leaks = self._check_leaks and check_leaks
        running = RunningGateway(folder, plugins_dir)
        await running.start()
        self._running.append(running)
        return running

    async def stop(self) -> None:
        """Stop every gateway, the newest first. Raises AssertionError if anything of theirs goes on."""
        if not self._running:
            return
        leaks: list[str] = []
        while self._running:
            leaks += await self._running.pop().stop()
        await _settles(lambda: not any(self._survivors()))
        leaks += self._survivors()
        if leaks and self._check_leaks:
            raise AssertionError("the gateway leaks: " + "; ".join(leaks))

    def _survivors(self) -> Iterator[str]:
        for task in asyncio.all_tasks() - self._tasks_before:
            if task is not asyncio.current_task():
                yield f"the task {task.get_name()} goes on ({task.get_coro()})"
        for thread in set(threading.enumerate()) - self._threads_before:
            if not thread.name.startswith("asyncio_"):  # the loop's own, for name resolution
                yield f"the thread {thread.name} goes on"

    def _place(self, plugin: Any, drop_ins: Path) -> str:
        """Put a plugin where a gateway looks for it; give its name."""
        name = name_of(plugin)
        if isinstance(plugin, Path):
            (drop_ins / plugin.name).symlink_to(plugin.resolve())
        elif not isinstance(plugin, str):
            if entries := importlib.metadata.entry_points(group=GROUP, name=name):
                if any(entry.load() is plugin for entry in entries):
                    return name  # it is installed itself; a file of that name would clash with it
                name = f"{name}-under-test"
            # A file cannot hold an object, but it can import one.
            module = ModuleType(f"raven_testing_{id(plugin):x}")
            module.Plugin = plugin  # type: ignore[attr-defined]
            self._monkeypatch.setitem(sys.modules, module.__name__, module)
            (drop_ins / f"{name}.py").write_text(f"from {module.__name__} import Plugin\n")
        return name


class TestKeys:
    """Takes one key, so that a plugin can be tested where no key plugin is installed."""

    __test__ = False  # its name is no invitation to pytest

    def __init__(self, principal: Principal) -> None:
        self._principal = principal

    @hookimpl
    async def authenticate(self, exchange: Exchange) -> Principal | None:
        """Say who it is."""
        headers = exchange.headers
        sent = headers.get("x-api-key") or headers.get("authorization") or headers.get("x-goog-api-key", "")
        return self._principal if sent.removeprefix("Bearer ") == ADMIN_KEY else None


def name_of(plugin: Any) -> str:
    """Name a plugin as `GatewayStarter` puts it into the config."""
    if isinstance(plugin, str):
        return plugin
    if isinstance(plugin, Path):
        return plugin.stem
    if isinstance(plugin, ModuleType):
        return plugin.__name__.rpartition(".")[2]
    name = (plugin if isinstance(plugin, type) else type(plugin)).__name__.strip("_")
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name).lower()


def write_toml(table: Mapping[str, Any]) -> str:
    """Write a TOML file. Its strings, numbers and arrays are JSON's; tables are written inline."""
    return "".join(f"{_write(key)} = {_write(value)}\n" for key, value in table.items() if value is not None)


def _write(value: Any) -> str:
    if isinstance(value, Mapping):
        pairs = (f"{_write(key)} = {_write(item)}" for key, item in value.items() if item is not None)
        return "{ " + ", ".join(pairs) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_write, value)) + "]"
    return msgspec.json.encode(value).decode()


def _describe(one: MockUpstream | Mapping[str, Any], index: int, folder: Path) -> Mapping[str, Any]:
    if not isinstance(one, MockUpstream):
        return one
    key = folder / "provider-key"
    key.write_text("sk-upstream-test")
    name = f"mock{index + 1}" if index else "mock"
    return {"name": name, "provider": "openai", "base_url": one.url, "key": {"file": str(key)}}


async def _settles(is_true: Callable[[], bool]) -> bool:
    deadline = asyncio.get_running_loop().time() + _SETTLE_S
    while not is_true():
        if asyncio.get_running_loop().time() > deadline:
            return False
        await asyncio.sleep(0.01)
    return True
