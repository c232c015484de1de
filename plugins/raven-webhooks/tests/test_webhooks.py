"""`/webhooks`: what can be declared, what is told, and that it is told once, signed, and tried again."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from pathlib import Path
from typing import Any

import msgspec
import pytest
from raven_webhooks.failures import Throttle
from raven_webhooks.sending import sign, write_event
from raven_webhooks.topics import TOPICS, covers, find_unknown
from raven_webhooks.trail import read_entry

from raven_proxy import ConfigError, Principal
from raven_proxy.events import Event
from raven_proxy.harness import ADMIN_KEY, ADMINISTRATOR
from raven_proxy.mock import MockUpstream, ScriptedReply

from .conftest import SECRET, is_signed

EVENT = Event(type="budget.exceeded", organization_id="org_default", data={"budget": "b", "spent": "2"})


# -- declaring ------------------------------------------------------------------------


async def test_a_secret_is_made_up_and_shown_once(site: Any, receiver: MockUpstream) -> None:
    """Reading shows its last four characters; null makes a new one; what was read can be sent back."""
    desk = await site()
    made = await desk.subscribe(receiver, "budget.*", secret=None)
    assert made["id"].startswith("wh_")
    assert made["secret"].startswith("whsec_")
    path = f"/webhooks/{made['id']}"
    _, shown = await desk.ask("GET", path)
    assert "secret" not in shown
    assert shown["secretHint"] == "…" + made["secret"][-4:]
    assert (shown["isEnabled"], shown["failingSince"]) == (True, None)
    for method in ("PATCH", "PUT"):
        assert await desk.ask(method, path, shown) == (200, shown)
    status, changed = await desk.ask("PATCH", path, {"secret": None})
    assert status == 200
    assert changed["secret"] not in {made["secret"], None}
    desk.gateway.publish(EVENT)
    await desk.until(made["id"], lambda rows: rows[:1] and rows[0]["state"] == "delivered")
    assert is_signed(receiver.seen[0], changed["secret"])
    assert await desk.ask("DELETE", path) == (200, {"success": True})
    rows = await desk.gateway.storage.fetch_all("SELECT * FROM webhook_deliveries")
    assert rows == []


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"url": "http://hooks.example/"}, "url"),
        ({"url": "ftp://hooks.example/"}, "url"),
        ({"url": "https:///x"}, "url"),
        ({"url": "https://user:pass@hooks.example/"}, "url"),
        ({"url": "https://hooks.example/\r\nX: y"}, "url"),
        ({"url": "https://hooks.example\\@127.0.0.1/"}, "url"),
        ({"url": "https://hooks.example:99999/"}, "url"),
        ({"url": "https://127.0.0.1/"}, "url"),
        ({"url": "https://169.254.169.254/latest/meta-data"}, "url"),
        ({"url": "https://[::ffff:10.0.0.1]/"}, "url"),
        ({"url": "https://[fe80::1]/"}, "url"),
        ({"url": "https://localhost/"}, "url"),
        ({"url": "https://LOCALHOST./"}, "url"),
        ({"url": "https://0x7f000001/"}, "url"),
        ({"url": "https://metadata.google.internal/"}, "url"),
        ({"events": []}, "events"),
        ({"events": ["budget.exceded"]}, "events"),
        ({"events": ["*budget*"]}, "events[0]"),
        ({"secret": "short"}, "secret"),
        ({"color": "red"}, None),
    ],
)
async def test_t146_what_makes_no_sense_is_refused(site: Any, fields: Any, param: str | None) -> None:
    """400 `validation_error`; private addresses already when they are written down."""
    desk = await site(allow_private=False)
    body = {"url": "https://hooks.example/x", "events": ["*"]} | fields
    status, answer = await desk.ask("POST", "/webhooks", body)
    assert status == 400, answer
    assert answer["error"]["type"] == "validation_error"
    assert param is None or answer["error"]["param"] == param


def test_patterns_are_names_groups_or_all() -> None:
    assert covers(["*"], "x.y")
    assert not covers(["*"], "audit.recorded")
    assert covers(["*", "audit.*"], "audit.recorded")
    assert covers(["budget.*"], "budget.exceeded")
    assert not covers(["budget.*", "key.created"], "key.revoked")
    assert find_unknown(["budget.*", "*", *TOPICS, "own_plugin.thing"]) is None
    assert find_unknown(["key.created", "key.creatd"]) == "key.creatd"


# -- telling --------------------------------------------------------------------------


async def test_an_event_is_told_signed(site: Any, receiver: MockUpstream) -> None:
    """JSON with type and organisation; the headers name delivery and event; the log says how it went."""
    desk = await site()
    made = await desk.subscribe(receiver, "budget.exceeded")
    desk.gateway.publish(Event(type="balance.low", organization_id="org_default", data={}))
    desk.gateway.publish(Event(type="budget.exceeded", organization_id="org_other", data={}))
    desk.gateway.publish(EVENT)
    desk.gateway.publish(EVENT)  # another process saw it too
    [row] = await desk.until(made["id"], lambda rows: rows and rows[0]["state"] == "delivered")
    [seen] = receiver.seen
    assert (seen.method, seen.target, seen.headers["content-type"]) == (
        "POST",
        "/path-secret",
        "application/json",
    )
    assert is_signed(seen)
    assert (seen.headers["x-raven-delivery"], seen.headers["x-raven-event"]) == (row["id"], "budget.exceeded")
    assert seen.json["data"] == EVENT.data
    told = {name: seen.json[name] for name in ("id", "type", "organizationId")}
    assert told == {"id": EVENT.id, "type": "budget.exceeded", "organizationId": "org_default"}
    assert (row["tries"], row["status"], row["error"], row["nextTryAt"]) == (1, 204, None, None)


def test_the_signature_is_the_documented_one() -> None:
    digest = hmac.new(b"k", b"5.{}", hashlib.sha256).hexdigest()
    assert sign("k", b"{}", 5.7) == f"t=5,v1={digest}"


def test_an_event_is_not_too_long() -> None:
    body = write_event(Event(type="a.b", organization_id=None, data={"x": "y" * 100_000}))
    assert len(body) < 500
    assert msgspec.json.decode(body)["data"] == {"isTooLarge": True}


async def test_a_failed_request_is_told(site: Any, receiver: MockUpstream, upstream: MockUpstream) -> None:
    """Once, without its prompt; refused and served ones are not."""
    desk = await site()
    made = await desk.subscribe(receiver, "exchange.failed")
    assert await desk.chat() == 200
    assert await desk.chat("") == 400
    assert await desk.chat("mock/fx-500") == 500
    [row] = await desk.until(made["id"], lambda rows: rows and rows[0]["state"] == "delivered")
    assert row["type"] == "exchange.failed"
    data = receiver.seen[0].json["data"]
    assert (data["model"], data["provider"], data["outcome"]) == ("mock/fx-500", "mock", "upstream_error")
    assert data["suppressed"] == 0
    assert b"a word that no webhook has" not in receiver.seen[0].body


def test_an_outage_is_not_a_flood() -> None:
    throttle = Throttle()
    told = [throttle.admit("wh_1", "exchange.failed") for _ in range(100)]
    assert told == [0] * 30 + [None] * 70
    assert throttle.admit("wh_1", "guardrail.blocked") == 0
    assert throttle.admit("wh_2", "exchange.failed") == 0
    throttle._minutes["wh_1", "exchange.failed"].begins_at -= 61.0
    assert throttle.admit("wh_1", "exchange.failed") == 70
    throttle.keep(frozenset({"wh_2"}))
    assert set(throttle._minutes) == {("wh_2", "exchange.failed")}


async def test_changes_of_keys_are_told(site: Any, receiver: MockUpstream) -> None:
    """From the audit log, each once; nothing of the key but its name and id, nothing from before."""
    desk = await site("auth-keys")
    await desk.ask("POST", "/keys", {"name": "before"})
    await asyncio.sleep(1.1)  # entries have whole seconds
    made = await desk.subscribe(receiver, "key.*")
    _, key = await desk.ask("POST", "/keys", {"name": "mine"})
    await desk.ask("PATCH", f"/keys/{key['id']}", {"name": "ours"})
    await desk.ask("POST", f"/keys/{key['id']}/rotate", {})
    await desk.ask("DELETE", f"/keys/{key['id']}")
    rows = await desk.until(
        made["id"], lambda rows: len(rows) == 4 and all(r["state"] == "delivered" for r in rows)
    )
    assert sorted(row["type"] for row in rows) == ["key.changed", "key.created", "key.revoked", "key.rotated"]
    assert {seen.json["data"]["keyId"] for seen in receiver.seen} == {key["id"]}
    assert not any(
        key["key"].encode() in seen.raw or ADMIN_KEY.encode() in seen.raw for seen in receiver.seen
    )


def test_a_key_that_is_switched_off_is_revoked() -> None:
    row = {
        "id": "aud_1", "action": "keys.change", "actor": "a", "actor_name": "", "target_id": "key_1",
        "changes": msgspec.json.encode({"isActive": {"from": True, "to": False}}).decode(),
        "organization_id": "org_a", "created_at": 1,
    }  # fmt: skip
    assert [event.type for event in read_entry(row)] == ["audit.recorded", "key.revoked"]
    assert [event.type for event in read_entry(row | {"action": "budgets.change"})] == ["audit.recorded"]
    assert len({event.id for event in read_entry(row)}) == 2


async def test_any_change_can_be_told(site: Any, receiver: MockUpstream) -> None:
    desk = await site()
    made = await desk.subscribe(receiver, "audit.recorded")
    await desk.ask("PATCH", f"/webhooks/{made['id']}", {"events": ["audit.recorded", "key.*"]})
    rows = await desk.until(made["id"], lambda rows: any(row["state"] == "delivered" for row in rows))
    assert {row["type"] for row in rows} == {"audit.recorded"}
    assert SECRET.encode() not in b"".join(seen.raw for seen in receiver.seen)


# -- trying again ---------------------------------------------------------------------


async def test_a_failure_is_tried_again(site: Any, receiver: MockUpstream) -> None:
    """The same delivery, signed anew, until it is taken."""
    desk = await site()
    made = await desk.subscribe(receiver)
    receiver.script(ScriptedReply(status=503), ScriptedReply(status=302, headers={"Location": "http://a/"}))
    desk.gateway.publish(EVENT)
    [row] = await desk.until(made["id"], lambda rows: rows and rows[0]["state"] == "delivered")
    assert row["tries"] == len(receiver.seen) == 3
    assert len({seen.headers["x-raven-delivery"] for seen in receiver.seen}) == 1
    assert all(map(is_signed, receiver.seen))
    assert (await desk.ask("GET", f"/webhooks/{made['id']}"))[1]["failingSince"] is None


async def test_who_fails_for_long_is_switched_off(site: Any, receiver: MockUpstream) -> None:
    """After the tries of a delivery with nothing delivered meanwhile; it stands in the audit log."""
    desk = await site()
    made = await desk.subscribe(receiver, "budget.*")
    receiver.script(*[ScriptedReply(status=500, body=b"INSIDE")] * 3)
    desk.gateway.publish(EVENT)
    [row] = await desk.until(made["id"], lambda rows: rows and rows[0]["state"] == "failed")
    assert (row["tries"], row["status"], row["error"]) == (3, 500, "it answered 500")
    path = f"/webhooks/{made['id']}"
    async with asyncio.timeout(10):
        while (await desk.ask("GET", path))[1]["isEnabled"]:
            await asyncio.sleep(0.02)
    _, log = await desk.ask("GET", "/audit-logs?action=webhooks.disable")
    assert [(entry["actor"], entry["targetId"]) for entry in log] == [("system", made["id"])]
    desk.gateway.publish(Event(type="budget.threshold", organization_id="org_default", data={}))
    _, shown = await desk.ask("PATCH", path, {"isEnabled": True})
    assert shown["failingSince"] is None
    desk.gateway.publish(Event(type="budget.threshold", organization_id="org_default", data={}))
    rows = await desk.until(made["id"], lambda rows: rows[0]["state"] == "delivered")
    assert len(rows) == 2


async def test_one_success_keeps_it_on(
    site: Any, receiver: MockUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A receiver that takes some is well."""
    monkeypatch.setattr("raven_webhooks.outbox.PAUSES_S", (0.05, 3.0))
    desk = await site()
    made = await desk.subscribe(receiver, "budget.*")
    bad = msgspec.structs.replace(EVENT, id="evt_bad")

    async def judge(seen: Any) -> ScriptedReply:
        return ScriptedReply(status=500 if b"evt_bad" in seen.body else 204)

    receiver.handler = judge
    desk.gateway.publish(bad)
    await receiver.wait_until(lambda: receiver.seen)
    await asyncio.sleep(1.1)  # health is kept in whole seconds
    desk.gateway.publish(EVENT)
    await desk.until(
        made["id"], lambda rows: len(rows) == 2 and {r["state"] for r in rows} == {"failed", "delivered"}
    )
    assert (await desk.ask("GET", f"/webhooks/{made['id']}"))[1]["isEnabled"]


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (ScriptedReply(status=302, headers={"Location": "http://127.0.0.1:1/INSIDE"}), "redirect"),
        (ScriptedReply(status=200, body=b"INSIDE" * 20_000), "size limit"),
        (ScriptedReply(status=404, body=b"INSIDE"), "it answered 404"),
    ],
)
async def test_t146_a_test_learns_nothing_and_tells_nothing(
    site: Any, receiver: MockUpstream, reply: ScriptedReply, error: str
) -> None:
    """Once, at once; of what it said only the status is shown."""
    desk = await site()
    made = await desk.subscribe(receiver)
    assert (await desk.ask("POST", f"/webhooks/{made['id']}/test"))[1]["success"] is True
    receiver.script(reply)
    status, told = await desk.ask("POST", f"/webhooks/{made['id']}/test")
    assert (status, told["success"]) == (200, False)
    assert error in told["error"]
    rows = await desk.deliveries(made["id"])
    assert {row["type"] for row in rows} == {"webhook.test"}
    assert sorted(row["state"] for row in rows) == ["delivered", "failed"]
    assert "INSIDE" not in str((told, rows))
    assert len(receiver.seen) == 2
    assert all(map(is_signed, receiver.seen))


