"""One envelope for everything that goes wrong, with the documented types and codes (contract 3)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from raven_proxy.errors import RateLimited, Refused
from raven_proxy.harness import ADMINISTRATOR
from raven_proxy.hookspecs import hookimpl
from raven_proxy.mock import MockUpstream

from .conftest import VendorStarter
from .documented import CHAT, REQUEST_ID, Case, cases, check, fits

_WITHOUT_KEYS = {"base": ("meter", "byok", "openai", "demo")}


def _error(mark: str, status: int, kind: str, code: str, what: str, **fields: Any) -> Case:
    envelope = {"type": kind, "code": code, "message": str, "param": ..., "status": status}
    envelope["request_id"] = REQUEST_ID
    described: dict[str, Any] = {"send": CHAT, "status": status, "reply": {"error": envelope}}
    return Case(mark=mark, what=f"{status} {code}: {what}", **(described | fields))


def _upstream(status: int, kind: str, code: str, model: str, **fields: Any) -> Case:
    send = CHAT | {"model": model}
    return _error("R.AV.RX", status, kind, code, f"the provider's {model}", send=send, calls=1, **fields)


INVALID, AUTH, UPSTREAM = "invalid_request_error", "authentication_error", "upstream_error"
CASES = [
    _error(
        "R.RR.PK.AV.RX", 400, INVALID, "model_not_found", "unknown model", send=CHAT | {"model": "?"}, calls=0
    ),
    _error("R.RR.PK.AV.RX", 400, INVALID, "bad_request", "no messages", send={"model": "o3"}, calls=0),
    _error(
        "RR",
        400,
        INVALID,
        "unsupported_parameter",
        "strict",
        headers={"X-Raven-Strict": "true"},
        calls=0,
        send=CHAT | {"model": "llama-3", "logit_bias": {}},
    ),
    _error("R.RR.PK.AV.RX", 401, AUTH, "invalid_api_key", "no key", headers={"Authorization": ""}, calls=0),
    _error(
        "R.RR.PK.AV.RX",
        401,
        AUTH,
        "invalid_api_key",
        "wrong key",
        headers={"Authorization": "Bearer rk_live_0"},
        calls=0,
    ),
    _error(
        "PK",
        401,
        AUTH,
        "invalid_api_key",
        "no key on a raw path",
        headers={"Authorization": ""},
        calls=0,
        path="/v1/openai/chat/completions",
    ),
    _error("R.AV", 404, "not_found_error", "not_found", "no such path", path="/v2/chat/completions", calls=0),
    _error("R.AV", 405, INVALID, "method_not_allowed", "no such method", method="PUT", calls=0),
    _error("R", 413, INVALID, "payload_too_large", "a body over the limit", send=b" " * 70_000, calls=0),
    _error(
        "PK",
        503,
        UPSTREAM,
        "no_active_api_keys",
        "a vendor without a key",
        send=CHAT | {"model": "k-1"},
        calls=0,
    ),
    _upstream(400, INVALID, "bad_request", "fx-400"),
    _upstream(404, "not_found_error", "model_not_found", "fx-404"),
    _upstream(429, "rate_limit_error", "rate_limit_exceeded", "fx-429", reply_headers={"Retry-After": "1"}),
    _upstream(500, UPSTREAM, "upstream_error", "fx-500"),
    _upstream(502, UPSTREAM, "upstream_error", "fx-401"),
    _upstream(502, UPSTREAM, "upstream_error", "fx-403"),
    _upstream(502, UPSTREAM, "upstream_error", "fx-html-502"),
    _upstream(503, UPSTREAM, "service_unavailable", "fx-503"),
    _upstream(504, UPSTREAM, "upstream_timeout", "fx-silent"),
]


@cases(*CASES)
async def test_a_documented_error(case: Case, documented: VendorStarter, upstream: MockUpstream) -> None:
    """Every error has its documented status, type and code in the one envelope."""
    await check(case, await documented(), upstream)


@pytest.mark.parametrize("model", ["fx-400", "fx-401", "fx-429", "fx-503", "fx-html-502"])
async def test_R_RR_what_a_provider_said(
    model: str, documented: VendorStarter, upstream: MockUpstream
) -> None:
    """R RR: status, request id and message of the provider are under `metadata`, with secrets scrubbed."""
    gateway = await documented()
    async with gateway.client.post("/v1/chat/completions", json=CHAT | {"model": model}) as reply:
        text = await reply.text()
    metadata = msgspec.json.decode(text)["error"]["metadata"]
    fits({"provider": "openai-main", "status": upstream.seen[0].reply_status, "message": str}, metadata)
    assert upstream.seen[0].key not in text
    assert "<" not in metadata["message"]


class Gate:
    """Refuses whatever it is made with."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    @hookimpl
    async def check_request(self) -> None:
        raise self._error


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/openai/chat/completions", "/v1/embeddings"])
@pytest.mark.parametrize(
    ("error", "status", "expected"),
    [
        (Refused("Pay.", status=402, code="insufficient_balance"), 402, "billing_error"),
        (Refused("Not here.", code="ip_not_allowed"), 403, "permission_error"),
        (Refused("Not so.", code="guardrail_blocked"), 403, "permission_error"),
        (RateLimited("Slowly.", retry_after_s=1.5), 429, "rate_limit_error"),
        (RuntimeError("inside"), 500, "internal_error"),
    ],
    ids=["402", "403 ip", "403 guardrail", "429", "500"],
)
async def test_R_RR_PK_AV_RX_what_a_gate_says(
    path: str, error: Exception, status: int, expected: str, documented: VendorStarter, upstream: MockUpstream
) -> None:
    """R RR PK AV RX: whatever a gate refuses has its documented type on every face; nothing is sent."""
    gateway = await documented(plugins=[Gate(error)])
    send = {"model": "text-embedding-3-small", "input": "a"} if path.endswith("embeddings") else CHAT
    async with gateway.client.post(path, json=send) as reply:
        text = await reply.text()
    inner = msgspec.json.decode(text)["error"]
    assert (inner["type"], inner["code"]) == (expected, getattr(error, "code", "internal_error"))
    assert inner["status"] == reply.status == status
    assert "inside" not in text
    assert reply.headers.get("Retry-After") == ("2" if isinstance(error, RateLimited) else None)
    assert upstream.seen == []


