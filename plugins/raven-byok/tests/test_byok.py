"""T63: a caller's provider key goes to the provider it is for, and nowhere else."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from raven_byok import Byok

from raven_proxy import InvalidRequest, UpstreamError
from raven_proxy.errors import envelope

KEY = "sk-caller-0123456789abcdef"


def candidate(name: str, preset: str = "openai", host: str = "api.openai.com", port: int = 443) -> Any:
    return SimpleNamespace(
        model="m", upstream=SimpleNamespace(name=name, preset=preset, host=host, port=port)
    )


def ask(*candidates: Any, key: str | None = KEY, **headers: str) -> Any:
    if key is not None:
        headers["x-provider-key"] = key
    return SimpleNamespace(
        headers={name.replace("_", "-"): value for name, value in headers.items()},
        candidates=candidates,
        candidate=None,
        notes={},
    )


FIRST = candidate("first")
SECOND_ACCOUNT = candidate("second-account")
OTHER_VENDOR = candidate("other", "anthropic", "api.anthropic.com")
SAME_PRESET_ELSEWHERE = candidate("compatible", "openai", "llm.example.net")
SAME_HOST_OTHER_PORT = candidate("odd", "openai", "api.openai.com", 8443)


async def test_T63_the_key_replaces_the_gateway_s_for_the_addressed_provider() -> None:
    exchange = ask(FIRST)
    await Byok().check_request(exchange)
    exchange.candidate = FIRST
    credential = await Byok().provide_credential(exchange)
    assert credential is not None
    assert (credential.value, credential.source) == (KEY, "byok")


async def test_T63_without_the_header_nothing_changes() -> None:
    exchange = ask(FIRST, OTHER_VENDOR, key=None)
    await Byok().check_request(exchange)
    assert exchange.candidates == (FIRST, OTHER_VENDOR)
    exchange.candidate = OTHER_VENDOR
    assert await Byok().provide_credential(exchange) is None
    assert exchange.notes == {}


async def test_T63_fallbacks_to_another_vendor_or_host_are_left_out() -> None:
    exchange = ask(FIRST, OTHER_VENDOR, SAME_PRESET_ELSEWHERE, SECOND_ACCOUNT, SAME_HOST_OTHER_PORT)
    await Byok().check_request(exchange)
    assert exchange.candidates == (FIRST, SECOND_ACCOUNT)


@pytest.mark.parametrize("late", [OTHER_VENDOR, SAME_PRESET_ELSEWHERE, SAME_HOST_OTHER_PORT, None])
async def test_T63_a_candidate_that_came_in_later_gets_no_key_at_all(late: Any) -> None:
    exchange = ask(FIRST)
    await Byok().check_request(exchange)
    exchange.candidate = late
    with pytest.raises(UpstreamError) as caught:
        await Byok().provide_credential(exchange)
    assert (caught.value.status, caught.value.retryable) == (503, True)
    assert KEY.encode() not in envelope(caught.value, "req_1")


async def test_T63_a_request_that_no_provider_was_found_for_gets_no_key() -> None:
    exchange = ask()
    await Byok().check_request(exchange)
    exchange.candidate = FIRST
    with pytest.raises(UpstreamError):
        await Byok().provide_credential(exchange)


@pytest.mark.parametrize(
    "value",
    ["", " ", "\t", "sk-\x00", "sk-\x1b[31m", "sk-a\tb", "sk-a\x7f", "sk-schlüssel", "sk-\udcff",
     "sk\r\nhost: x",
     " sk-a", "sk-a ", "k" * 4097, "rk_live_" + "x" * 32, "rk_test_" + "x" * 32],
)  # fmt: skip
async def test_T63_what_is_no_provider_key_is_refused_without_repeating_it(value: str) -> None:
    for candidates in ((FIRST,), ()):
        with pytest.raises(InvalidRequest) as caught:
            await Byok().check_request(ask(*candidates, key=value))
        error = caught.value
        assert (error.status, error.param) == (400, "X-Provider-Key")
        assert len(value) < 3 or value not in error.message


async def test_T63_the_caller_s_proxy_key_never_goes_upstream_as_a_provider_key() -> None:
    for headers in (
        {"authorization": "Bearer a-custom-admin-key-42"},
        {"x_api_key": "a-custom-admin-key-42"},
    ):
        with pytest.raises(InvalidRequest, match="a key of this gateway"):
            await Byok().check_request(ask(FIRST, key="a-custom-admin-key-42", **headers))


async def test_the_longest_and_oddest_keys_that_vendors_have_pass() -> None:
    for key in ("k" * 4096, "x", "AKIA123:se/c+ret=:session token", '{"type": "service_account"}'):
        await Byok().check_request(ask(FIRST, key=key))