async def test_t146_a_name_that_leads_inside_is_refused(site: Any, receiver: MockUpstream) -> None:
    """Judged after the name was resolved, at each try, whatever was allowed when it was written."""
    desk = await site()
    port = receiver.origin.rpartition(":")[2]
    made = [
        await desk.subscribe(receiver, url=f"http://{host}:{port}/")
        for host in ("localhost", "127.1", "2130706433")
    ]
    await desk.running.reload({"plugin": {"webhooks": {}}})
    for one in made:
        _, told = await desk.ask("POST", f"/webhooks/{one['id']}/test")
        assert (told["success"], told["status"]) == (False, None)
        assert "no public address" in told["error"]
    assert receiver.seen == []


# -- who, and for how long ------------------------------------------------------------


async def test_another_organisations_webhooks_are_not_there(raven: Any, receiver: MockUpstream) -> None:
    """Neither they nor their deliveries; a viewer reads none: a URL may be a secret."""
    gateway = await raven(
        base=("webhooks", "openai"),
        principal=Principal(key_id="k", organization_id="org_b", scopes=ADMINISTRATOR.scopes, role="viewer"),
    )
    async with gateway.client.get("/webhooks") as reply:
        assert reply.status == 403


async def test_what_was_left_undone_is_taken_over(
    site: Any, receiver: MockUpstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gateway that leaves between two tries leaves the delivery to the next one."""
    monkeypatch.setattr("raven_webhooks.outbox.PAUSES_S", (1.0, 30.0))
    data = {"data_dir": str(tmp_path / "shared")}
    first = await site(config=data)
    made = await first.subscribe(receiver)
    receiver.script(ScriptedReply(status=503))
    first.gateway.publish(EVENT)
    await first.until(made["id"], lambda rows: rows and rows[0]["tries"] == 1)
    await plugin_of(first).shutdown()
    second = await site(config=data)
    [row] = await second.until(made["id"], lambda rows: rows and rows[0]["state"] == "delivered")
    assert row["tries"] == len(receiver.seen) == 2


async def test_a_receiver_that_hangs_holds_up_no_other(site: Any, receiver: MockUpstream) -> None:
    """Each has at most two deliveries under way."""
    desk = await site()
    release = asyncio.Event()

    async def hang(seen: Any) -> ScriptedReply:
        await release.wait()
        return ScriptedReply(status=204)

    async with MockUpstream() as slow:
        slow.handler = hang
        stuck = await desk.subscribe(slow)
        made = await desk.subscribe(receiver)
        for _ in range(20):
            desk.gateway.publish(Event(type="budget.exceeded", organization_id="org_default", data={}))
        await desk.until(
            made["id"], lambda rows: len(rows) == 20 and all(r["state"] == "delivered" for r in rows)
        )
        assert len(slow.seen) == 2
        release.set()
        await desk.until(stuck["id"], lambda rows: all(row["state"] == "delivered" for row in rows))
        assert len(slow.seen) == 20


async def test_a_webhook_has_so_many_deliveries_waiting(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raven_webhooks.outbox._MOST_WAITING", 3)
    monkeypatch.setattr("raven_webhooks.outbox.PAUSES_S", (60.0,))
    desk = await site(allow_private=False)
    made = (await desk.ask("POST", "/webhooks", {"url": "https://hooks.example/", "events": ["budget.*"]}))[1]
    for _ in range(6):
        desk.gateway.publish(Event(type="budget.exceeded", organization_id="org_default", data={}))
    while len(desk.gateway.tasks):
        await asyncio.sleep(0.01)
    assert len(await desk.deliveries(made["id"])) == 3


# -- the config file's ----------------------------------------------------------------


async def test_the_operators_webhook_hears_every_organisation(
    site: Any, receiver: MockUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the gateway's own events; its deliveries are in nobody's log, and it is not switched off."""
    monkeypatch.setenv("HOOK_SECRET", SECRET)
    endpoint = {"name": "ops", "url": f"{receiver.origin}/x", "secret": {"env": "HOOK_SECRET"}}
    desk = await site(
        endpoints=[endpoint, endpoint | {"name": "b", "organization": "org_b", "events": ["key.*"]}]
    )
    for whose in ("org_a", "org_b", None):
        desk.gateway.publish(Event(type="provider.paused", organization_id=whose, data={}))
    await receiver.wait_until(lambda: len(receiver.seen) == 3)
    assert all(map(is_signed, receiver.seen))
    assert {seen.json["organizationId"] for seen in receiver.seen} == {"org_a", "org_b", None}
    assert (await desk.ask("GET", "/webhooks"))[1] == []


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"url": "http://hooks.example/"}, "must begin with https"),
        ({"url": "https://10.0.0.1/"}, "private address"),
        ({"secret": {"env": "NOT_SET"}}, "NOT_SET is not set"),
        ({"secret": {"env": "SHORT"}}, "shorter than 16"),
        ({"events": ["key.creatd"]}, "there is no 'key.creatd'"),
    ],
)
async def test_a_webhook_that_makes_no_sense_stops_the_start(
    site: Any, monkeypatch: pytest.MonkeyPatch, fields: Any, message: str
) -> None:
    monkeypatch.setenv("HOOK_SECRET", SECRET)
    monkeypatch.setenv("SHORT", "abc")
    endpoint = {"name": "ops", "url": "https://hooks.example/", "secret": {"env": "HOOK_SECRET"}} | fields
    with pytest.raises(ConfigError, match=message):
        await site(endpoints=[endpoint], allow_private=False)


async def test_no_secret_is_told(
    site: Any, receiver: MockUpstream, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Not in logs, not in the database, not to another receiver."""
    receiver.script(ScriptedReply(status=500))
    desk = await site(config={"data_dir": str(tmp_path / "d"), "log_level": "debug"})
    made = await desk.subscribe(receiver)
    desk.gateway.publish(EVENT)
    rows = await desk.until(made["id"], lambda rows: rows and rows[0]["state"] == "delivered")
    out = capfd.readouterr()
    for text in (str(rows), out.out, out.err, *(seen.raw.decode() for seen in receiver.seen)):
        assert SECRET not in text
    assert "path-secret" not in out.out + out.err
    await desk.gateway.storage.flush()
    for path in (tmp_path / "d").rglob("raven.db*"):
        assert SECRET.encode() not in path.read_bytes()


def plugin_of(desk: Any) -> Any:
    return next(one.instance for one in desk.gateway.pipeline.plugins if one.name == "webhooks")
