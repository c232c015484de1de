"""Requests per minute and day, and whose limits apply, through a real gateway."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from raven_limits.rules import RuleBook

from raven_proxy import ConfigError
from raven_proxy.config import BUILT_IN_PLANS, Plan
from raven_proxy.harness import ADMINISTRATOR

from .conftest import CHAT, Start, caller, reply


async def test_t89_two_hundred_at_once(site: Start) -> None:
    """Exactly 60 of 60 a minute; the others a 429 that never went upstream, and its wait is enough."""
    here = await site({"rate_limit_rpm": 60})
    answers = await asyncio.gather(*(here.chat() for _ in range(200)))
    good = [answer for answer in answers if answer.status == 200]
    refused = [answer for answer in answers if answer.status == 429]
    assert (len(good), len(refused), len(here.upstream.seen)) == (60, 140, 60)
    assert sorted(answer.left for answer in good) == list(range(60))
    for answer in refused:
        assert (answer.body["error"]["type"], answer.code) == ("rate_limit_error", "rate_limit_exceeded")
        assert answer.left == 0
        assert 1 <= answer.retry_after <= 62
    here.clock.forward(refused[-1].retry_after)
    assert (await here.chat()).status == 200


async def test_a_wait_is_honest_where_several_limits_are_reached(site: Start) -> None:
    """What is named is the wait after which all of them let the request pass."""
    here = await site(
        {"rate_limit_rpm": 2, "rate_limit_rpd": 3, "rate_limit_tpm": 1000, "rate_limit_tpd": 40}
    )
    here.upstream.script(*[reply() for _ in range(9)])
    admitted = 0
    for _ in range(12):
        answer = await here.chat(max_tokens=1)
        if answer.status == 429:
            here.clock.forward(answer.retry_after)
            answer = await here.chat(max_tokens=1)
        assert answer.status == 200, answer
        admitted += 1
    assert admitted == 12
    assert here.clock.ahead > 3 * 86_400


async def test_requests_per_day(site: Start) -> None:
    here = await site({"rate_limit_rpd": 2})
    assert [(await here.chat()).left for _ in range(2)] == [1, 0]
    answer = await here.chat()
    assert (answer.status, answer.code) == (429, "rate_limit_exceeded")
    assert 86_000 < answer.retry_after <= 87_751
    assert "2 requests per day for this key" in answer.body["error"]["message"]


async def test_every_request_counts_once_it_is_judged_and_none_before(site: Start) -> None:
    """An upstream's failure and a list count; a bad body and a 429 do not."""
    here = await site({"rate_limit_rpm": 10})
    assert (await here.chat()).left == 9
    failed = await here.chat(model="mock/fx-500")
    assert (failed.status, failed.left) == (500, 8)
    listed = await here.ask("GET", "/v1/models")
    assert (listed.status, listed.left) == (200, 7)
    for body in (b"{", b'{"model":"mock/m"}', b'{"model":"mock/m","messages":[{"role":"x"}]}'):
        answer = await here.ask("POST", CHAT, data=body, headers={"Content-Type": "application/json"})
        assert (answer.status, answer.left) == (400, 7)
    assert (await here.ask("POST", CHAT, data=b"{}")).left == 7
    for _ in range(7):
        await here.chat()
    assert (await here.chat()).status == 429
    assert "X-RateLimit-Limit" not in (await here.ask("GET", "/nowhere")).headers


async def test_managing_the_gateway_is_not_limited(site: Start) -> None:
    """An administrator who is at a limit can still reload."""
    here = await site({"rate_limit_rpm": 1})
    assert [(await here.chat()).status for _ in range(2)] == [200, 429]
    answer = await here.ask("POST", "/reload")
    assert answer.status == 200
    assert "X-RateLimit-Limit" not in answer.headers


async def test_nothing_is_limited_without_a_limit(site: Start) -> None:
    """No plan, no default plan, no fields: no header, no counter."""
    here = await site()
    answers = [await here.chat() for _ in range(100)]
    assert {answer.status for answer in answers} == {200}
    assert not [name for name in answers[0].headers if "ratelimit" in name.lower()]


async def test_counters_last_over_a_reload_and_new_limits_hold_at_once(site: Start) -> None:
    here = await site(settings={"default_plan": "mine"}, plans={"mine": {"requests_per_minute": 5}})
    assert [(await here.chat()).left for _ in range(2)] == [4, 3]
    await here.gateway.reload({"plans": {"mine": {"requests_per_minute": 3}}})
    assert [(await here.chat()).status for _ in range(2)] == [200, 429]
    await here.gateway.reload({"plans": {"mine": {"requests_per_minute": 9}}})
    assert (await here.chat()).left == 5


# -- plans and owners ----------------------------------------------------------------


