"""The commands `raven-proxy keys …`. They work on the database file, beside a running gateway.

When a command returns, every running worker already obeys it.
"""

from __future__ import annotations

import asyncio
import functools
import re
import tomllib
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec

from raven_proxy import ConfigError, GatewayError
from raven_proxy.config import Config, decode_table, load
from raven_proxy.storage import WATCH_INTERVAL_S, SQLiteStorage

from .keys import ADMIN_SCOPES, PROXY_SCOPES, Key, NewKey
from .store import Issued, KeyStore

__all__ = ["keys_group"]

T = TypeVar("T")

_HEADINGS: tuple[str, ...] = ("ID", "NAME", "KEY", "STATE", "SCOPES", "MODELS", "EXPIRES", "LAST USED")
_COUNT = click.IntRange(min=1)
_SCOPE = click.Choice([*PROXY_SCOPES, *ADMIN_SCOPES])
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_MARGIN_S = 0.1  # for the workers' read, after the interval at which they look


@click.group("keys")
def keys_group() -> None:
    """Create, list, rotate and revoke API keys."""


def _on_database(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that say where the database is; the command gets them as `path`."""

    @click.option(
        "--config", "config_path", envvar="RAVEN_CONFIG", type=click.Path(path_type=Path, dir_okay=False),
        help="TOML file that names the data folder. [env: RAVEN_CONFIG]",
    )  # fmt: skip
    @click.option(
        "--data-dir", type=click.Path(path_type=Path, file_okay=False), help="Folder of the database."
    )
    @functools.wraps(command)
    def wrapper(config_path: Path | None, data_dir: Path | None, **options: Any) -> None:
        path = (data_dir or _read_data_dir(config_path)) / "raven.db"
        if not path.is_file():  # a folder that is written wrong is not to get a database of its own
            raise click.ClickException(
                f"there is no database at {path}; name the gateway's data folder with --data-dir or --config "
                "(the gateway makes it when it is first started)"
            )
        command(path=path.absolute(), **options)

    return wrapper


@keys_group.command()
@click.option("--name", required=True, help="What the key is for.")
@click.option(
    "--environment", type=click.Choice(["live", "test"]), default="live", show_default=True,
    help="What it begins with: rk_live_ or rk_test_.",
)  # fmt: skip
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=_SCOPE,
    metavar="SCOPE",
    help="Repeatable; without it every proxy scope.",
)
@click.option("--admin", is_flag=True, help="Add the administrator's scopes.")
@click.option("--model", "allowed_models", multiple=True, help="Glob of models it may call; repeatable.")
@click.option("--expires", "expires_at", help="When: 30d, 12h, 2027-01-31, or an ISO time.")
@click.option("--rpm", "rate_limit_rpm", type=_COUNT, help="Requests per minute.")
@click.option("--rpd", "rate_limit_rpd", type=_COUNT, help="Requests per day.")
@click.option("--tpm", "rate_limit_tpm", type=_COUNT, help="Tokens per minute.")
@click.option("--tpd", "rate_limit_tpd", type=_COUNT, help="Tokens per day.")
@click.option("--max-concurrency", type=_COUNT, help="Requests at the same time.")
@click.option("--plan", help="Name of a plan in the config.")
@click.option(
    "--on-disconnect", type=click.Choice(["cancel", "drain"]), default="cancel", show_default=True,
    help="When its client leaves, end the request, or read the reply to its end.",
)  # fmt: skip
@click.option("--ip", "ip_allowlist", multiple=True, help="CIDR it may be used from; repeatable.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@_on_database
def create(path: Path, as_json: bool, admin: bool, **fields: Any) -> None:
    """Make a key and show it, this once."""
    new = _decode(fields, admin=admin)
    _print_issued(_run(path, lambda store: store.create(new)), path, as_json)


@keys_group.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@_on_database
def list_keys(path: Path, as_json: bool) -> None:
    """Show every key, never its secret."""
    keys = _run(path, lambda store: store.list_all(), changes=False)
    if as_json:
        click.echo(_json(keys))
    elif not keys:
        click.echo("There are no keys yet: raven-proxy keys create --name NAME")
    else:
        rows = [_HEADINGS, *map(_describe, keys)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
        for row in rows:
            click.echo(
                "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
            )


@keys_group.command()
@click.argument("key_id")
@_on_database
def revoke(path: Path, key_id: str) -> None:
    """Switch a key off, from the next request on."""
    known = _run(path, lambda store: store.get(key_id), changes=False)
    if not known.is_active:
        click.echo(f"{known.id} ({known.name}) was already revoked.")
        return
    key = _run(path, lambda store: store.revoke(key_id))
    click.echo(f"Revoked {key.id} ({key.name}).")


@keys_group.command()
@click.argument("key_id")
@click.option("--grace-s", type=click.IntRange(min=0), default=0, show_default=True,
              help="Seconds for which the old secret goes on.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@_on_database
def rotate(path: Path, key_id: str, grace_s: int, as_json: bool) -> None:
    """Give a key a new secret and show it, this once."""
    _print_issued(_run(path, lambda store: store.rotate(key_id, grace_s=grace_s)), path, as_json)


def _read_data_dir(config_path: Path | None) -> Path:
    """Check the whole config, but look up no secret of an upstream: they need not be at hand here."""
    try:
        config = load(config_path, upstreams=(), models=())
        if config_path is not None:
            # What was left out above is to be without typos as well.
            decode_table(tomllib.loads(config_path.read_text(encoding="utf-8")), Config, str(config_path))
    except ConfigError as error:
        raise click.ClickException(str(error)) from error
    return Path(config.data_dir)


def _run(path: Path, work: Callable[[KeyStore], Awaitable[T]], *, changes: bool = True) -> T:
    async def run() -> T:
        storage = await SQLiteStorage.open(path)
        try:
            store = KeyStore(storage)
            await store.migrate()
            result = await work(store)
        finally:
            await storage.close()
        if changes:
            await asyncio.sleep(WATCH_INTERVAL_S + _MARGIN_S)
        return result

    try:
        return asyncio.run(run())
    except (ConfigError, GatewayError) as error:
        raise click.ClickException(str(error)) from error


def _decode(fields: dict[str, Any], *, admin: bool) -> NewKey:
    names = dict(zip(NewKey.__struct_fields__, NewKey.__struct_encode_fields__, strict=True))
    options = {names[name]: value for name, value in fields.items() if value not in (None, ())}
    if "expiresAt" in options:
        options["expiresAt"] = _parse_expiry(options["expiresAt"])
    if admin:
        options["scopes"] = (*options.get("scopes", PROXY_SCOPES), *ADMIN_SCOPES)
    try:
        return msgspec.convert(options, NewKey)
    except msgspec.ValidationError as error:
        raise click.UsageError(str(error)) from error


def _parse_expiry(text: str) -> datetime:
    span = re.fullmatch(r"(\d{1,6})([mhdw])", text)
    try:
        if span is not None:
            return datetime.now(UTC) + timedelta(**{_UNITS[span[2]]: int(span[1])})
        time = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise click.BadParameter(
            f"{text!r} is not a time; try 30d, 12h or 2027-01-31", param_hint="--expires"
        ) from None
    return time if time.tzinfo is not None else time.replace(tzinfo=UTC)


def _print_issued(issued: Issued, path: Path, as_json: bool) -> None:
    key = issued.key
    if as_json:
        click.echo(_json({**msgspec.to_builtins(key), "key": issued.secret}))
        return
    click.echo(f"\n  {issued.secret}\n\nThis is shown once; only a digest of it is kept.\n")
    for name, value in (
        ("id", key.id),
        ("name", key.name),
        ("scopes", " ".join(key.scopes)),
        ("models", " ".join(key.allowed_models or ("every model",))),
        ("expires", key.expires_at.isoformat() if key.expires_at is not None else "never"),
        ("database", path),
    ):
        click.echo(f"  {name:<8} {value}")


def _describe(key: Key) -> tuple[str, ...]:
    is_expired = key.expires_at is not None and key.expires_at <= datetime.now(UTC)
    state = "revoked" if not key.is_active else "expired" if is_expired else "active"
    is_default = set(key.scopes) == set(PROXY_SCOPES)
    is_all = set(key.scopes) == {*PROXY_SCOPES, *ADMIN_SCOPES}
    scopes = "proxy" if is_default else "proxy + admin" if is_all else " ".join(key.scopes)
    models = " ".join(key.allowed_models or ("*",))
    times = map(_show_time, (key.expires_at, key.last_used_at))
    return (key.id, key.name, f"{key.prefix}…", state, scopes, models, *times)


def _show_time(time: datetime | None) -> str:
    return time.strftime("%Y-%m-%d %H:%M") if time is not None else "never"


def _json(value: Any) -> str:
    return msgspec.json.format(msgspec.json.encode(value)).decode()
