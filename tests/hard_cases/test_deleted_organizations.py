"""T55: a deleted organisation leaves nothing behind that has an effect, whatever plugins keep for it.

From the live list of resources: one that a plugin adds is judged here without a line of its own.
"""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from aiohttp import ClientSession, DummyCookieJar  # noqa: TID251 - the client side of a test

from raven_proxy import hookimpl
from raven_proxy.harness import RunningGateway
from raven_proxy.plugins import find_first_party
from raven_proxy.resources import Caller, Record, Resource
from raven_proxy.storage import Transaction

from .conftest import Case

OWNER = {"email": "olga@example.com", "role": "owner", "password": "a raven on a wire"}


class Notes:
    """Keeps notes that cannot be deleted while `is_stuck`."""

    class Note(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, rename="camel"):
        name: str

    def __init__(self) -> None:
        self.is_stuck = False

    @hookimpl
    def register_resources(self, register: Any) -> None:
        register(
            Resource(name="notes", singular="note", table="notes", prefix="note_", body=self.Note,
                     summary="Notes", example={"name": "x"}, forget=self._forget)
        )  # fmt: skip

    @hookimpl
    async def startup(self, gateway: Any) -> None:
        sql = "CREATE TABLE notes (id TEXT, organization_id TEXT, created_at INTEGER, name TEXT)"
        await gateway.storage.migrate("notes", [sql])

    async def _forget(self, caller: Caller, record: Record[Any], transaction: Transaction) -> None:
        if self.is_stuck:
            raise RuntimeError("not now")


class House:
    """A gateway with every plugin, and organisations that have one of everything."""

    def __init__(self, running: RunningGateway, notes: Notes) -> None:
        self.running = running
        self.notes = notes
        self.storage = running.gateway.storage
        self.kinds: list[Resource[Any]] = [
            one for one in running.gateway.pipeline.resources
            if "create" in one.operations and one.name != "orgs"
        ]  # fmt: skip

    async def ask(
        self, method: str, path: str, json: Any = None, organization: str | None = None, **headers: str
    ) -> tuple[int, Any]:
        sent = {"X-Org-Id": organization} if organization is not None else {}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.running.client.request(method, path, json=json, headers=sent) as reply:
            return reply.status, msgspec.json.decode(await reply.read())

    async def found(self, name: str, *, without: str = "") -> tuple[str, dict[str, Any]]:
        """Make an organisation and one of everything in it; give its id and what was made."""
        status, org = await self.ask("POST", "/orgs", {"name": name})
        assert status == 201, org
        made = {}
        for kind in self.kinds:
            if kind.name == without:
                continue
            path = kind.base_path.replace("{organization}", org["id"])
            example = dict(kind.example) | (
                {"email": f"{name}@example.com"} if kind.name == "members" else {}
            )
            status, made[kind.name] = await self.ask("POST", path, example, org["id"])
            assert status == 201, (kind.name, made[kind.name])
        return org["id"], made

    async def delete_as_owner(self, organization: str) -> tuple[int, Any]:
        """Sign in as the organisation's owner and delete it."""
        login = {"email": OWNER["email"], "password": OWNER["password"]}
        async with ClientSession(self.running.url, cookie_jar=DummyCookieJar()) as page:
            async with page.post("/auth/login", json=login) as reply:
                cookie = reply.headers["Set-Cookie"].partition(";")[0]
                token = (await reply.json())["csrfToken"]
            headers = {"Cookie": cookie, "X-CSRF-Token": token, "Origin": self.running.url}
            async with page.delete(f"/orgs/{organization}", headers=headers) as reply:
                return reply.status, await reply.json()

    async def count(self, table: str, organization: str) -> int:
        await self.storage.flush()
        sql = f"SELECT COUNT(*) AS rows FROM {table} WHERE organization_id = ?"
        row = await self.storage.fetch_one(sql, (organization,))
        assert row is not None
        return int(row["rows"])


@pytest.fixture
async def house(case: Case) -> House:
    notes = Notes()
    running = await case.start(notes, base=find_first_party())
    return House(running, notes)


@pytest.mark.parametrize("by", ["operator", "owner"])
async def test_T55_nothing_is_left_of_a_deleted_organisation(house: House, by: str) -> None:
    """Every record of every resource goes, each with its line in the audit log; others keep theirs."""
    gone, made = await house.found("gone")
    stays, kept = await house.found("stays", without="domains")
    assert {kind.name for kind in house.kinds} >= {
        "keys", "members", "budgets", "domains", "providers", "webhooks", "guardrails", "notes"
    }  # fmt: skip
    if by == "owner":
        assert (await house.ask("POST", f"/orgs/{gone}/members", OWNER, gone))[0] == 201
        status, answer = await house.delete_as_owner(gone)
    else:
        status, answer = await house.ask("DELETE", f"/orgs/{gone}")
    assert (status, answer) == (200, {"success": True})
    for kind in house.kinds:
        assert await house.count(kind.table, gone) == 0, kind.name
        if kind.name != "domains":
            assert await house.count(kind.table, stays) == 1, kind.name
    log = await house.storage.fetch_all(
        "SELECT action, target_id FROM audit_log WHERE organization_id = ?", (gone,)
    )
    entries = [(entry["action"], entry["target_id"]) for entry in log]
    for name, one in made.items():
        assert entries.count((f"{name}.delete", one["id"])) == 1, name
    assert (await house.ask("GET", f"/keys/{kept['keys']['id']}", None, stays))[0] == 200


