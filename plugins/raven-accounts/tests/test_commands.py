"""`raven-proxy members`: who has the gateway's files can always get in."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from raven_accounts.commands import members_group

from .conftest import PASSWORD, House

OTHER = "another wire for ravens"


async def run(house: House, *arguments: str, typed: str | None = None) -> Result:
    folder = str(house.running.folder / "data")
    command = [*arguments, "--data-dir", folder]
    return await asyncio.to_thread(CliRunner().invoke, members_group, command, input=typed)


async def test_a_lost_password_is_replaced(house: House) -> None:
    """The running gateway takes the new one when the command returns; sessions of before are over."""
    await house.add("ann@example.com", "viewer")
    page = await house.sign_in("ann@example.com")
    done = await run(house, "reset-password", "Ann@example.com", "--password-stdin", typed=f"{OTHER}\n")
    assert done.exit_code == 0, done.output
    assert (await page("GET", "/auth/me"))[0] == 401
    await house.sign_in("ann@example.com", OTHER)
    assert OTHER not in done.output
    _, log = await house.operator("GET", "/audit-logs?action=members.reset-password")
    assert [one["actor"] for one in log] == ["system"]


async def test_somebody_is_added_who_runs_the_gateway(house: House) -> None:
    """Also where nobody else can get in any more; others are added as what they are to be."""
    done = await run(house, "add", "root@example.com", "--operator", typed=f"{PASSWORD}\n{PASSWORD}\n")
    assert done.exit_code == 0, done.output
    root = await house.sign_in("root@example.com")
    assert (await root("GET", "/auth/me"))[1]["isOperator"] is True
    assert (await house.operator("POST", "/auth/setup", {"email": "x@example.com", "password": OTHER}))[
        0
    ] == 409
    b = await house.found("B")
    added = await run(house, "add", "root@example.com", "--organization", b, "--role", "developer")
    assert added.exit_code == 0, added.output
    listed = await run(house, "list")
    assert "owner, runs the gateway" in listed.output
    assert [b in line for line in listed.output.splitlines()].count(True) == 1
    assert len((await run(house, "list", "--organization", b)).output.splitlines()) == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("add", "nobody"), "e-mail address"),
        (("add", "ann@example.com", "--organization", "org_none"), "no organisation"),
        (("add", "ann@example.com", "--operator", "--organization", "org_b"), "org_default"),
        (("add", "ann@example.com", "--role", "god"), "--role"),
        (("reset-password", "nobody@example.com"), "nobody with the address"),
    ],
)
async def test_what_cannot_be_is_said(house: House, arguments: Any, said: str) -> None:
    """In one line, with an exit status, and nothing changed."""
    done = await run(house, *arguments, "--password-stdin", typed=f"{PASSWORD}\n")
    assert done.exit_code != 0
    assert said in done.output
    assert (await house.operator("GET", "/orgs/org_default/members"))[1] == []


async def test_a_weak_password_is_refused_here_too(house: House) -> None:
    """The rules are the same ones."""
    await house.add("ann@example.com", "viewer")
    for arguments in (("add", "bob@example.com"), ("reset-password", "ann@example.com")):
        done = await run(house, *arguments, "--password-stdin", typed="1234567890\n")
        assert done.exit_code != 0
        assert "guessed" in done.output


def test_without_a_database_nothing_is_made(tmp_path: Path) -> None:
    """The wrong folder is an error, and no new gateway."""
    done = CliRunner().invoke(members_group, ["list", "--data-dir", str(tmp_path)])
    assert done.exit_code != 0
    assert list(tmp_path.iterdir()) == []
