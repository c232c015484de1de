"""Providers' days: counted exactly, told once, stopped at the request that reaches the stop."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec
import pytest
from raven_alerts.tallies import day_of

from raven_proxy import Exchange, Principal, hookimpl
from raven_proxy.harness import ADMINISTRATOR
from raven_proxy.mock import MockUpstream, ScriptedReply

HELLO = {"role": "user", "content": "Hello!"}
THREE = {"name": "three", "when": "provider_day", "measure": "requests", "threshold": 3}


PEOPLE = {
    "Bearer stranger": Principal(key_id="key_b", organization_id="org_b", scopes=ADMINISTRATOR.scopes),
    "Bearer colleague": Principal(key_id="key_c", scopes=ADMINISTRATOR.scopes, role="owner"),
    "Bearer deputy": msgspec.structs.replace(ADMINISTRATOR, organization_id="org_b"),
}


class Strangers:
    """Lets administrators in who do not run the gateway: another organisation's, and its own; and one who
    does, for another organisation.
    """

    @hookimpl
    async def authenticate(self, exchange: Exchange) -> Principal | None:
        return PEOPLE.get(exchange.headers.get("authorization", ""))


async def test_a_threshold_mails_once_a_day(office: Any, mailbox: Any, upstream: Any) -> None:
    """At the request that reaches it; not before, and not again at the following ones or after a reload."""
    desk = await office([THREE], mailbox=mailbox)
    for _ in range(2):
        assert (await desk.chat())[0] == 200
    await asyncio.sleep(0.2)
    assert mailbox.mails == []
    for _ in range(4):
        assert (await desk.chat())[0] == 200
    await upstream.wait_until(lambda: mailbox.mails)
    await desk.gateway.reload()
    await desk.chat()
    await asyncio.sleep(0.3)
    [mail] = mailbox.mails
    assert "mock has come to 3 requests today; the threshold is 3 requests." in mail.get_content()
    shown = await desk.until(lambda s: s["alerts"] and s["alerts"][0]["deliveries"][0]["state"] == "sent")
    [alert] = shown["alerts"]
    assert (alert["rule"], alert["level"], alert["subject"], alert["day"]) == (
        "three", "threshold", "mock", day_of(time.time()),
    )  # fmt: skip
    assert shown["paused"] == []


async def test_a_day_is_counted_in_requests_tokens_and_dollars(office: Any, upstream: Any) -> None:
    """For everybody and by organisation: what went up, errors of the provider included, and no refusal."""
    desk = await office()
    for _ in range(3):
        await desk.chat()
    assert (await desk.chat(5))[0] == 400
    upstream.script(ScriptedReply(status=500, body=b"no"))
    assert (await desk.chat())[0] == 500
    shown = await desk.shown()
    counts = [
        (row["upstream"], row["organizationId"], row["requests"], row["tokens"], row["cost"], row["costNano"])
        for row in shown["counters"]
    ]
    assert counts == [
        ("mock", None, 4, 45, "0.06", 60_000_000),
        ("mock", "org_default", 4, 45, "0.06", 60_000_000),
    ]


async def test_a_stop_pauses_until_an_administrator_reactivates(
    office: Any, upstream: Any, mailbox: Any
) -> None:
    """The very next request is a 429 that names the provider; nothing goes up; then 200 again, for good."""
    desk = await office([THREE | {"stop": True}], mailbox=mailbox)
    for _ in range(3):
        assert (await desk.chat())[0] == 200
    for stream in (False, True):
        status, body, headers = await desk.chat(stream=stream)
        error = body["error"]
        assert (status, error["type"], error["code"]) == (429, "rate_limit_error", "provider_paused")
        assert "mock (since " in error["message"]
        assert int(headers["Retry-After"]) == 3600
    assert len(upstream.seen) == 3
    shown = await desk.until(lambda s: s["paused"])
    [pause] = shown["paused"]
    assert (pause["upstream"], pause["organizationId"], pause["rule"]) == ("mock", None, "three")
    assert await desk.ask("DELETE", "/alerts/paused/mock") == (200, {"success": True})
    [noted] = (await desk.ask("GET", "/audit-logs?action=alerts.reactivate"))[1]
    assert (noted["targetId"], noted["actor"]) == ("mock", ADMINISTRATOR.key_id)
    for _ in range(3):
        assert (await desk.chat())[0] == 200
    assert (await desk.ask("DELETE", "/alerts/paused/mock"))[0] == 404
    await asyncio.sleep(0.2)
    [mail] = mailbox.mails
    assert "paused until an administrator reactivates it" in mail.get_content()


async def test_a_stop_beyond_the_threshold_is_told_by_itself(
    office: Any, upstream: Any, mailbox: Any
) -> None:
    """First the warning in dollars, then the pause."""
    rule = {"name": "dear", "when": "provider_day", "threshold": "0.02", "stop": "0.06"}
    desk = await office([rule], mailbox=mailbox)
    assert [(await desk.chat())[0] for _ in range(5)] == [200, 200, 200, 429, 429]
    await upstream.wait_until(lambda: len(mailbox.mails) == 2)
    texts = sorted(mail["Subject"].split(":")[0] for mail in mailbox.mails)
    assert texts == ["[Raven] alert", "[Raven] paused"]
    shown = await desk.until(lambda s: len(s["alerts"]) == 2)
    levels = {alert["level"]: alert["details"] for alert in shown["alerts"]}
    assert (levels["stop"]["value"], levels["stop"]["thresholdNano"]) == ("0.06", 60_000_000)
    assert levels["threshold"]["value"] == "0.02"


async def test_a_pause_outlives_a_restart_and_a_reload(office: Any, upstream: Any, tmp_path: Any) -> None:
    """A reactivated one stays reactivated, too, though the day's counts are still over the stop."""
    data = {"data_dir": str(tmp_path / "shared")}
    first = await office([THREE | {"stop": True}], config=data)
    for _ in range(3):
        await first.chat()
    await first.until(lambda s: s["paused"])
    await first.gateway.reload()
    assert (await first.chat())[0] == 429
    second = await office([THREE | {"stop": True}], config=data)
    assert (await second.chat())[0] == 429
    counters = (await second.shown())["counters"]
    assert [row["requests"] for row in counters] == [3, 3]  # made anew from the meter's table
    assert (await second.ask("DELETE", "/alerts/paused/mock"))[0] == 200
    third = await office([THREE | {"stop": True}], config=data)
    assert (await third.chat())[0] == 200


