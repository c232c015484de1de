"""The `raven-proxy` command.

Each command is thin: it reads options, calls the module that does the work, and prints. Plugins
add their own (`register_commands`).
"""

from __future__ import annotations

import asyncio
import os
import shlex
import sys
import textwrap
from pathlib import Path
from typing import Any

import click
import msgspec
from structlog.testing import capture_logs

from . import mock, plugins, process, scaffold
from .config import Config, load
from .errors import ConfigError
from .service import Service

__all__ = ["main"]

_config_option = click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar="RAVEN_CONFIG",
    help="TOML file; without it every default applies. [env: RAVEN_CONFIG]",
)
_plugins_dir_option = click.option(
    "--plugins-dir",
    type=click.Path(path_type=Path),
    help="Folder of one-file plugins; each *.py in it is on.",
)


class _Group(click.Group):
    """Adds the plugins' commands when a command is looked up, not when this module is imported."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        try:
            added = _plugin_commands()
        except ConfigError as error:  # help is wanted most where something is wrong
            click.echo(f"raven-proxy: {error}", err=True)
            added = {}
        return sorted({*super().list_commands(ctx), *added})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return super().get_command(ctx, cmd_name) or _checked(_plugin_commands).get(cmd_name)


def _plugin_commands() -> dict[str, click.Command]:
    """Collect the commands of the installed first-party plugins and of a configured set."""
    found: dict[str, click.Command] = {}

    def add(command: click.Command) -> None:
        if command.name is None or command.name in found:
            raise ConfigError(f"the command {command.name!r} is already registered")
        found[command.name] = command

    path = os.environ.get("RAVEN_CONFIG")
    # Without the upstreams: their secrets need not be at hand where keys are listed.
    config = load(path, upstreams=(), models=()) if path and Path(path).is_file() else Config()
    manager = plugins.register(plugins.load(config, None))
    plugins.call_register(manager, "register_commands", add)
    return found


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="raven-proxy")
def main() -> None:
    """Raven Proxy: a plugin-based reverse proxy for LLM traffic."""


@main.command()
@_config_option
@click.option("--host", help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), help="Port to listen on; 0 picks a free one.")
@click.option("--data-dir", help="Folder of the database and the generated secret.")
@_plugins_dir_option
@click.option("--workers", type=click.IntRange(1, 64), help="Processes that share the port.")
@click.option("--fd", type=int, hidden=True, help="Listening socket inherited from the parent.")
def serve(config_path: Path | None, fd: int | None, **options: Any) -> None:
    """Start the gateway."""
    host, port = options.pop("host"), options.pop("port")
    plugins_dir = options["plugins_dir"]
    overrides = {**options, "plugins_dir": str(plugins_dir) if plugins_dir else None}
    config = _checked(lambda: load(config_path, **overrides))
    if host is not None or port is not None:
        old_host, old_port = config.address()
        host, port = host or old_host, old_port if port is None else port
        overrides["listen"] = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    _checked(lambda: process.run(config_path, overrides, fd))


@main.command()
@_config_option
@_plugins_dir_option
def check(config_path: Path | None, plugins_dir: Path | None) -> None:
    """Load config and plugins, bind nothing, and say what is wrong."""
    service = Service(config_path, plugins_dir=str(plugins_dir) if plugins_dir else None)
    with capture_logs():  # what is wrong is said in one line
        pipeline = _checked(lambda: asyncio.run(service.rehearse()))
    faces = len(pipeline.faces())
    click.echo(f"ok: {len(pipeline.plugins)} plugins, {faces} routes, {len(pipeline.upstreams)} upstreams")
    for one in pipeline.upstreams.values():
        if one.credential is None and one.provider.needs_key(one.preset):
            click.echo(
                f"note: [[upstreams]] {one.name} has no key: it serves who sends X-Provider-Key, alone"
            )


@main.command("plugins", short_help="Show the plugins that are on, and their hooks.")
@_config_option
@_plugins_dir_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_plugins(config_path: Path | None, plugins_dir: Path | None, as_json: bool) -> None:
    """Show which plugins are on, their versions, and the hooks they implement, in order of call."""
    config = _checked(lambda: load(config_path, plugins_dir=str(plugins_dir) if plugins_dir else None))
    loaded = _checked(lambda: plugins.load(config, Path(config.plugins_dir) if config.plugins_dir else None))
    manager = _checked(lambda: plugins.register(loaded))
    rows = [
        {
            "name": plugin.name,
            "version": plugin.version,
            "source": plugin.source,
            "hooks": sorted(c.name for c in manager.get_hookcallers(plugin.instance) or ()),
        }
        for plugin in loaded
    ]
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(rows)).decode())
        return
    width = max((len(plugin.name) for plugin in loaded), default=4)
    for row in rows:
        click.echo(f"{row['name']:<{width}}  {row['version']:<8}  {', '.join(row['hooks']) or '-'}")


@main.command("new-plugin", short_help="Write a plugin package that installs and is tested.")
@click.argument("name")
@click.option("--dir", "folder", type=click.Path(path_type=Path), default=Path(), help="Where to put it.")
def new_plugin(name: str, folder: Path) -> None:
    """Write a plugin package that installs, with one test that passes."""
    path = _checked(lambda: scaffold.write(name, folder))
    click.echo(f'{path} is ready:\n\n  pip install -e "{path}[test]"\n  pytest {shlex.quote(str(path))}\n')
    click.echo(f'Then name it in the config: plugins = [..., "{name}"]')


def _fit(table: str) -> str:
    """Break the long lines of the mock's table for a terminal of 80 columns."""
    indent = " " * table.splitlines()[0].index("what the mock")
    lines = (textwrap.wrap(line, 80, subsequent_indent=indent) for line in table.splitlines())
    return "\n".join(part for line in lines for part in line)


@main.command(
    "mock", short_help="Run a scripted upstream that misbehaves on demand.",
    epilog=f"\b\n{_fit(mock.fault_table())}",
)  # fmt: skip
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", default=4010, show_default=True, type=click.IntRange(0, 65535),
    help="Port to listen on; 0 picks a free one.",
)  # fmt: skip
def mock_command(host: str, port: int) -> None:
    """Run a scripted upstream: an OpenAI-like vendor that misbehaves on demand.

    Models named fx-… misbehave; GET /_seen shows what was received, POST /_script queues replies.
    """

    def announce(running: mock.MockUpstream) -> None:
        click.echo(f"mock upstream on {running.url} (Ctrl-C stops it)")

    try:
        asyncio.run(mock.serve(host, port, started=announce))
    except KeyboardInterrupt:
        return
    except (OSError, UnicodeError) as error:  # the latter for what can be no host's name
        # asyncio's own text says it all twice; a name that is not found has a negative number.
        number = getattr(error, "errno", None) or 0
        reason = os.strerror(number) if number > 0 else getattr(error, "strerror", None) or error
        click.echo(f"raven-proxy: mock: {host}:{port}: {reason}", err=True)
        sys.exit(1)


def _checked(work: Any) -> Any:
    """Run `work`; a ConfigError is one line on standard error and exit status 1."""
    try:
        return work()
    except ConfigError as error:
        click.echo(f"raven-proxy: {error}", err=True)
        sys.exit(1)
