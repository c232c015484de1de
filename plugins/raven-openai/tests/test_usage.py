"""Counts are kept where they make sense, estimated and marked where they do not."""

from __future__ import annotations

import time
from typing import Any

import msgspec
import pytest
from raven_openai.taps import Metering, WholeTap

from raven_proxy.exchange import Usage
from raven_proxy.providers import estimate_prompt

ASKED = b'{"model":"m","messages":[{"role":"user","content":"Hi"}]}'  # 57 bytes


def whole(usage: Any, **options: Any) -> Usage:
    reply = {"choices": [{"message": {"content": "Hello there"}, "finish_reason": "stop"}], "usage": usage}
    tap = WholeTap(Metering(ASKED, **options))
    tap.feed(msgspec.json.encode(reply))
    tally = tap.close()
    assert tally.complete
    assert tally.usage is not None
    return tally.usage


REPORTED = {"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14}


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (REPORTED, (10, 4, 14, False)),
        ({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}, (0, 0, 0, False)),
        ({"prompt_tokens": 10, "completion_tokens": 4}, (10, 4, 14, False)),
        ({"input_tokens": 10, "output_tokens": 4}, (10, 4, 14, False)),
        ({"prompt_tokens": 10.0, "completion_tokens": 4.0}, (10, 4, 14, False)),
        (REPORTED | {"total_tokens": 3}, (10, 4, 14, False)),
        (REPORTED | {"total_tokens": 20}, (10, 4, 20, False)),
        (REPORTED | {"total_tokens": "many"}, (10, 4, 14, False)),
        (REPORTED | {"prompt_tokens": 10**7}, (10**7, 4, 10**7 + 4, False)),
        ({"prompt_tokens": 10, "total_tokens": 14}, (10, 4, 14, False)),
        (None, (15, 3, 18, True)),
        ({}, (15, 3, 18, True)),
        ("lots", (15, 3, 18, True)),
        ([1], (15, 3, 18, True)),
        ({"prompt_tokens": "10", "completion_tokens": "4"}, (15, 3, 18, True)),
        ({"prompt_tokens": -10, "completion_tokens": 4, "total_tokens": -6}, (15, 4, 19, True)),
        ({"prompt_tokens": 10, "completion_tokens": -4, "total_tokens": 6}, (10, 3, 13, True)),
        ({"prompt_tokens": 1e308, "completion_tokens": 4}, (15, 4, 19, True)),
        ({"prompt_tokens": 10, "completion_tokens": 10**12}, (10, 3, 13, True)),
        ({"prompt_tokens": 1.5, "completion_tokens": True}, (15, 3, 18, True)),
        ({"prompt_tokens": None, "completion_tokens": None, "total_tokens": None}, (15, 3, 18, True)),
    ],
)
def test_t71_weird_usage_is_kept_or_estimated_never_trusted_blindly(
    usage: Any, expected: tuple[int, int, int, bool]
) -> None:
    found = whole(usage)
    assert (found.prompt_tokens, found.completion_tokens, found.total_tokens, found.estimated) == expected


@pytest.mark.parametrize(
    ("extra", "field", "value"),
    [
        ({"prompt_tokens_details": {"cached_tokens": 6, "audio_tokens": 2}}, "cached_tokens", 6),
        ({"prompt_tokens_details": {"cached_tokens": 6, "audio_tokens": 2}}, "audio_input_tokens", 2),
        ({"prompt_cache_hit_tokens": 6, "prompt_cache_miss_tokens": 4}, "cached_tokens", 6),
        ({"prompt_tokens_details": None, "cached_tokens": 6}, "cached_tokens", 6),
        ({"cache_read_input_tokens": 6}, "cached_tokens", 6),
        ({"prompt_tokens_details": {"cache_write_tokens": 3}}, "cache_write_tokens", 3),
        ({"cache_creation_input_tokens": 3}, "cache_write_tokens", 3),
        ({"completion_tokens_details": {"reasoning_tokens": 3, "audio_tokens": 1}}, "reasoning_tokens", 3),
        ({"completion_tokens_details": {"reasoning_tokens": 3, "audio_tokens": 1}}, "audio_output_tokens", 1),
        ({"reasoning_tokens": 3}, "reasoning_tokens", 3),
        ({"completion_tokens_details": {"reasoning_tokens": 61}}, "reasoning_tokens", 4),
        ({"prompt_tokens_details": {"cached_tokens": 11}}, "cached_tokens", 10),
        ({"prompt_tokens_details": {"cached_tokens": -1}}, "cached_tokens", 0),
        ({"prompt_tokens_details": {"cached_tokens": "6"}}, "cached_tokens", 0),
        ({"prompt_tokens_details": [6]}, "cached_tokens", 0),
    ],
)
def test_details_are_read_in_every_spelling_and_never_exceed_their_total(
    extra: dict[str, Any], field: str, value: int
) -> None:
    assert getattr(whole(REPORTED | extra), field) == value


def test_reasoning_counted_apart_becomes_part_of_the_completion() -> None:
    xai = REPORTED | {"total_tokens": 20, "completion_tokens_details": {"reasoning_tokens": 6}}
    found = whole(xai)
    assert (found.completion_tokens, found.reasoning_tokens, found.total_tokens) == (10, 6, 20)
    gemini = whole(REPORTED | {"total_tokens": 20}, reasoning_apart=True)
    assert (gemini.completion_tokens, gemini.total_tokens) == (10, 20)


@pytest.mark.parametrize(
    "usage", [{"prompt_tokens": 3, "total_tokens": 3}, {"prompt_tokens": 3}, {"total_tokens": 3}]
)
def test_embeddings_have_no_completion(usage: Any) -> None:
    assert whole(usage, is_embeddings=True) == Usage(prompt_tokens=3, total_tokens=3)
    assert whole(None, is_embeddings=True) == Usage(prompt_tokens=15, total_tokens=15, estimated=True)


def test_attachments_do_not_inflate_an_estimate() -> None:
    image = b'"data:image/png;base64,' + b"iVBORw0KGgo" * 10_000 + b'"'
    assert estimate_prompt(ASKED + image) == -(-(len(ASKED) + 24) // 4)


def test_estimates_take_linear_time() -> None:
    started = time.perf_counter()
    estimate_prompt((b"a" * 511 + b" ") * 20_000)
    assert time.perf_counter() - started < 5
