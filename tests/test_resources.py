"""A resource is declared once; its API, its rules and its traces come from that."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
import pytest
from msgspec import Meta

from raven_proxy import Exchange, Principal, hookimpl
from raven_proxy.gateway import Gateway
from raven_proxy.harness import GatewayStarter
from raven_proxy.resources import (
    SYSTEM,
    Action,
    ActionCall,
    Caller,
    Change,
    Record,
    Resource,
    Secret,
    Unkept,
    invalid,
)

SCOPES = frozenset({"admin:read", "admin:write"})
PEOPLE = {
    "owner-a": Principal(key_id="key_a", organization_id="org_a", name="Ann", scopes=SCOPES, role="owner"),
    "viewer-a": Principal(key_id="key_v", organization_id="org_a", scopes=SCOPES, role="viewer"),
    "reader-a": Principal(key_id="key_r", organization_id="org_a", scopes=frozenset({"admin:read"})),
    "owner-b": Principal(key_id="key_b", organization_id="org_b", scopes=SCOPES, role="owner"),
    "operator": Principal(key_id="key_o", scopes=SCOPES, role="owner", is_operator=True),
}
TABLE = """CREATE TABLE notes (id TEXT PRIMARY KEY, organization_id TEXT NOT NULL, created_at INTEGER
  NOT NULL, name TEXT NOT NULL, kind TEXT NOT NULL, tags TEXT NOT NULL, is_pinned INTEGER NOT NULL,
  due INTEGER, password BLOB, weight REAL NOT NULL, size INTEGER, digest TEXT)"""


class Note(msgspec.Struct, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """A toy with one field of each sort."""

    name: Annotated[str, Meta(min_length=1, max_length=20)]
    kind: Literal["plain", "fancy"] = "plain"
    tags: tuple[str, ...] = ()
    is_pinned: bool = False
    due: datetime | None = None
    password: Secret | None = None
    weight: float = 1.0
    passphrase: Unkept | None = None


class Shown(msgspec.Struct, rename="camel"):
    """What reading adds."""

    size: int


async def judge_note(change: Change[Note]) -> None:
    if change.body.name == "forbidden":
        raise invalid("name", "must be something else")
    change.columns["size"] = len(change.body.name)
    if change.prepared is not None:
        change.columns["digest"] = change.prepared
    if change.before is None:
        change.reply["welcome"] = "hello"
        if change.body.name == "apart":
            change.columns["organization_id"] = change.id


def everywhere(caller: Caller) -> tuple[str, ...] | None:
    """An operator sees all rows, Bob those of two organisations."""
    if caller.is_operator:
        return None
    return ("org_a", "org_b") if caller.actor == "key_b" else (caller.organization_id,)


async def prepare_note(fields: Mapping[str, Any]) -> str | None:
    passphrase = fields.get("passphrase")
    return None if passphrase is None else f"digest of {len(passphrase)}"


async def show_note(record: Record[Note]) -> dict[str, Any]:
    return {"size": record.columns["size"]}


async def shout(call: ActionCall) -> dict[str, str]:
    assert call.record is not None
    return {"loud": call.record.body.name.upper()}


NOTES = Resource(
    name="notes", singular="note", table="notes", prefix="note_", body=Note, shown=Shown, summary="Notes",
    filters=("kind",), most=30, check=judge_note, show=show_note,
    actions=(Action(name="shout", summary="Say it loudly", run=shout),),
)  # fmt: skip


MEMOS = Resource(
    name="memos", singular="memo", table="notes", prefix="memo_", body=Note, shown=Shown, summary="Memos",
    visible=everywhere, prepare=prepare_note, check=judge_note, show=show_note,
)  # fmt: skip


class Notes:
    """Registers the toy, and knows the people by their names."""

    @hookimpl
    def register_resources(self, register: Any) -> None:
        register(NOTES)
        register(MEMOS)

    @hookimpl
    async def startup(self, gateway: Gateway) -> None:
        await gateway.storage.migrate("notes", [TABLE])

    @hookimpl
    async def authenticate(self, exchange: Exchange) -> Principal | None:
        return PEOPLE.get(exchange.headers.get("authorization", "").removeprefix("Bearer "))


class Api:
    """Calls the management API as somebody."""

    def __init__(self, running: Any) -> None:
        self.gateway: Gateway = running.gateway
        self._client = running.client

    async def __call__(
        self, method: str, path: str, json: Any = None, who: str = "owner-a"
    ) -> tuple[int, Any, Any]:
        headers = {"Authorization": f"Bearer {who}"}
        async with self._client.request(method, path, json=json, headers=headers) as reply:
            return reply.status, await reply.json(), reply.headers


@pytest.fixture
async def api(raven: GatewayStarter) -> Api:
    return Api(await raven([Notes]))


async def test_a_record_is_made_read_changed_and_deleted(api: Api) -> None:
    """Create is 201 with the object, read and change 200, delete says success; then it is not there."""
    sent = {"name": "one", "tags": ["a"], "isPinned": True, "due": "2027-01-02T03:04:05Z", "weight": 2.5}
    status, made, _ = await api("POST", "/notes", sent)
    assert status == 201
    assert made["id"].startswith("note_")
    assert made.pop("welcome") == "hello"
    assert {**made, **sent} == made
    assert made["size"] == 3
    assert made["createdAt"].endswith("Z")
    assert (await api("GET", f"/notes/{made['id']}"))[:2] == (200, made)
    assert (await api("GET", "/notes"))[:2] == (200, [made])
    status, changed, _ = await api("PATCH", f"/notes/{made['id']}", {"name": "other"})
    assert (status, changed["name"], changed["tags"], changed["size"]) == (200, "other", ["a"], 5)
    assert (await api("DELETE", f"/notes/{made['id']}"))[:2] == (200, {"success": True})
    assert (await api("GET", f"/notes/{made['id']}"))[0] == 404


@pytest.mark.parametrize("method", ["PATCH", "PUT"])
async def test_what_get_gave_can_be_sent_back_unchanged(api: Api, method: str) -> None:
    """Nothing changes by it, the secret included, and the audit log says nothing."""
    _, made, _ = await api("POST", "/notes", {"name": "one", "password": "a long enough secret"})
    _, before, _ = await api("GET", f"/notes/{made['id']}")
    assert (await api(method, f"/notes/{made['id']}", before))[:2] == (200, before)
    record = await api.gateway.records.get(NOTES, made["id"], _caller())
    assert api.gateway.records.reveal(NOTES, record, "password") == "a long enough secret"
    assert [one["action"] for one in (await api("GET", "/audit-logs"))[1]] == ["notes.create"]


async def test_put_replaces_and_patch_changes(api: Api) -> None:
    """Fields that PUT leaves out go back to their defaults; a secret stays, since nobody can read it."""
    sent = {"name": "one", "kind": "fancy", "tags": ["a"], "password": "a long enough secret"}
    _, made, _ = await api("POST", "/notes", sent)
    _, replaced, _ = await api("PUT", f"/notes/{made['id']}", {"name": "two"})
    assert (replaced["name"], replaced["kind"], replaced["tags"]) == ("two", "plain", [])
    assert replaced["passwordHint"] == "…cret"
    _, cleared, _ = await api("PATCH", f"/notes/{made['id']}", {"password": None})
    assert cleared["passwordHint"] is None


async def test_a_secret_is_sealed_and_never_shown(api: Api) -> None:
    """Its last four at most, and nothing of a short one; in no answer, in no log and in no column."""
    _, made, _ = await api("POST", "/notes", {"name": "one", "password": "a long enough secret"})
    assert "password" not in made
    assert made["passwordHint"] == "…cret"
    _, short, _ = await api("PATCH", f"/notes/{made['id']}", {"password": "hunter2"})
    assert short["passwordHint"] == "…"
    _, log, _ = await api("GET", "/audit-logs")
    rows = await api.gateway.storage.fetch_all("SELECT * FROM notes")
    for place in (repr(log), repr(rows)):
        assert "long enough" not in place
        assert "hunter2" not in place


@pytest.mark.parametrize(
    ("sent", "param"),
    [
        ({}, "name"),
        ({"name": ""}, "name"),
        ({"name": 1}, "name"),
        ({"name": "forbidden"}, "name"),
        ({"name": "x", "kind": "odd"}, "kind"),
        ({"name": "x", "tags": ["a", 2]}, "tags[1]"),
        ({"name": "x", "due": "tomorrow"}, "due"),
        ({"name": "x", "due": "0001-01-01T00:00:00+23:59"}, "due"),
        ({"name": "x", "due": "9999-12-31T23:59:59-23:59"}, "due"),
        ({"name": "x", "organization_id": "org_b"}, "organization_id"),
        ({"name": "x", "role": "owner"}, "role"),
        ([], None),
    ],
)
async def test_a_bad_field_is_named(api: Api, sent: Any, param: str | None) -> None:
    """400 `validation_error` with `param`, and nothing was made."""
    status, body, _ = await api("POST", "/notes", sent)
    assert (status, body["error"]["type"], body["error"]["param"]) == (400, "validation_error", param)
    assert (await api("GET", "/notes"))[1] == []


async def test_nobody_writes_what_is_not_theirs_to_write(api: Api) -> None:
    """Ids, times and organisations that are sent along are passed over."""
    sent = {"name": "x", "id": "note_mine", "createdAt": "2001-01-01T00:00:00Z", "organizationId": "org_b",
            "size": 99}  # fmt: skip
    status, made, _ = await api("POST", "/notes", sent)
    assert status == 201
    assert made["id"] != "note_mine"
    assert made["size"] == 1
    assert not made["createdAt"].startswith("2001")
    assert (await api("GET", "/notes", who="owner-b"))[1] == []


async def test_a_name_is_taken_once_in_an_organisation(api: Api) -> None:
    """409 with `param`; another organisation may use it, and a record may keep its own."""
    _, made, _ = await api("POST", "/notes", {"name": "one"})
    status, body, _ = await api("POST", "/notes", {"name": "one"})
    assert (status, body["error"]["type"], body["error"]["param"]) == (409, "conflict_error", "name")
    assert (await api("POST", "/notes", {"name": "one"}, who="owner-b"))[0] == 201
    assert (await api("PATCH", f"/notes/{made['id']}", {"name": "one"}))[0] == 200


async def test_another_organisations_record_is_none(api: Api) -> None:
    """404 and the same words as for one that never was; nothing of it in lists and logs."""
    _, made, _ = await api("POST", "/notes", {"name": "one"})
    for method, json in (("GET", None), ("PATCH", {"name": "x"}), ("PUT", {"name": "x"}), ("DELETE", None)):
        status, theirs, _ = await api(method, f"/notes/{made['id']}", json, who="owner-b")
        _, none, _ = await api(method, "/notes/note_never", json, who="owner-b")
        assert status == 404
        assert theirs["error"]["message"] == none["error"]["message"]
    assert (await api("POST", f"/notes/{made['id']}/shout", who="owner-b"))[0] == 404
    assert (await api("GET", "/audit-logs", who="owner-b"))[1] == []
    assert (await api("GET", f"/notes?after={made['id']}", who="owner-b"))[0] == 400


async def test_a_resource_says_whose_rows_a_caller_sees(api: Api) -> None:
    """Those of several organisations, or of all; in lists, by id, and as a place to go on from."""
    _, of_a, _ = await api("POST", "/memos", {"name": "one"})
    _, of_b, _ = await api("POST", "/memos", {"name": "two"}, who="owner-b")
    seen = {"owner-a": [of_a], "owner-b": [of_a, of_b], "operator": [of_a, of_b]}
    for who, expected in seen.items():
        _, listed, _ = await api("GET", "/memos", who=who)
        assert {one["name"] for one in listed} == {one["name"] for one in expected}
        for one in (of_a, of_b):
            status = (await api("GET", f"/memos/{one['id']}", who=who))[0]
            assert status == (200 if one in expected else 404)
    first, second = listed
    status, page, _ = await api("GET", f"/memos?after={first['id']}", who="operator")
    assert (status, page) == (200, [second])


async def test_a_row_may_be_an_organisation_of_its_own(api: Api) -> None:
    """A `check` puts it there; what happens to it stands in the audit log of that organisation."""
    _, made, _ = await api("POST", "/memos", {"name": "apart"}, who="operator")
    assert (await api("PATCH", f"/memos/{made['id']}", {"weight": 2}, who="operator"))[0] == 200
    assert (await api("GET", f"/memos/{made['id']}"))[0] == 404
    rows = await api.gateway.storage.fetch_all("SELECT organization_id, action FROM audit_log ORDER BY id")
    assert [tuple(row.values()) for row in rows] == [
        (made["id"], "memos.create"),
        (made["id"], "memos.change"),
    ]


async def test_a_field_that_is_not_kept_is_prepared_and_thrown_away(api: Api) -> None:
    """The rules get it and what was made of it before the transaction; nobody sees it again."""
    _, made, _ = await api("POST", "/memos", {"name": "one", "passphrase": "open sesame"})
    assert "passphrase" not in made
    assert made.pop("welcome")
    path = f"/memos/{made['id']}"
    (row,) = await api.gateway.storage.fetch_all("SELECT * FROM notes")
    assert row["digest"] == "digest of 11"
    assert (await api("PATCH", path, {"passphrase": "sesame"}))[1] == made
    (row,) = await api.gateway.storage.fetch_all("SELECT * FROM notes")
    assert row["digest"] == "digest of 6"
    assert (await api("PATCH", path, {"passphrase": ""}))[0] == 400
    assert (await api("PUT", path, made))[:2] == (200, made)
    _, log, _ = await api("GET", "/audit-logs")
    assert log[0]["changes"] == {"passphrase": "changed"}
    assert "sesame" not in repr([log, row])


async def test_roles_and_scopes_are_both_asked_for(api: Api) -> None:
    """A viewer reads, a key without `admin:write` too; neither writes."""
    _, made, _ = await api("POST", "/notes", {"name": "one"})
    for who, code in (("viewer-a", "forbidden"), ("reader-a", "missing_scope")):
        assert (await api("GET", "/notes", who=who))[0] == 200
        one = f"/notes/{made['id']}"
        for method, path in (("POST", "/notes"), ("PATCH", one), ("DELETE", one), ("POST", f"{one}/shout")):
            status, body, _ = await api(method, path, {"name": "two"}, who=who)
            assert (status, body["error"]["code"]) == (403, code)
    assert (await api("GET", "/audit-logs", who="viewer-a"))[0] == 403


async def test_lists_page_and_filter(api: Api) -> None:
    """Plain arrays; `limit` and `after` walk through all, and `Link` says whether there is more."""
    for number in range(5):
        await api("POST", "/notes", {"name": f"n{number}", "kind": "fancy" if number % 2 else "plain"})
    _, everything, headers = await api("GET", "/notes")
    assert "Link" not in headers
    walked: list[Any] = []
    path: str | None = "/notes?limit=2"
    while path:
        _, page, headers = await api("GET", path)
        walked += page
        path = headers["Link"].split(">")[0][1:] if "Link" in headers else None
    assert walked == everything
    assert {one["kind"] for one in (await api("GET", "/notes?kind=fancy"))[1]} == {"fancy"}
    for query in ("limit=0", "limit=x", "limit=1001", "after=note_never"):
        status, body, _ = await api("GET", f"/notes?{query}")
        assert (status, body["error"]["param"]) == (400, query.partition("=")[0])


async def test_every_change_is_in_the_audit_log(api: Api) -> None:
    """Who, what, from what to what; the newest first, and never changed again."""
    _, made, _ = await api("POST", "/notes", {"name": "one"})
    await api("PATCH", f"/notes/{made['id']}", {"name": "two"})
    await api("DELETE", f"/notes/{made['id']}")
    _, log, _ = await api("GET", "/audit-logs")
    assert [one["action"] for one in log] == ["notes.delete", "notes.change", "notes.create"]
    assert log[1]["changes"] == {"name": {"from": "one", "to": "two"}}
    assert (log[0]["actor"], log[0]["actorName"], log[0]["targetId"]) == ("key_a", "Ann", made["id"])
    assert log[0]["requestId"].startswith("req_")
    assert (await api("GET", f"/audit-logs?action=notes.create&targetId={made['id']}"))[1] == [log[2]]
    for sql in ("UPDATE audit_log SET actor = 'x'", "DELETE FROM audit_log"):
        with pytest.raises(Exception, match="append-only"):
            await api.gateway.storage.execute(sql)


async def test_the_audit_log_is_exported(api: Api) -> None:
    """As JSON lines and as CSV, in which no cell is a formula."""
    await api("POST", "/notes", {"name": "=1+1"})
    client, headers = api._client, {"Authorization": "Bearer owner-a"}
    async with client.get("/audit-logs/export", headers=headers) as reply:
        lines = [msgspec.json.decode(line) for line in (await reply.read()).splitlines()]
    assert [one["action"] for one in lines] == ["notes.create"]
    async with client.get("/audit-logs/export?format=csv", headers=headers) as reply:
        assert reply.headers["Content-Type"].startswith("text/csv")
        rows = (await reply.text()).splitlines()
    assert rows[0].startswith("id,createdAt,actor,")
    assert len(rows) == 2
    async with client.get("/audit-logs/export?format=xls", headers=headers) as reply:
        assert reply.status == 400


async def test_a_failed_change_leaves_no_trace(api: Api) -> None:
    """Record and audit entry are one transaction."""
    await api("POST", "/notes", {"name": "forbidden"})
    assert (await api("GET", "/audit-logs"))[1] == []


async def test_who_watches_is_told(api: Api) -> None:
    """A change is announced under the resource's name; one that changes nothing is not."""
    told: list[int] = []

    async def tell() -> None:
        told.append(1)

    stop = api.gateway.storage.watch("notes", tell)
    _, made, _ = await api("POST", "/notes", {"name": "one"})
    await api("PATCH", f"/notes/{made['id']}", {"name": "one"})
    assert len(told) == 1
    stop()


def _caller() -> Any:
    return msgspec.structs.replace(SYSTEM, organization_id="org_a")


async def test_an_organisation_has_so_many_of_a_kind(api: Api) -> None:
    """Every worker keeps them in memory; another organisation has its own share."""
    for number in range(NOTES.most):
        assert (await api("POST", "/notes", {"name": f"n{number}"}))[0] == 201
    status, body, _ = await api("POST", "/notes", {"name": "one more"})
    assert (status, body["error"]["type"]) == (409, "conflict_error")
    assert "delete one first" in body["error"]["message"]
    assert (await api("POST", "/notes", {"name": "one"}, "owner-b"))[0] == 201
