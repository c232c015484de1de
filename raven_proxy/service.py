"""A running gateway: start, listen, reload, drain. One process; two can live side by side in it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sqlite3
import tempfile
from errno import EADDRINUSE
from pathlib import Path
from typing import Any, cast

import structlog
from aiohttp import http_parser

from . import secrets
from .assembly import assemble
from .config import Config, load
from .core_faces import core_faces
from .counters import Counters, LocalCounters
from .discovery import hand_over, keep_discovering
from .errors import PLUGIN_FAULTS, ConfigError, GatewayError
from .gateway import Gateway
from .pipeline import HookCall, Pipeline, is_cancelled
from .resources.renewal import renew_seals
from .roster import Roster
from .server import ClientConnection, Server
from .shared_counters import SharedCounters
from .storage import SQLiteStorage

__all__ = ["Service", "listen_on"]

_log = structlog.get_logger("raven_proxy.service")
_GRACE_S = 0.5  # between "not ready" and "not listening": what a load balancer needs to notice
_STARTUP_TIMEOUT_S = 60.0
_FIXED = ("listen", "data_dir", "workers", "counters", "log_level")


class Service:
    """One gateway with its storage and its listening socket.

    `overrides` are config keys from the command line; they hold over reloads too.
    """

    def __init__(self, config_path: Path | None = None, **overrides: Any) -> None:
        self._config_path = config_path
        self._overrides = overrides
        self._reloading = asyncio.Lock()
        self._server: Server | None = None
        self._socket: socket.socket | None = None
        self._listener: asyncio.Server | None = None
        self.gateway: Gateway
        self._counters: Counters
        self._discovering: asyncio.Task[None] | None = None
        self.failed_reloads = 0

    async def rehearse(self) -> Pipeline:
        """Start every plugin in an empty data folder, and stop again; nothing is bound and nobody is asked.

        So `raven-proxy check` finds what only a start would: a broken catalogue, a plan that is not there.
        Raises ConfigError.
        """
        _check_folder(Path(self._load().data_dir))
        with tempfile.TemporaryDirectory(prefix="raven-check-") as folder:
            self._overrides = {**self._overrides, "data_dir": folder}
            gateway = await self.start(discover=False)
            await self.stop(grace_s=0.0)
            return gateway.pipeline

    async def start(self, *, discover: bool = True) -> Gateway:
        """Load, check and start everything except the listener. Raises ConfigError."""
        if http_parser.HttpResponseParser.__module__ != "aiohttp._http_parser":
            raise ConfigError("aiohttp runs without its C parser; install a binary wheel of aiohttp")
        config = self._load()
        data_dir = Path(config.data_dir)
        _check_folder(data_dir)
        try:
            data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise ConfigError(f"data_dir: {data_dir}: {error.strerror or error}") from error
        secret = secrets.load_secret(data_dir, is_loopback=config.is_loopback())
        former = secrets.read_former()
        storage = await SQLiteStorage.open(data_dir / "raven.db")
        try:  # whatever goes wrong: the thread of an open database would keep the process alive
            self._counters = _open_counters(config, data_dir)
            self.gateway = gateway = Gateway(storage, data_dir, secret, self._counters, former)
            gateway.reload = self.reload
            pipeline = self._assemble(config)
            await gateway.records.migrate()
            gateway.pipeline = pipeline
            gateway.config, gateway.holdings = config, pipeline.catalogue.holdings
            await self._start_plugins(pipeline)
            if gateway.sealer.has_former:
                for resource in pipeline.resources:
                    await renew_seals(storage, gateway.sealer, resource)
        except BaseException:
            await storage.close()
            raise
        if discover:
            self._discover(pipeline)
        return gateway

    async def listen(self, sock: socket.socket) -> None:
        """Accept connections on a bound socket."""
        gateway = self.gateway
        self._server = Server(gateway.serve, header_timeout_s=gateway.config.header_timeout_s)
        self._socket = sock
        _limit_sending(sock, gateway.config.send_timeout_s)
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(self._server, sock=sock, backlog=4096)

    def join(self, roster: Roster) -> None:
        """Be one of several workers: tell them how far this one is, and wait for them after a change."""
        changes = cast("SQLiteStorage", self.gateway.storage).changes
        changes.on_held = roster.report_held
        roster.report_held(changes.held)
        self.gateway.records.spread = lambda: roster.wait_until_held(changes.held)

    async def reload(self) -> None:
        """Build a second pipeline from the files as they are now and swap it in.

        Raises ConfigError, and the old pipeline goes on serving, when anything is wrong.
        """
        async with self._reloading:
            gateway = self.gateway
            try:
                config = self._load()
                pipeline = self._assemble(config)
                gateway.config, gateway.holdings = config, pipeline.catalogue.holdings
                await self._start_plugins(pipeline)
            except ConfigError as error:
                gateway.config = gateway.pipeline.config
                gateway.holdings = gateway.pipeline.catalogue.holdings
                self.failed_reloads += 1
                _log.error("reload failed; the old configuration goes on", reason=str(error))
                raise
            old, gateway.pipeline = gateway.pipeline, pipeline
            hand_over(old.upstreams, pipeline.upstreams)
            self._discover(pipeline)
            if self._server is not None and self._socket is not None:
                self._server.header_timeout_s = config.header_timeout_s
                _limit_sending(self._socket, config.send_timeout_s)
            if any(getattr(config, name) != getattr(old.config, name) for name in _FIXED):
                _log.warning(f"{', '.join(_FIXED)} change only with a restart")
            _log.info("reloaded", plugins=[plugin.name for plugin in pipeline.plugins])
            gateway.tasks.launch(self._retire(old), "retire")

    async def stop(self, *, grace_s: float = _GRACE_S) -> None:
        """Drain and stop: not ready, then not listening, then everything in flight to its end.

        Bounded by `drain_timeout_s`; what is left then is cut, and billed for what it produced.
        """
        gateway = self.gateway
        loop = asyncio.get_running_loop()
        deadline = loop.time() + gateway.config.drain_timeout_s
        gateway.is_draining = gateway.pipeline.is_draining = True
        if self._discovering is not None:
            self._discovering.cancel()
        if self._listener is not None:
            grace_s = min(grace_s, gateway.config.drain_timeout_s / 4)
            await asyncio.sleep(grace_s)
            self._listener.close()
            await asyncio.sleep(grace_s / 2)  # who was accepted last has yet to say what they want
        if self._server is not None:
            self._server.pre_shutdown()
            while gateway.in_flight and loop.time() < deadline:
                await asyncio.sleep(0.02)
            await _interrupt(self._server)
            await self._server.shutdown(0.2)
        await gateway.tasks.settle(max(1.0, deadline - loop.time()))
        await self._stop_plugins(gateway.pipeline.hooks["shutdown"])
        for upstream in gateway.pipeline.upstreams.values():
            upstream.close()
        await gateway.storage.close()
        if isinstance(self._counters, SharedCounters):
            self._counters.close()

    def _discover(self, pipeline: Pipeline) -> None:
        if self._discovering is not None:
            self._discovering.cancel()
        self._discovering = self.gateway.tasks.spawn(keep_discovering(pipeline), "discovery")

    def _load(self) -> Config:
        return load(self._config_path, **self._overrides)

    def _assemble(self, config: Config) -> Pipeline:
        drop_ins = Path(config.plugins_dir) if config.plugins_dir is not None else None
        pipeline = assemble(config, core_faces(self.gateway), drop_ins, lambda: self.gateway.records)
        pipeline.organizations = self.gateway.organizations
        return pipeline

    async def _start_plugins(self, pipeline: Pipeline) -> None:
        started: list[str] = []
        for call in pipeline.hooks["startup"]:
            try:
                async with asyncio.timeout(_STARTUP_TIMEOUT_S):
                    await call.function(self.gateway)
            except PLUGIN_FAULTS as error:
                if is_cancelled(error):
                    raise
                shutdown = tuple(c for c in pipeline.hooks["shutdown"] if c.plugin in started)
                await self._stop_plugins(shutdown)
                if isinstance(error, ConfigError):
                    raise ConfigError(f"plugin {call.plugin}: {error}") from error
                raise ConfigError(
                    f"plugin {call.plugin}: startup: {type(error).__name__}: {error}"
                ) from error
            started.append(call.plugin)

    async def _stop_plugins(self, calls: tuple[HookCall, ...]) -> None:
        for call in reversed(calls):
            try:
                async with asyncio.timeout(call.timeout_s):
                    await call.function(self.gateway)
            except PLUGIN_FAULTS as error:
                if is_cancelled(error):
                    raise
                _log.error("plugin failed", plugin=call.plugin, hook="shutdown", exc_info=error)

    async def _retire(self, pipeline: Pipeline) -> None:
        while pipeline.in_flight:
            await asyncio.sleep(0.05)
        await self._stop_plugins(pipeline.hooks["shutdown"])
        for upstream in pipeline.upstreams.values():
            upstream.close()


def _open_counters(config: Config, data_dir: Path) -> Counters:
    if config.counters == "machine" or (config.counters == "auto" and config.workers > 1):
        path = data_dir / "counters.db"
        try:
            return SharedCounters(path)
        except (sqlite3.Error, GatewayError) as error:
            reason = error.__cause__ or error
            raise ConfigError(
                f"the counters {path} cannot be opened: {reason}; what is in them can be deleted"
            ) from error
    return LocalCounters()


async def _interrupt(server: Server) -> None:
    """Let what the drain did not outlast end with an answer: a 503, or a stream's error event."""
    for connection in server.connections:
        cast("ClientConnection", connection).interrupt()
    await asyncio.sleep(0.05)