@pytest.mark.parametrize("counters", ["process", "machine"])
async def test_a_pause_reaches_the_other_process(
    office: Any, upstream: Any, tmp_path: Any, mailbox: Any, counters: str
) -> None:
    """Two gateways on one data_dir: one mail, and what one pauses or lifts holds in both within a second."""
    shared = {"data_dir": str(tmp_path / "shared"), "counters": counters}
    one = await office([THREE | {"stop": True}], config=shared, mailbox=mailbox)
    two = await office([THREE | {"stop": True}], config=shared, mailbox=mailbox)
    for _ in range(3):
        await one.chat()
    async with asyncio.timeout(3):
        while (await two.chat())[0] != 429:
            await asyncio.sleep(0.05)
    assert (await two.ask("DELETE", "/alerts/paused/mock"))[0] == 200
    assert (await two.chat())[0] == 200
    async with asyncio.timeout(3):
        while (await one.chat())[0] != 200:
            await asyncio.sleep(0.05)
    await asyncio.sleep(0.3)
    assert len(mailbox.mails) == 1


async def test_two_processes_count_together(office: Any, upstream: Any, tmp_path: Any, mailbox: Any) -> None:
    """With counters of the machine, a threshold that neither reaches alone is reached, and told once."""
    shared = {"data_dir": str(tmp_path / "shared"), "counters": "machine"}
    rule = THREE | {"threshold": 10}
    one = await office([rule], config=shared, mailbox=mailbox)
    two = await office([rule], config=shared, mailbox=mailbox)
    for desk in (one, two) * 5:
        await desk.chat()
    await upstream.wait_until(lambda: mailbox.mails, 5.0)
    await asyncio.sleep(0.3)
    assert len(mailbox.mails) == 1
    assert [row["requests"] for row in (await one.shown())["counters"]] == [10, 10]


async def test_the_next_place_is_tried(office: Any, upstream: Any) -> None:
    """Where the model has another upstream the request goes there; only if all are paused it is a 429."""
    async with MockUpstream() as other:
        named = {"models": [{"name": "safe", "targets": ["mock/m-1", "mock2/m-1"]}]}
        rules = [THREE | {"stop": True, "upstream": "mock"}]
        desk = await office(rules, config=named, upstreams=[other])
        for _ in range(3):
            await desk.chat("safe")
        assert other.seen == []
        status, _, headers = await desk.chat("safe")
        assert (status, headers["X-Raven-Provider"]) == (200, "mock2")
        assert (len(upstream.seen), len(other.seen)) == (3, 1)
        status, _, _ = await desk.chat("safe", stream=True)
        assert (status, len(other.seen)) == (200, 2)