async def test_the_strictest_decides(site: Start) -> None:
    """A key's own limit, its plan, user, organisation and model; the lowest holds, whichever it is."""
    for lowest in range(5):
        numbers = [4 if place == lowest else 7 for place in range(5)]
        here = await site(
            {"rate_limit_rpm": numbers[0], "plan": "mine", "member_id": "mem_1"},
            plans={"mine": {"requests_per_minute": numbers[1]}},
            settings={
                "members": {"mem_1": {"requests_per_minute": numbers[2]}},
                "organizations": {"org_default": {"requests_per_minute": numbers[3]}},
                "models": {"mock/*": {"requests_per_minute": numbers[4]}},
            },
        )
        answers = [await here.chat() for _ in range(5)]
        assert [answer.status for answer in answers] == [200] * 4 + [429]
        assert answers[0].headers["X-RateLimit-Limit"] == "4"
        words = ["this key", "this key", "this user", "this organization", "all callers of mock/*"]
        assert words[lowest] in answers[4].body["error"]["message"]


async def test_a_refusal_takes_nothing_of_the_other_limits(site: Start) -> None:
    """All claims are one step: what the model's limit refuses does not use up the key's."""
    here = await site({"rate_limit_rpm": 10}, {"models": {"rare": {"requests_per_minute": 1}}})
    statuses = [(await here.chat(model="mock/rare")).status for _ in range(5)]
    assert statuses == [200] + [429] * 4
    assert (await here.chat()).left == 8


@pytest.mark.parametrize("name", ["mock/gpt-x", "openai/gpt-x", "gpt-x", "nick", "safe"])
async def test_a_models_limit_holds_under_every_name(name: str, site: Start) -> None:
    """Aliases, fallbacks, bare names and the raw path lead to one counter."""
    here = await site(
        settings={"models": {"gpt-*": {"requests_per_minute": 3}}},
        models=[
            {"name": "nick", "target": "mock/gpt-x"},
            {"name": "safe", "targets": ["mock/other", "mock/gpt-x"]},
        ],
    )
    assert (await here.chat(model="mock/gpt-x")).status == 200
    assert (await here.chat("/v1/openai/chat/completions", model="gpt-x")).status == 200
    assert [(await here.chat(model=name)).status for _ in range(2)] == [200, 429]
    assert (await here.chat(model="mock/another")).status == 200


def test_a_star_is_each_organisation_by_itself() -> None:
    """Two organisations under one pattern have two counters; a model has one for everybody."""
    book = RuleBook({}, organizations={"*": Plan(requests_per_day=5)}, models={"*": Plan(requests_per_day=9)})
    keys = set()
    for organization in ("org_a", "org_b"):
        principal = msgspec.structs.replace(ADMINISTRATOR, organization_id=organization)
        keys |= {claim.key for claim in book._of_caller(principal).requests}
    assert keys == {"limits:requests:organization:org_a", "limits:requests:organization:org_b"}


def test_a_plan_counts_for_each_key() -> None:
    rules = [
        RuleBook(BUILT_IN_PLANS, default_plan="free")._of_caller(
            msgspec.structs.replace(ADMINISTRATOR, key_id=key)
        )
        for key in ("key_a", "key_b")
    ]
    assert rules[0].requests[0].key != rules[1].requests[0].key
    assert [(c.limit, c.window_s) for c in rules[0].requests + rules[0].tokens] == [
        (60, 60),
        (100_000, 86_400),
    ]


async def test_a_keys_own_plan_goes_before_the_default(site: Start) -> None:
    here = await site({"plan": "pro"}, {"default_plan": "free"})
    answer = await here.chat()
    assert answer.headers["X-RateLimit-Limit"] == "600"
    assert "x-ratelimit-limit-tokens" not in answer.headers


async def test_a_plan_that_is_not_there_lets_nobody_through(site: Start) -> None:
    """Nor does it stop the others."""
    here = await site({"plan": "gold"})
    answer = await here.chat()
    assert (answer.status, answer.code) == (503, "service_unavailable")
    assert "'gold'" in answer.body["error"]["message"]
    assert here.upstream.seen == []


async def test_a_default_plan_that_is_not_there_stops_the_start(site: Start) -> None:
    with pytest.raises(ConfigError, match="there is no plan 'fre'; did you mean 'free'"):
        await site(settings={"default_plan": "fre"})


@pytest.mark.parametrize(
    ("plans", "words"),
    [
        ({"mine": {"request_per_minute": 5}}, "did you mean 'requests_per_minute'"),
        ({"mine": {"requests_per_minute": 0}}, ">= 1"),
        ({"mine": {"requests_per_minute": "5"}}, "int"),
    ],
)
async def test_a_plan_is_read_strictly(plans: Any, words: str, site: Start) -> None:
    with pytest.raises(ConfigError, match=words):
        await site(plans=plans)


def test_a_changed_principal_has_its_new_limits_at_once() -> None:
    """T55: rules are remembered for one principal object; a changed key makes another."""
    book = RuleBook({})
    assert book._remember(caller(rate_limit_rpm=5)).requests[0].limit == 5
    assert book._remember(caller(rate_limit_rpm=4)).requests[0].limit == 4
