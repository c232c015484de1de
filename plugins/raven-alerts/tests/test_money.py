"""Balances and budgets: told when the meter says that they are low, once a day each."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from raven_proxy import ConfigError

BALANCE = {"name": "low", "when": "balance", "threshold": "0.97"}


async def test_a_low_balance_is_told_once(office: Any, upstream: Any, mailbox: Any) -> None:
    """When it is at or below the threshold; organisations that never got a grant have none."""
    desk = await office([BALANCE], mailbox=mailbox)
    await desk.chat()
    await asyncio.sleep(0.2)
    assert mailbox.mails == []
    assert (await desk.ask("POST", "/credits/grants", {"amount": "1.02"}))[0] == 201
    await desk.chat()  # 0.98 is left
    await asyncio.sleep(0.2)
    assert mailbox.mails == []
    await desk.chat()
    await desk.chat()
    await upstream.wait_until(lambda: mailbox.mails)
    await asyncio.sleep(0.2)
    [mail] = mailbox.mails
    assert "The balance of org_default is $0.9" in mail.get_content()
    [alert] = (await desk.shown())["alerts"]
    assert (alert["subject"], alert["organizationId"]) == ("balance:org_default", "org_default")
    assert alert["details"]["threshold"] == "0.97"


async def test_a_budgets_own_threshold_is_watched_without_any_rule(
    office: Any, upstream: Any, mailbox: Any
) -> None:
    """At its share of the limit; budgets without one are silent; a new limit is judged at once."""
    desk = await office(mailbox=mailbox)
    budget = {"name": "team", "limit": "1", "alertThreshold": 0.5, "period": "daily"}
    _, team = await desk.ask("POST", "/budgets", budget)
    await desk.ask("POST", "/budgets", {"name": "silent", "limit": "0.5"})
    await desk.chat()
    await desk.chat()  # 0.04 of 1
    await asyncio.sleep(0.2)
    assert mailbox.mails == []
    await desk.ask("PATCH", f"/budgets/{team['id']}", {"limit": "0.08"})
    await upstream.wait_until(lambda: mailbox.mails)
    await desk.chat()
    await asyncio.sleep(0.2)
    [mail] = mailbox.mails
    assert "The budget 'team' has spent $0.04 of $0.08 (50 %); the threshold is 50 %." in mail.get_content()
    [alert] = (await desk.shown())["alerts"]
    assert (alert["rule"], alert["details"]["limitNano"]) == ("budget-thresholds", 80_000_000)
    assert alert["details"]["budgetId"] == team["id"]


async def test_a_rule_for_all_budgets(office: Any, upstream: Any) -> None:
    """A share of its own counts for every budget; without destinations it is still on the list."""
    desk = await office([{"name": "tenth", "when": "budget", "threshold": 0.1, "mail_to": []}])
    for name in ("a", "b"):
        await desk.ask("POST", "/budgets", {"name": name, "limit": "0.2"})
    await desk.ask("POST", "/budgets", {"name": "large", "limit": "100"})
    await desk.ask("POST", "/budgets", {"name": "zero", "limit": "0"})
    await desk.ask("DELETE", "/budgets/none")
    _, [*budgets] = await desk.ask("GET", "/budgets")
    zero = next(b["id"] for b in budgets if b["name"] == "zero")
    await desk.ask("DELETE", f"/budgets/{zero}")
    await desk.chat()
    shown = await desk.until(lambda s: len(s["alerts"]) == 2)
    assert {alert["details"]["budget"] for alert in shown["alerts"]} == {"a", "b"}
    assert all(alert["deliveries"] == [] for alert in shown["alerts"])


async def test_the_order_of_plugins_is_judged(raven: Any, upstream: Any) -> None:
    """Before the meter no cost would be counted: that is an error at start, and not a silence."""
    with pytest.raises(ConfigError, match="name meter before alerts"):
        await raven(upstreams=[upstream], base=("alerts", "meter", "openai"))


async def test_without_the_meter_days_are_counted_all_the_same(raven: Any, upstream: Any) -> None:
    """Requests and tokens; no cost, no budgets, and nothing fails."""
    rule = {"name": "two", "when": "provider_day", "measure": "requests", "threshold": 2}
    config = {"plugin": {"alerts": {"rules": [rule]}}}
    gateway = await raven(upstreams=[upstream], base=("alerts", "openai"), config=config)
    body = {"model": "mock/m-1", "messages": [{"role": "user", "content": "Hi"}]}
    for _ in range(2):
        async with gateway.client.post("/v1/chat/completions", json=body) as reply:
            assert reply.status == 200
    async with gateway.client.get("/alerts") as reply:
        shown = await reply.json()
    assert [(row["requests"], row["costNano"]) for row in shown["counters"]] == [(2, 0), (2, 0)]