async def test_a_callers_own_key_does_not_get_past_a_pause(office: Any, upstream: Any) -> None:
    """Nor is it sent to another provider in the paused one's place; the raw path is closed as well."""
    async with MockUpstream() as other:
        named = {"models": [{"name": "safe", "targets": ["mock/m-1", "mock2/m-1"]}]}
        desk = await office([THREE | {"stop": True, "upstream": "mock"}], config=named, upstreams=[other])
        for _ in range(3):
            await desk.chat()
        desk.gateway.client.headers["X-Provider-Key"] = "sk-mine-0123456789"
        for model in ("mock/m-1", "safe"):
            status, body, _ = await desk.chat(model)
            assert (status, body["error"]["code"]) == (429, "provider_paused")
        status, body = await desk.ask(
            "POST", "/v1/mock/chat/completions", {"model": "m-1", "messages": [HELLO]}
        )
        assert (status, body["error"]["code"]) == (429, "provider_paused")
        assert other.seen == []
        assert len(upstream.seen) == 3


async def test_each_organisation_by_itself(office: Any, upstream: Any) -> None:
    """A rule for organisations counts and pauses each alone; the others go on."""
    desk = await office([THREE | {"stop": True, "organization": "org_*"}], plugins=[Strangers])
    for _ in range(3):
        assert (await desk.chat())[0] == 200
    assert (await desk.chat())[0] == 429
    [pause] = (await desk.until(lambda s: s["paused"]))["paused"]
    assert (pause["upstream"], pause["organizationId"]) == ("mock", "org_default")
    desk.gateway.client.headers["Authorization"] = "Bearer stranger"
    for _ in range(3):
        assert (await desk.chat())[0] == 200
    assert (await desk.chat())[0] == 429


async def test_only_who_runs_the_gateway_sees_everybody_and_lifts_for_all(office: Any, upstream: Any) -> None:
    """An owner in the gateway's own organisation owns that one; so does an operator who acts for another."""
    desk = await office([THREE | {"stop": True}], plugins=[Strangers])
    headers = desk.gateway.client.headers
    ours, headers["Authorization"] = headers["Authorization"], "Bearer stranger"
    for _ in range(3):
        await desk.chat()
    for who, own in (("colleague", "org_default"), ("deputy", "org_b")):
        headers["Authorization"] = f"Bearer {who}"
        shown = await desk.until(lambda s: s["paused"])
        assert (shown["rules"], shown["alerts"]) == ([], [])
        assert {row["organizationId"] for row in shown["counters"]} <= {own}
        assert (await desk.ask("DELETE", "/alerts/paused/mock"))[0] == 403
        assert (await desk.ask("DELETE", "/alerts/paused/mock?organization="))[0] == 404
    headers["Authorization"] = ours
    shown = await desk.shown()
    assert {row["organizationId"] for row in shown["counters"]} == {None, "org_b"}
    assert (await desk.ask("DELETE", "/alerts/paused/mock"))[0] == 200


async def test_another_organisation_sees_and_lifts_only_its_own(office: Any, upstream: Any) -> None:
    """Neither rules nor others' counts and alerts; a pause for everybody is shown, and is not its to lift."""
    everybody = THREE | {"name": "all", "stop": 9}
    desk = await office([THREE | {"stop": True, "organization": "*"}, everybody], plugins=[Strangers])
    for _ in range(3):
        await desk.chat()
    await desk.until(lambda s: s["paused"])
    ours = desk.gateway.client.headers["Authorization"]
    desk.gateway.client.headers["Authorization"] = "Bearer stranger"
    shown = await desk.shown()
    assert [shown[name] for name in ("rules", "counters", "alerts", "paused")] == [[], [], [], []]
    for query in ("", "?organization=org_default", "?organization="):
        assert (await desk.ask("DELETE", f"/alerts/paused/mock{query}"))[0] == 404
    for _ in range(3):
        await desk.chat()
    shown = await desk.until(lambda s: s["paused"])
    assert [row["organizationId"] for row in shown["counters"]] == ["org_b"]
    assert [(row["organizationId"], row["deliveries"]) for row in shown["alerts"]] == [("org_b", [])]
    assert (await desk.ask("DELETE", "/alerts/paused/mock"))[0] == 200
    for _ in range(3):
        assert (await desk.chat())[0] == 200
    assert (await desk.chat())[0] == 429
    await desk.until(lambda s: s["paused"])
    assert (await desk.ask("DELETE", "/alerts/paused/mock"))[0] == 403
    desk.gateway.client.headers["Authorization"] = ours
    assert len((await desk.shown())["paused"]) == 2
    assert (await desk.ask("DELETE", "/alerts/paused/mock?organization=org_default"))[0] == 200
    assert (await desk.ask("DELETE", "/alerts/paused/mock"))[0] == 200
    assert (await desk.chat())[0] == 200