def _limit_sending(sock: socket.socket, timeout_s: float) -> None:
    """Let the kernel end a connection whose client takes nothing for so long (Linux; others wait).

    Accepted sockets inherit it. It costs no timer, and reaches what a relay does not: whole replies,
    and the rest in the buffer of a connection that is closed already.
    """
    option = getattr(socket, "TCP_USER_TIMEOUT", None)
    if option is not None:
        with contextlib.suppress(OSError):  # no TCP
            sock.setsockopt(socket.IPPROTO_TCP, option, int(timeout_s * 1000))


def _check_folder(folder: Path) -> None:
    """Refuse a data folder that is none, or in which nothing can be made. Raises ConfigError."""
    there = next(one for one in (folder, *folder.absolute().parents) if one.exists())
    if not there.is_dir():
        raise ConfigError(f"data_dir: {there} is not a folder; name another")
    if not os.access(there, os.W_OK | os.X_OK):
        raise ConfigError(
            f"data_dir: {there} cannot be written to; name another, or give this user the right"
        )


def listen_on(host: str, port: int) -> socket.socket:
    """Bind a listening address. Raises ConfigError that says why it cannot."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((host, port))
        except BaseException:
            sock.close()
            raise
    except OSError as error:
        remedy = "; end what listens there, or choose another --port" if error.errno == EADDRINUSE else ""
        raise ConfigError(f"listen: {host}:{port}: {error.strerror or error}{remedy}") from error
    sock.setblocking(False)
    return sock
