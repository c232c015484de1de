"""The process around a `Service`: event loop, signals, sockets handed over, workers, the greeting."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import resource
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from . import log
from .config import Config, load
from .errors import ConfigError
from .gateway import Gateway
from .roster import Roster
from .service import Service, listen_on

__all__ = ["run"]

_WORKER = "RAVEN_WORKER"  # in the environment of a worker process: its parent's process id


def run(config_path: Path | None, overrides: dict[str, Any], fd: int | None) -> None:
    """Serve until SIGTERM or SIGINT. Raises ConfigError for what is wrong before the start."""
    config = load(config_path, **overrides)
    log.configure(config.log_level)
    _raise_file_limit()
    sock = _listening_socket(config, fd)
    with sock:
        if config.workers > 1 and _WORKER not in os.environ:
            _supervise(config_path, overrides, config, sock)
        else:
            _run(_serve(config_path, overrides, sock))


def _run(work: Any) -> Any:
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(work)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:  # not on every platform
        return None
    return uvloop.new_event_loop


async def _serve(config_path: Path | None, overrides: dict[str, Any], sock: socket.socket) -> None:
    service = Service(config_path, **overrides)
    gateway = await service.start()
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()

    roster = Roster(gateway.data_dir) if _WORKER in os.environ else None

    def reload() -> None:
        gateway.tasks.launch(_reload(service, roster), "reload")

    # Before anybody can know that we are here, and signal.
    loop.add_signal_handler(signal.SIGHUP, reload)
    orphan_watch = (
        gateway.tasks.spawn(_watch_parent(stopped), "watch-parent") if _WORKER in os.environ else None
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    await service.listen(sock)
    if roster is None:
        _greet(gateway, sock)
    else:
        service.join(roster)
        roster.report()
        gateway.reload = lambda: _reload_workers(service, roster)
    gc.collect()
    gc.freeze()  # what start-up made is never garbage
    gc.set_threshold(50_000, 20, 50)
    await stopped.wait()
    if orphan_watch is not None:
        orphan_watch.cancel()
    for number in (signal.SIGTERM, signal.SIGINT):  # a second signal means now
        loop.add_signal_handler(number, os._exit, 130)
    if roster is not None:
        roster.leave()
    await service.stop()


async def _watch_parent(stopped: asyncio.Event) -> None:
    """Stop a worker whose parent is gone: nobody would reload, replace or stop it any more."""
    parent = int(os.environ[_WORKER])  # as it was at birth: it may be gone before we look
    while os.getppid() == parent:
        await asyncio.sleep(1.0)
    stopped.set()


async def _reload_workers(service: Service, roster: Roster) -> None:
    """Reload here, where the caller sees what is wrong, then in every worker; return when all have."""
    await service.reload()
    since = time.time()
    os.kill(os.getppid(), signal.SIGHUP)
    await roster.wait_for_others(since)


async def _reload(service: Service, roster: Roster | None) -> None:
    failure = ""
    try:
        await service.reload()
    except ConfigError as error:  # logged, and the old configuration goes on
        failure = str(error)
    if roster is not None:
        roster.report(failure)


async def _prepare(config_path: Path | None, overrides: dict[str, Any], sock: socket.socket) -> None:
    """Migrate and make first keys once, before several workers would at the same time."""
    service = Service(config_path, **overrides)
    gateway = await service.start()
    sock.listen(4096)  # who comes before the workers do waits for them
    _greet(gateway, sock)
    await service.stop(grace_s=0.0)


def _supervise(
    config_path: Path | None, overrides: dict[str, Any], config: Config, sock: socket.socket
) -> None:
    """Keep `workers` processes on one socket; pass signals on; replace one that dies."""
    _run(_prepare(config_path, overrides, sock))
    sock.set_inheritable(True)
    command = _worker_command(config_path, overrides, sock)
    environment = {**os.environ, _WORKER: str(os.getpid())}

    workers: dict[int, subprocess.Popen[bytes]] = {}
    stopping = False

    def start(index: int) -> None:
        workers[index] = subprocess.Popen(command, pass_fds=[sock.fileno()], env=environment)  # noqa: S603
        if stopping:  # the signal came while it was started
            workers[index].terminate()

    def forward(number: int, _frame: Any) -> None:
        nonlocal stopping
        stopping = stopping or number != signal.SIGHUP
        for worker in workers.values():
            with contextlib.suppress(ProcessLookupError):
                worker.send_signal(number)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, forward)
    for index in range(config.workers):
        start(index)
    while any(worker.poll() is None for worker in workers.values()) or not stopping:
        time.sleep(0.2)
        for index, worker in tuple(workers.items()):
            if not stopping and worker.poll() is not None:
                time.sleep(0.5)  # a worker that cannot start must not spin
                start(index)


def _worker_command(config_path: Path | None, overrides: dict[str, Any], sock: socket.socket) -> list[str]:
    command = [sys.executable, "-m", "raven_proxy", "serve", "--fd", str(sock.fileno())]
    if config_path is not None:
        command += ["--config", str(config_path)]
    for option in ("data_dir", "plugins_dir", "workers"):
        if overrides.get(option) is not None:
            command += [f"--{option.replace('_', '-')}", str(overrides[option])]
    host, port = sock.getsockname()[:2]
    command += ["--host", host, "--port", str(port)]
    return command


def _listening_socket(config: Config, fd: int | None) -> socket.socket:
    if fd is None and os.environ.get("LISTEN_FDS") and os.environ.get("LISTEN_PID") == str(os.getpid()):
        fd = 3  # systemd socket activation: sd_listen_fds(3)
    if fd is None:
        return listen_on(*config.address())
    sock = socket.socket(fileno=fd)
    sock.setblocking(False)
    return sock


def _raise_file_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(hard, 65536) if hard != resource.RLIM_INFINITY else 65536
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _greet(gateway: Gateway, sock: socket.socket) -> None:
    """Tell a person where it runs and how to try it; shown once, on the terminal only."""
    host, port = sock.getsockname()[:2]
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    click.echo(f"Raven Proxy is listening on {url}")
    if not gateway.pipeline.authenticate:
        click.echo("No plugin that knows keys is on (auth-keys): every request will be refused.")
        return
    announced = dict(gateway.announcements)
    _tell_key(gateway, url, announced.get("admin_key"))
    if "setup_token" in announced:
        _tell_setup(url, announced["setup_token"])


def _tell_key(gateway: Gateway, url: str, key: str | None) -> None:
    if key is None:
        from_environment = "RAVEN_ADMIN_KEY" in os.environ
        where = "is the one in RAVEN_ADMIN_KEY" if from_environment else "was shown at the first start"
        click.echo(
            f"The administrator's key {where}; `raven-proxy keys create --admin --name NAME` makes another."
        )
        return
    upstreams = gateway.pipeline.upstreams
    model = "demo/chat" if "demo" in upstreams else next((m.name for m in gateway.config.models), "MODEL")
    click.echo(f"\nAdministrator key, shown this once:\n\n  {key}\n\nTry it:\n")
    click.echo(
        f"  curl {url}/v1/chat/completions \\\n"
        f"    -H 'Authorization: Bearer {key}' -H 'Content-Type: application/json' \\\n"
        f'    -d \'{{"model": "{model}", "messages": [{{"role": "user", "content": "Hello!"}}]}}\'\n\n'
        'Add "stream": true to see it stream.\n'
    )


def _tell_setup(url: str, token: str) -> None:
    password = secrets.token_urlsafe(12)  # who sends the line as it stands is to be safe too
    click.echo(
        "To sign in with a password (nobody has to), make the first owner, once, with this token; put in\n"
        "an address and a password of your own:\n\n"
        f"  curl {url}/auth/setup \\\n"
        f"    -H 'Authorization: Bearer {token}' -H 'Content-Type: application/json' \\\n"
        f'    -d \'{{"email": "you@example.com", "password": "{password}"}}\'\n'
    )
