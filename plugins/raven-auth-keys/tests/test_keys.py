"""Keys have rules, an organization sees only its own, and the commands do what they say at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result
from raven_auth_keys import KeyStore, NewKey
from raven_auth_keys.commands import keys_group
from raven_auth_keys.keys import digest_of

from raven_proxy import InvalidRequest, NotFound, Refused
from raven_proxy.storage import SQLiteStorage


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[KeyStore]:
    storage = await SQLiteStorage.open(tmp_path / "raven.db")
    try:
        made = KeyStore(storage)
        await made.migrate()
        yield made
    finally:
        await storage.close()


@pytest.mark.parametrize(
    ("field", "value", "param"),
    [
        ("name", " ", "name"),
        ("name", "x" * 201, "name"),
        ("name", "two\nlines", "name"),
        ("scopes", (), "scopes"),
        ("allowed_models", (), "allowedModels"),
        ("allowed_models", ("",), "allowedModels"),
        ("ip_allowlist", (), "ipAllowlist"),
        ("ip_allowlist", ("10.0.0.1/8",), "ipAllowlist"),
        ("ip_allowlist", ("localhost",), "ipAllowlist"),
        ("expires_at", datetime.now(UTC) - timedelta(seconds=5), "expiresAt"),
        ("expires_at", datetime(9999, 12, 31, tzinfo=UTC) + timedelta(hours=1), None),
    ],
)
async def test_a_field_that_makes_no_sense_is_named(
    store: KeyStore, field: str, value: Any, param: str | None
) -> None:
    new = NewKey(**{"name": "test", field: value})
    if param is None:
        assert (await store.create(new)).key.expires_at == value
        return
    with pytest.raises(InvalidRequest) as caught:
        await store.create(new)
    assert (caught.value.param, caught.value.type) == (param, "validation_error")
    assert await store.list_all() == []


@pytest.mark.parametrize(
    "body",
    [
        {}, {"name": 1}, {"name": "x", "scopes": ["root"]}, {"name": "x", "rateLimitRpm": 0},
        {"name": "x", "rate": 1}, {"name": "x", "expiresAt": "2099-01-01T00:00:00"},
        {"name": "x", "onDisconnect": "stay"}, {"name": "x", "organizationId": "org_b"},
    ],
)  # fmt: skip
def test_a_body_is_decoded_strictly(body: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(body, NewKey)


async def test_T56_an_organization_sees_only_its_own_keys(store: KeyStore) -> None:
    ours = await store.create(NewKey(name="ours"), organization_id="org_a")
    theirs = await store.create(NewKey(name="theirs"), organization_id="org_b")
    assert [key.id for key in await store.list_all(organization_id="org_a")] == [ours.key.id]
    assert len(await store.list_all()) == 2
    for call in (store.get, store.revoke, store.rotate):
        for key_id in (theirs.key.id, "key_nowhere"):
            with pytest.raises(NotFound, match=r"^There is no such key\.$"):
                await call(key_id, organization_id="org_a")
    assert (await store.get(theirs.key.id, organization_id="org_b")).is_active


async def test_what_is_shown_of_a_key_is_camel_case_and_has_no_secret(store: KeyStore) -> None:
    issued = await store.create(NewKey(name="shown", allowed_models=("a", "b"), rate_limit_tpd=5))
    shown = msgspec.json.decode(msgspec.json.encode(issued.key))
    assert shown == msgspec.json.decode(msgspec.json.encode(await store.get(issued.key.id)))
    assert shown["allowedModels"] == ["a", "b"]
    assert shown["rateLimitTpd"] == 5
    assert shown["createdAt"].endswith("Z")
    assert {"key", "digest", "secret", "previousDigest"}.isdisjoint(shown)
    assert digest_of(issued.secret) not in str(shown)


async def test_a_revoked_key_stays_listed_and_cannot_be_rotated(store: KeyStore) -> None:
    issued = await store.create(NewKey(name="gone"))
    assert not (await store.revoke(issued.key.id)).is_active
    assert not (await store.revoke(issued.key.id)).is_active, "twice is once"
    assert [key.is_active for key in await store.list_all()] == [False]
    with pytest.raises(Refused) as caught:
        await store.rotate(issued.key.id)
    assert (caught.value.status, caught.value.code) == (409, "conflict")


# Commands


def run(data_dir: Path, *arguments: str, fails: bool = False, **environment: str) -> Result:
    where = [] if environment else ["--data-dir", str(data_dir)]
    if data_dir.exists():
        (data_dir / "raven.db").touch()
    result = CliRunner().invoke(keys_group, [*arguments, *where], env=environment)
    assert (result.exit_code != 0) == fails, result.output
    return result


def test_create_shows_the_secret_once_and_list_never(tmp_path: Path) -> None:
    made = run(tmp_path, "create", "--name", "team", "--model", "gpt-*", "--expires", "30d", "--rpm", "60")
    [secret] = [word for word in made.output.split() if word.startswith("rk_live_")]
    assert "shown once" in made.output
    listed = run(tmp_path, "list")
    assert secret not in listed.output
    assert secret[:12] in listed.output
    assert "team" in listed.output
    [key] = msgspec.json.decode(run(tmp_path, "list", "--json").output)
    assert key["allowedModels"] == ["gpt-*"]
    assert key["rateLimitRpm"] == 60
    assert "key" not in key
    days = (datetime.fromisoformat(key["expiresAt"].replace("Z", "+00:00")) - datetime.now(UTC)).days
    assert days in (29, 30)


def test_create_takes_every_field(tmp_path: Path) -> None:
    made = run(
        tmp_path, "create", "--name", "all", "--environment", "test", "--scope", "chat:write",
        "--scope", "models:read", "--admin", "--rpd", "2", "--tpm", "3", "--tpd", "4",
        "--max-concurrency", "5", "--plan", "pro", "--on-disconnect", "drain",
        "--ip", "10.0.0.0/8", "--expires", "2099-01-31", "--json",
    )  # fmt: skip
    key = msgspec.json.decode(made.output)
    assert key["key"].startswith("rk_test_")
    assert key["scopes"] == ["admin:read", "admin:write", "chat:write", "models:read"]
    assert [key[f"rateLimit{rate}"] for rate in ("Rpm", "Rpd", "Tpm", "Tpd")] == [None, 2, 3, 4]
    assert (key["maxConcurrency"], key["plan"], key["onDisconnect"]) == (5, "pro", "drain")
    assert (key["ipAllowlist"], key["expiresAt"]) == (["10.0.0.0/8"], "2099-01-31T00:00:00Z")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("create",), "--name"),
        (("create", "--name", "x", "--rpm", "0"), "--rpm"),
        (("create", "--name", "x", "--scope", "root"), "--scope"),
        (("create", "--name", "x", "--expires", "soon"), "'soon' is not a time"),
        (("create", "--name", "x", "--expires", "2001-01-01"), "must be in the future"),
        (("create", "--name", "x", "--ip", "home"), "ipAllowlist"),
        (("revoke", "key_nowhere"), "There is no such key."),
        (("rotate", "key_nowhere"), "There is no such key."),
    ],
)
def test_a_wrong_command_says_what_is_wrong(tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    if arguments[0] != "create":
        run(tmp_path, "create", "--name", "another")
    result = run(tmp_path, *arguments, fails=True)
    assert words in result.output
    assert "Traceback" not in result.output


def test_the_data_folder_comes_from_the_config_whose_secrets_are_not_needed(tmp_path: Path) -> None:
    config = tmp_path / "raven.toml"
    secret = '[[upstreams]]\nname = "a"\nprovider = "openai"\nkey = { env = "NOT_SET_ANYWHERE" }\n'
    config.write_text(f'data_dir = "{tmp_path}/elsewhere"\n{secret}')
    database = tmp_path / "elsewhere" / "raven.db"
    database.parent.mkdir()
    database.touch()
    assert str(database) in run(tmp_path, "create", "--name", "x", RAVEN_CONFIG=str(config)).output
    assert database.stat().st_size
    for wrong in ("data_dir = ", 'data_dirs = "x"', f'{secret}model = ["a"]', "data_dir = 1"):
        config.write_text(wrong)
        failed = run(tmp_path, "list", fails=True, RAVEN_CONFIG=str(config))
        assert failed.exit_code == 1
        assert "raven.toml: " in failed.output
        assert failed.output.count("\n") == 1


@pytest.mark.parametrize(
    "command", [("create", "--name", "x"), ("list",), ("revoke", "key_x"), ("rotate", "key_x")]
)
def test_no_command_makes_a_database(tmp_path: Path, command: tuple[str, ...]) -> None:
    """A key in a folder that is written wrong works nowhere."""
    folder = tmp_path / "nowhere"
    result = run(folder, *command, fails=True)
    assert result.exit_code == 1
    assert result.output == (
        f"Error: there is no database at {folder / 'raven.db'}; "
        "name the gateway's data folder with --data-dir or --config "
        "(the gateway makes it when it is first started)\n"
    )
    assert not folder.exists()


def test_a_key_is_revoked_once_and_the_list_shows_when_one_expires(tmp_path: Path) -> None:
    made = run(tmp_path, "create", "--name", "x", "--expires", "2099-01-31", "--json").output
    key_id = msgspec.json.decode(made)["id"]
    assert "2099-01-31 00:00" in run(tmp_path, "list").output
    assert run(tmp_path, "revoke", key_id).output == f"Revoked {key_id} (x).\n"
    assert run(tmp_path, "revoke", key_id).output == f"{key_id} (x) was already revoked.\n"


async def test_T55_when_a_command_returns_a_running_worker_obeys(tmp_path: Path, store: KeyStore) -> None:
    from raven_auth_keys.snapshot import load_entries

    storage = store._storage
    entries = await load_entries(storage)

    async def refresh() -> None:
        nonlocal entries
        entries = await load_entries(storage)

    storage.watch("keys", refresh)
    made = msgspec.json.decode(
        (await asyncio.to_thread(run, tmp_path, "create", "--name", "x", "--json")).output
    )
    assert digest_of(made["key"]) in entries
    rotated = msgspec.json.decode(
        (await asyncio.to_thread(run, tmp_path, "rotate", made["id"], "--json")).output
    )
    assert digest_of(made["key"]) not in entries
    assert digest_of(rotated["key"]) in entries
    await asyncio.to_thread(run, tmp_path, "revoke", made["id"])
    assert entries == {}
