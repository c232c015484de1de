"""The commands `raven-proxy members …`: for who has the gateway's files, and lost a password or an owner.

They work on the database, beside a running gateway; when one returns, every worker obeys it.
"""

from __future__ import annotations

import asyncio
import functools
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec

from raven_proxy import ConfigError, GatewayError, NotFound
from raven_proxy.config import load
from raven_proxy.organizations import DEFAULT
from raven_proxy.resources import ROLES, SYSTEM, Records
from raven_proxy.storage import WATCH_INTERVAL_S, SQLiteStorage

from .members import make_resource, normal_email
from .passwords import Passwords, check_strength
from .sessions import end_all
from .tables import ADD_DEFAULT, MIGRATIONS

__all__ = ["members_group"]

T = TypeVar("T")

_MARGIN_S = 0.1  # for the workers' read, after the interval at which they look
_HEADINGS = ("ID", "ORGANISATION", "E-MAIL", "ROLE", "STATE", "RATE")


@click.group("members")
def members_group() -> None:
    """List and add members, and give somebody a new password."""


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
        try:
            folder = data_dir or Path(load(config_path, upstreams=(), models=()).data_dir)
        except ConfigError as error:
            raise click.ClickException(str(error)) from error
        path = folder / "raven.db"
        if not path.is_file():
            raise click.ClickException(
                f"there is no database at {path}; name the gateway's data folder with --data-dir or --config "
                "(the gateway makes it when it is first started)"
            )
        command(path=path, **options)

    return wrapper


_stdin_option = click.option(
    "--password-stdin", is_flag=True, help="Read the password from standard input instead of asking for it."
)


@members_group.command("list")
@click.option("--organization", help="Id of one organisation; every one if left out.")
@_on_database
def list_members(path: Path, organization: str | None) -> None:
    """Show who belongs to which organisation."""

    async def read(storage: SQLiteStorage) -> list[dict[str, Any]]:
        rows = await storage.fetch_all("SELECT * FROM members ORDER BY organization_id, joined_ns, id")
        return [row for row in rows if organization in (None, row["organization_id"])]

    rows = [_HEADINGS, *map(_describe, _run(path, read, changes=False))]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    for row in rows:
        click.echo("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())


@members_group.command(short_help="Make somebody a member of an organisation.")
@click.argument("email")
@click.option(
    "--role", type=click.Choice(ROLES), default="viewer", show_default=True, help="What they may do."
)
@click.option("--name", default="", help="What they are called.")
@click.option("--organization", default=DEFAULT, show_default=True, help="Id of the organisation.")
@click.option("--operator", is_flag=True, help="An owner of org_default who runs the gateway.")
@_stdin_option
@_on_database
def add(
    path: Path, email: str, role: str, name: str, organization: str, operator: bool, password_stdin: bool
) -> None:
    """Make somebody a member; for a person who is known already no password is asked for."""
    if operator and organization != DEFAULT:
        raise click.UsageError("who runs the gateway is an owner of org_default")
    is_known = _run(path, lambda storage: _find_user(storage, email), changes=False) is not None
    body = {"email": email, "role": "owner" if operator else role, "name": name}
    if not is_known:
        body["password"] = _read_password(password_stdin)

    async def make(storage: SQLiteStorage) -> str:
        sql = "SELECT 1 AS found FROM organizations WHERE id = ?"
        if await storage.fetch_one(sql, (organization,)) is None:
            raise NotFound(f"there is no organisation {organization!r}")
        caller = msgspec.structs.replace(SYSTEM, organization_id=organization)
        resource = make_resource(Passwords())
        made = await Records(storage).create(resource, msgspec.json.encode(body), caller)
        if operator:
            await storage.execute("UPDATE members SET is_operator = 1 WHERE id = ?", (made["id"],))
            await storage.bump(resource.name)
        return str(made["id"])

    click.echo(f"Added {email} to {organization} as {_run(path, make)}.")


@members_group.command("reset-password")
@click.argument("email")
@_stdin_option
@_on_database
def reset_password(path: Path, email: str, password_stdin: bool) -> None:
    """Give somebody a new password, and end their sessions."""
    if _run(path, lambda storage: _find_user(storage, email), changes=False) is None:
        raise click.ClickException(f"there is nobody with the address {email}")
    password = _read_password(password_stdin)

    async def change(storage: SQLiteStorage) -> None:
        check_strength(password, normal_email(email))
        digest = await Passwords().hash(password)
        user_id = await _find_user(storage, email)
        assert user_id is not None
        async with storage.transaction() as transaction:
            await transaction.execute("UPDATE users SET password = ? WHERE id = ?", (digest, user_id))
            await end_all(transaction, user_id)
        sql = "SELECT id, organization_id FROM members WHERE user_id = ?"
        for row in await storage.fetch_all(sql, (user_id,)):
            caller = msgspec.structs.replace(SYSTEM, organization_id=row["organization_id"])
            await Records(storage).note(caller, "members.reset-password", row["id"])

    _run(path, change)
    click.echo(f"{email} has a new password; their sessions are over.")


async def _find_user(storage: SQLiteStorage, email: str) -> str | None:
    row = await storage.fetch_one("SELECT id FROM users WHERE email = ?", (normal_email(email),))
    return str(row["id"]) if row is not None else None


def _read_password(from_stdin: bool) -> str:
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    return str(click.prompt("Password", hide_input=True, confirmation_prompt=True))


def _run(path: Path, work: Callable[[SQLiteStorage], Awaitable[T]], *, changes: bool = True) -> T:
    async def run() -> T:
        storage = await SQLiteStorage.open(path)
        try:
            await Records(storage).migrate()
            await storage.migrate("accounts", MIGRATIONS)
            await storage.execute(ADD_DEFAULT, (int(time.time()),))
            result = await work(storage)
        finally:
            await storage.close()
        if changes:
            await asyncio.sleep(WATCH_INTERVAL_S + _MARGIN_S)
        return result

    try:
        return asyncio.run(run())
    except (ConfigError, GatewayError) as error:
        raise click.ClickException(str(error)) from error


def _describe(row: dict[str, Any]) -> tuple[str, ...]:
    role = "owner, runs the gateway" if row["is_operator"] and row["role"] == "owner" else row["role"]
    state = "active" if row["is_active"] else "off"
    rate = msgspec.json.decode(row["rate_multiplier"])
    return (row["id"], row["organization_id"], row["email"], role, state, rate)
