"""Tokens per minute and day: estimated, taken, corrected, and never more than the limit in any window."""

from __future__ import annotations

import asyncio
import base64
import os
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from raven_limits.estimates import Estimates, used_tokens
from raven_limits.rules import RuleBook

from raven_proxy import Call, Face, Usage, read_nothing
from raven_proxy.counters import Claim, LocalCounters
from raven_proxy.providers import prompt_bound

from .conftest import Start, caller, reply

HEAVY = {"prompt_tokens": 100, "completion_tokens": 75, "total_tokens": 175}
ESTIMATES = Estimates(1024, 4096, 100)


async def test_t91_five_calls_of_more_than_the_limit(site: Start) -> None:
    """TPM 100, five at once of 175 each: one is admitted, and the next only once its tokens have passed."""
    here = await site({"rate_limit_tpm": 100})
    here.upstream.script(reply(HEAVY), reply(HEAVY))
    answers = await asyncio.gather(*(here.chat(max_tokens=None) for _ in range(5)))
    assert sorted(answer.status for answer in answers) == [200, 429, 429, 429, 429]
    assert len(here.upstream.seen) == 1
    refused = await here.chat()
    assert (refused.status, refused.code, refused.tokens_left) == (429, "token_limit_exceeded", 0)
    assert "175 are in use" in refused.body["error"]["message"]
    here.clock.forward(refused.retry_after)
    assert (await here.chat()).status == 200


async def test_tokens_are_corrected_down_and_up(site: Start) -> None:
    """A whole reply says what is left after its real use, whatever was estimated."""
    here = await site({"rate_limit_tpm": 10_000})
    here.upstream.script(reply(), reply({"prompt_tokens": 3000, "completion_tokens": 1000}))
    assert (await here.chat(max_tokens=4000)).tokens_left == 9985
    assert (await here.chat(max_tokens=1)).tokens_left == 5985
    failed = await here.chat(model="mock/fx-503")
    assert (failed.status, failed.tokens_left) == (503, 5985)


async def test_a_stream_says_what_was_estimated_and_counts_what_was_used(site: Start) -> None:
    here = await site({"rate_limit_tpm": 10_000})
    chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    delta = {"index": 0, "delta": {"content": "Hi"}, "finish_reason": "stop"}
    here.upstream.reply(
        events=[chunk | {"choices": [delta]}, chunk | {"choices": [], "usage": HEAVY | {"total_tokens": 175}}]
    )
    assert 8900 < (await here.chat(stream=True, max_tokens=1000)).tokens_left < 9000
    here.upstream.script(reply())
    assert (await here.chat()).tokens_left == 10_000 - 175 - 15


async def test_what_has_no_text_counts_too(site: Start) -> None:
    """Tools only, sound and images: never nothing, and what nobody reports stays as estimated."""
    here = await site({"rate_limit_tpm": 10_000})
    tools = [{"type": "function", "function": {"name": "f", "description": "a tool " * 430}}]
    here.upstream.script(reply(None))
    assert (await here.chat(tools=tools)).tokens_left < 9400
    before = (await here.chat(model="mock/fx-500")).tokens_left
    here.upstream.reply(json={"created": 1, "data": [{"b64_json": "AA=="}]})
    picture = await here.ask("POST", "/v1/images/generations", json={"model": "mock/i", "prompt": "a raven"})
    assert (picture.status, picture.tokens_left) == (200, before - 100)
    here.upstream.reply(json={"text": "Hi"})
    sound = b"x y" * 9000
    form = (
        b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nmock/any\r\n'
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.mp3"\r\n\r\n%b\r\n--b--\r\n' % sound
    )
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    heard = await here.ask("POST", "/v1/audio/transcriptions", data=form, headers=headers)
    assert (heard.status, heard.tokens_left) == (200, before - 200)


async def test_the_first_plan_lets_sixty_at_once_through(site: Start) -> None:
    """RX's free plan: 60 a minute are not stopped by estimates against 100,000 tokens a day."""
    here = await site(settings={"default_plan": "free"})
    here.upstream.script(*[reply() for _ in range(60)])
    answers = await asyncio.gather(*(here.chat(max_tokens=None) for _ in range(70)))
    assert sorted(answer.status for answer in answers) == [200] * 60 + [429] * 10
    assert {answer.code for answer in answers if answer.status == 429} == {"rate_limit_exceeded"}


async def test_refused_by_another_plugin_everything_is_given_back(site: Start, tmp_path: Any) -> None:
    """A request that the meter does not admit uses no tokens."""
    prices = tmp_path / "prices.json"
    prices.write_bytes(msgspec.json.encode({"m": {"input": "1000", "output": "1000"}}))
    here = await site(
        {"rate_limit_tpm": 10_000, "max_concurrency": 1},
        base=("limits", "meter", "openai"),
        catalog=str(prices),
    )
    status = (await here.ask("POST", "/budgets", json={"name": "none", "limit": "0"})).status
    assert status == 201
    for _ in range(3):
        answer = await here.chat()
        assert (answer.status, answer.tokens_left) == (402, 10_000)


# -- estimates -----------------------------------------------------------------------