@pytest.mark.parametrize(
    ("scope", "method", "path"),
    [
        ("chat:write", "POST", "/v1/chat/completions"),
        ("chat:write", "POST", "/v1/completions"),
        ("chat:write", "POST", "/v1/openai/chat/completions"),
        ("chat:write", "POST", "/v1/openai/responses"),
        ("embeddings:write", "POST", "/v1/embeddings"),
        ("embeddings:write", "POST", "/api/v1/embeddings"),
        ("embeddings:write", "POST", "/v1/openai/embeddings"),
        ("models:read", "GET", "/v1/models"),
        ("models:read", "GET", "/v1/models/fast"),
        ("usage:read", "GET", "/v1/usage"),
        ("admin:write", "POST", "/reload"),
    ],
)
async def test_AV_a_missing_scope(
    scope: str, method: str, path: str, documented: VendorStarter, upstream: MockUpstream
) -> None:
    """AV: without its scope each face answers 403 `missing_scope`; nothing is sent."""
    principal = replace(ADMINISTRATOR, scopes=ADMINISTRATOR.scopes - {scope})
    gateway = await documented(**_WITHOUT_KEYS, principal=principal)
    async with gateway.client.request(method, path, json=CHAT if method == "POST" else None) as reply:
        assert reply.status == 403
        fits({"error": {"type": "permission_error", "code": "missing_scope"}}, await reply.json())
    assert upstream.seen == []