async def test_what_was_written_down_stays(house: House) -> None:
    """The ledger, the exchanges and the audit log of who is gone are what they were."""
    gone, made = await house.found("gone")
    grant = {"amount": "5"}
    assert (await house.ask("POST", "/credits/grants", grant, gone))[0] == 201
    key = {"Authorization": f"Bearer {made['keys']['key']}"}
    assert (await house.ask("GET", "/v1/models", **key))[0] == 200
    tables = ("entries", "exchanges", "audit_log")
    before = {table: await house.count(table, gone) for table in tables}
    assert all(before.values())
    await house.ask("DELETE", f"/orgs/{gone}")
    for table in tables:
        assert await house.count(table, gone) >= before[table]


async def test_it_has_no_effect_from_the_next_request_on(house: House) -> None:
    """Its key is as none, its host is anybody's and can be proved anew, its accounts are nobody's."""
    gone, made = await house.found("gone")
    domain = made["domains"]["domain"]
    await house.storage.execute("UPDATE domains SET verified_at = 1")
    await house.storage.bump("domains")
    holdings = house.running.gateway.pipeline.catalogue.holdings
    assert holdings.of(gone) is not None
    assert (await house.ask("GET", "/v1/models", Authorization="Bearer none", Host=domain))[0] == 401
    stays, kept = await house.found("stays", without="domains")
    other = {"Authorization": f"Bearer {kept['keys']['key']}", "Host": domain}
    assert (await house.ask("GET", "/v1/models", **other))[0] == 403
    await house.ask("DELETE", f"/orgs/{gone}")
    status, answer = await house.ask("GET", "/v1/models", Authorization=f"Bearer {made['keys']['key']}")
    assert (status, answer["error"]["code"]) == (401, "invalid_api_key")
    assert (await house.ask("GET", "/v1/models", **other))[0] == 200
    assert (await house.ask("POST", "/domains", {"domain": domain}, stays))[0] == 201
    assert holdings.of(gone) is None
    assert (await house.ask("GET", "/keys", None, gone))[0] == 404


async def test_what_was_kept_of_its_requests_goes_too(case: Case) -> None:
    """What was asked and answered is no resource, and no log that anybody could read on."""
    config = {"plugin": {"bodies": {"keep": "all"}}}
    house = House(await case.start(base=find_first_party(), config=config), Notes())
    gone, made = await house.found("gone")
    key = {"Authorization": f"Bearer {made['keys']['key']}"}
    body = {"model": "demo/x", "messages": [{"role": "user", "content": "hi"}]}
    assert (await house.ask("POST", "/v1/chat/completions", body, **key))[0] in {200, 403}
    await house.storage.execute(
        "INSERT INTO kept_bodies (request_id, organization_id, created_at, sealed) VALUES ('r', ?, ?, '')",
        (gone, 2**40),
    )
    await house.ask("DELETE", f"/orgs/{gone}")
    assert await house.count("kept_bodies", gone) == 0


async def test_all_goes_or_nothing(house: House, case: Case) -> None:
    """A plugin whose rule breaks stops the whole of it: nothing is gone, nothing is in the log."""
    case.may_fail = True
    gone, _ = await house.found("gone")
    log = await house.count("audit_log", gone)
    house.notes.is_stuck = True
    assert (await house.ask("DELETE", f"/orgs/{gone}"))[0] == 500
    for kind in house.kinds:
        assert await house.count(kind.table, gone) == 1, kind.name
    assert await house.count("audit_log", gone) == log
    assert (await house.ask("GET", f"/orgs/{gone}"))[0] == 200
    house.notes.is_stuck = False
    assert (await house.ask("DELETE", f"/orgs/{gone}"))[0] == 200


@pytest.mark.parametrize("by", ["operator", "operator for it", "owner"])
async def test_who_runs_the_gateway_can_read_who_deleted_it(house: House, by: str) -> None:
    """In their own log, since its log went out of reach with it."""
    gone, _ = await house.found("gone")
    if by == "owner":
        assert (await house.ask("POST", f"/orgs/{gone}/members", OWNER, gone))[0] == 201
        assert (await house.delete_as_owner(gone))[0] == 200
    else:
        acts_for = gone if by == "operator for it" else None
        assert (await house.ask("DELETE", f"/orgs/{gone}", None, acts_for))[0] == 200
    _, log = await house.ask("GET", f"/audit-logs?action=orgs.delete&targetId={gone}")
    assert [one["changes"]["name"]["from"] for one in log] == ["gone"]
    assert log[0]["actor"].startswith("mem_" if by == "owner" else "key_")