def exchange(body: Any = b"{}", *, scope: str = "chat:write", method: str = "POST", **fields: Any) -> Any:
    face = Face(
        name="f", path="/v1/x", scope=scope, endpoint=fields.pop("endpoint", "x"), read_call=read_nothing
    )
    raw = body if isinstance(body, bytes) else msgspec.json.encode(body)
    call = Call(
        model="m",
        max_output_tokens=fields.pop("limit", None),
        members={"m": (0, 0)} if raw[:1] == b"{" else {},
    )
    made = {"produced_bytes": 0, "usage": None, **fields}
    return SimpleNamespace(face=face, call=call, body=raw, request=SimpleNamespace(method=method), **made)


@pytest.mark.parametrize(
    ("asked", "tokens"),
    [
        (exchange(b"{" + b" " * 299), 100 + 1024),
        (exchange(b"{" + b" " * 299, limit=10), 110),
        (exchange(b"{" + b" " * 299, limit=32_000), 100 + 4096),
        (exchange(b"{" + b" " * 299, scope="embeddings:write"), 100),
        (exchange(b"{" + b" " * 29, scope="images:write"), 100),
        (exchange(b"{" + b" " * 599, scope="audio:write"), 200),
        (exchange(b"--b\r\n" * 9999, scope="audio:write"), 100),
        (exchange(b"", method="GET"), 0),
        (exchange(b"{}", endpoint="messages/count_tokens"), 0),
        (exchange(b"{}", endpoint="models/g:countTokens"), 0),
    ],
)
def test_what_a_request_counts_for_beforehand(asked: Any, tokens: int) -> None:
    assert ESTIMATES.before(asked) == tokens


@pytest.mark.parametrize(
    ("ended", "tokens"),
    [
        (exchange(usage=Usage(prompt_tokens=3, completion_tokens=4)), 7),
        (exchange(usage=Usage(prompt_tokens=0, completion_tokens=0), produced_bytes=9), 0),
        (exchange(usage=Usage(prompt_tokens=10**30)), 2**40),
        (exchange(usage=Usage(prompt_tokens=-5)), 0),
        (exchange(produced_bytes=9), 55),
        (exchange(), 0),
        (exchange(scope="images:write", usage=Usage(images=1), produced_bytes=9), 55),
        (exchange(scope="images:write", usage=Usage(prompt_tokens=70), produced_bytes=9), 70),
        (exchange(scope="audio:write", usage=Usage(prompt_tokens=1, estimated=True), produced_bytes=9), 55),
        (exchange(usage=Usage(prompt_tokens=1, estimated=True), produced_bytes=9), 1),
    ],
)
def test_what_a_request_counts_for_afterwards(ended: Any, tokens: int) -> None:
    assert used_tokens(ended, 55) == tokens


def test_attachments_are_left_out_of_the_bytes() -> None:
    """An image counts as 1,600 tokens, not as a third of its base64; text is looked at in strides."""
    image = base64.b64encode(os.urandom(300_000))
    body = b'{"url":"data:image/png;base64,%b"}' % image
    assert 1600 <= prompt_bound(body) < 1600 + 400
    two = b'{"a":"%b","b":"%b"}' % (image, image)
    assert 3200 <= prompt_bound(two) < 3200 + 800
    text = b"The quick brown fox. " * 5000
    assert prompt_bound(text) == -(-len(text) // 3)
    assert prompt_bound(b"") == 0


@settings(deadline=None, max_examples=300)
@given(st.lists(st.one_of(st.binary(max_size=40), st.integers(0, 3000).map(lambda n: b"A" * n)), max_size=12))
def test_no_body_has_more_attachments_than_room_for_them(parts: list[bytes]) -> None:
    """Never negative, never more than a third of the bytes plus 1,600 for each 512 of them."""
    body = b" ".join(parts)
    assert 0 <= prompt_bound(body) <= len(body) // 3 + 1 + len(body) // 512 * 1600


# -- never over the limit --------------------------------------------------------------

CALLS = st.tuples(
    st.floats(0, 30),  # seconds since the one before
    st.integers(1, 150),  # estimate
    st.floats(0, 1),  # the share of it that is used
    st.floats(0, 45),  # how long it takes
)


@settings(deadline=None, max_examples=200)
@given(st.lists(CALLS, max_size=60))
def test_no_minute_holds_more_than_the_limit(calls: list[tuple[float, int, float, float]]) -> None:
    """Whatever comes when: requests and used tokens in any 60 seconds, slots at any moment."""
    asyncio.run(_simulate(calls))


async def _simulate(calls: list[tuple[float, int, float, float]]) -> None:
    counters, now = LocalCounters(), 1000.0
    counters._now = lambda: now
    rules = RuleBook({})._of_caller(caller(rate_limit_rpm=8, rate_limit_tpm=100, max_concurrency=3))
    running: list[tuple[float, int, int]] = []
    admitted: list[tuple[float, int]] = []
    for pause, estimate, share, length in calls:
        now += pause
        for ended, taken, used in sorted(running):
            if ended <= now:
                running.remove((ended, taken, used))
                await counters.correct(rules.tokens[0].key, 60, used - taken)
                await counters.settle([rules.slots[0].key], 1, 0)
        amount = min(estimate, 100)
        claim = rules.tokens[0]
        denial = await counters.take((*rules.fixed, Claim(claim.key, amount, claim.limit, 60)))
        if denial is None:
            running.append((now + length, amount, int(amount * share)))
            admitted.append((now, int(amount * share)))
        assert len(running) <= 3
    for start, _ in admitted:
        inside = [used for moment, used in admitted if start <= moment < start + 60]
        assert len(inside) <= 8
        assert sum(inside) <= 100
