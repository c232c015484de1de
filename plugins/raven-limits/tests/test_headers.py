"""What replies say of the limits, and what they do not."""

from __future__ import annotations

import time

import pytest
from raven_limits.headers import duration, show
from raven_limits.rules import RuleBook

from raven_proxy.counters import LocalCounters
from raven_proxy.mock import ScriptedReply

from .conftest import Start, caller, reply


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (1, "1s"), (61, "1m1s"), (360, "6m0s"), (87_750, "24h22m30s")]
)
def test_a_duration_is_written_as_openai_does(seconds: int, text: str) -> None:
    assert duration(seconds) == text


async def test_every_header_is_exact(site: Start) -> None:
    """After this request, on a success and on a 429."""
    here = await site({"rate_limit_rpm": 2, "rate_limit_tpd": 1000})
    here.upstream.script(reply(), reply())
    before = time.time()
    first = await here.chat()
    reset = int(first.headers["X-RateLimit-Reset"])
    assert before + 60 <= reset <= time.time() + 63
    assert {n: v for n, v in first.headers.items() if "ratelimit" in n.lower()} == {
        "X-RateLimit-Reset": str(reset),
        "X-RateLimit-Limit": "2", "X-RateLimit-Remaining": "1",
        "x-ratelimit-limit-requests": "2", "x-ratelimit-remaining-requests": "1",
        "x-ratelimit-reset-requests": "1m1s",
        "x-ratelimit-limit-tokens": "1000", "x-ratelimit-remaining-tokens": "985",
        "x-ratelimit-reset-tokens": "24h22m30s",
    }  # fmt: skip
    assert "Retry-After" not in first.headers
    await here.chat()
    refused = await here.chat()
    assert (refused.status, refused.left, refused.tokens_left) == (429, 0, 970)


async def test_after_the_reset_all_of_it_is_free(site: Start) -> None:
    here = await site({"rate_limit_rpm": 5})
    answer = [await here.chat() for _ in range(3)][-1]
    assert answer.left == 2
    here.clock.forward(int(answer.headers["X-RateLimit-Reset"]) - time.time())
    assert (await here.chat()).left == 4


async def test_openais_headers_show_the_window_with_the_least_left() -> None:
    """And the plain ones the minute, unless only days are limited."""

    async def shown(**limits: int) -> dict[str, str]:
        headers: dict[str, str] = {}
        await show(LocalCounters(), RuleBook({})._of_caller(caller(**limits)), headers)
        return headers

    both = await shown(rate_limit_rpm=60, rate_limit_rpd=20, rate_limit_tpm=9, rate_limit_tpd=8)
    assert (both["X-RateLimit-Limit"], both["x-ratelimit-limit-requests"]) == ("60", "20")
    assert both["x-ratelimit-limit-tokens"] == "8"
    assert (both["x-ratelimit-reset-tokens"], both["x-ratelimit-reset-requests"]) == ("0s", "0s")
    assert int(both["X-RateLimit-Reset"]) <= time.time() + 1
    assert (await shown(rate_limit_rpd=20))["X-RateLimit-Limit"] == "20"
    assert await shown(max_concurrency=3) == {}


async def test_the_providers_own_limits_never_pass(site: Start) -> None:
    """Neither on a good reply nor on its 429; only its wait does."""
    here = await site({"rate_limit_rpm": 5})
    theirs = {
        "x-ratelimit-remaining-requests": "777",
        "X-RateLimit-Limit": "888",
        "anthropic-ratelimit-x": "9",
    }
    here.upstream.script(reply(headers=theirs))
    answer = await here.chat()
    assert (answer.headers["x-ratelimit-remaining-requests"], answer.left) == ("4", 4)
    assert answer.headers.getall("X-RateLimit-Limit") == ["5"]  # type: ignore[attr-defined]
    error = {"error": {"message": "slow down", "type": "requests", "code": "rate_limit_exceeded"}}
    refused = ScriptedReply.of_json(error, status=429, headers=theirs | {"Retry-After": "7"})
    here.upstream.script(refused)
    answer = await here.chat()
    assert (answer.status, answer.left, answer.retry_after) == (429, 3, 7)


async def test_errors_of_every_kind_say_it_too(site: Start) -> None:
    """Refused before or after it was counted, by the gateway or the provider; a stranger learns nothing."""
    here = await site({"rate_limit_rpm": 50})
    for fields in (
        {"model": "mock/fx-500"},
        {"messages": []},
        {"model": "x/y"},
        {"model": "mock/fx-redirect-x"},
    ):
        assert "X-RateLimit-Remaining" in (await here.chat(**fields)).headers
    unknown = await here.ask("GET", "/v1/models", headers={"Authorization": "Bearer rk_live_x"})
    assert unknown.status == 401
    assert not [name for name in unknown.headers if "ratelimit" in name.lower()]
