"""No spelling of a raw path leads round scopes, allowed models or money."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import msgspec
import pytest
from yarl import URL

from raven_proxy import Principal
from raven_proxy.harness import ADMINISTRATOR, GatewayStarter, RunningGateway
from raven_proxy.mock import MockUpstream, ScriptedReply

Start = Callable[..., Coroutine[Any, Any, RunningGateway]]

PROVIDERS = {"oa": "openai", "an": "anthropic", "ge": "gemini", "be": "bedrock", "co": "cohere",
             "ol": "ollama_native"}  # fmt: skip
PRICES = {"m-1": {"input": "1000", "output": "2000"}, "pic-1": {"image": "0.5"}}
PROXY = ADMINISTRATOR.scopes - {"admin:read", "admin:write"}
USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}


def key(**fields: Any) -> Principal:
    return msgspec.structs.replace(ADMINISTRATOR, **({"scopes": PROXY} | fields))


@pytest.fixture
def start(raven: GatewayStarter, upstream: MockUpstream, tmp_path: Path) -> Start:
    """A gateway with a mock behind each provider; the credential is not the mock's business."""
    secret = tmp_path / "secret"
    secret.write_text("AKIA" + "A" * 16 + ":" + "s" * 40)
    catalog = tmp_path / "catalog.json"
    catalog.write_bytes(msgspec.json.encode(PRICES))

    async def begin(principal: Principal, *, meter: dict[str, Any] | None = None) -> RunningGateway:
        config = {"catalog": str(catalog), "access_log": False}
        config["plugin"] = {"meter": {"allow_unpriced": False} | (meter or {})}  # type: ignore[assignment]
        upstreams = [
            {"name": name, "provider": provider, "base_url": upstream.url, "key": {"file": str(secret)}}
            for name, provider in PROVIDERS.items()
        ]
        base = ("meter", "openai", "anthropic", "gemini", "bedrock", "cohere", "ollama")
        return await raven(upstreams=upstreams, base=base, config=config, principal=principal)

    return begin


async def ask(gateway: RunningGateway, method: str, path: str, body: Any = None) -> tuple[int, str]:
    """Give the status and the error's code, wherever the dialect puts it."""
    data = msgspec.json.encode(body) if body is not None else None
    headers = {"Content-Type": "application/json"}
    url = URL(gateway.url + path, encoded=True)  # as it stands, byte for byte
    async with gateway.client.request(method, url, data=data, headers=headers) as reply:
        text = await reply.text()
        codes = ("missing_scope", "model_not_allowed", "unknown_model_pricing", "insufficient_balance")
        return reply.status, next((code for code in codes if code in text.lower()), "")


UNKNOWN = [
    ("POST", "/v1/oa/threads/runs"),
    ("POST", "/v1/oa/videos"),
    ("POST", "/v1/oa/Images/Generations"),
    ("POST", "/v1/oa/v1/v1/images/generations"),
    ("POST", "/v1/an/messages/batches"),
    ("POST", "/v1/be/async-invoke"),
    ("POST", "/v1/ge/cachedContents"),
    ("GET", "/v1/oa/fine_tuning/jobs"),
    ("GET", "/v1/ol/api/ps"),
]


@pytest.mark.parametrize("lacking", ["images:write", "video:write", "files:read"])
async def test_an_unknown_endpoint_takes_every_scope_for_providers(
    start: Start, upstream: MockUpstream, lacking: str
) -> None:
    """What nobody knows could be anything: a key that may not do everything does not reach it."""
    gateway = await start(key(scopes=PROXY - {lacking}))
    for method, path in UNKNOWN:
        assert await ask(gateway, method, path, {"model": "m-1"}) == (403, "missing_scope"), path
    assert upstream.seen == []


async def test_a_key_limited_to_models_reaches_no_unknown_endpoint(
    start: Start, upstream: MockUpstream
) -> None:
    """What the body names is not what the vendor will call."""
    gateway = await start(key(allowed_models=("oa/m-1", "m-1", "ge/gemini-2.5-flash")))
    for method, path in UNKNOWN:
        assert await ask(gateway, method, path, {"model": "m-1"}) == (403, "model_not_allowed"), path
    assert upstream.seen == []


async def test_a_key_for_all_of_one_upstream_reaches_its_unknown_endpoints(
    start: Start, upstream: MockUpstream
) -> None:
    """`oa/*` is no limit there, and one elsewhere; reading is free and passes byte for byte."""
    gateway = await start(key(allowed_models=("oa/*",)))
    upstream.script(ScriptedReply.of_json({"data": []}))
    assert (await ask(gateway, "GET", "/v1/oa/fine_tuning/jobs?after=%20x"))[0] == 200
    assert upstream.seen[-1].target == "/v1/fine_tuning/jobs?after=%20x"
    assert await ask(gateway, "GET", "/v1/an/models") == (403, "model_not_allowed")


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
async def test_changing_the_operators_account_takes_admin_write(
    start: Start, upstream: MockUpstream, method: str
) -> None:
    """An unknown endpoint is written to by an administrator's key only."""
    gateway = await start(key())
    assert await ask(gateway, method, "/v1/oa/models/ft-1", {}) == (403, "missing_scope")
    assert upstream.seen == []
    gateway = await start(ADMINISTRATOR)
    upstream.script(ScriptedReply.of_json({"deleted": True}))
    assert (await ask(gateway, method, "/v1/oa/models/ft-1", {}))[0] == 200


ADMINISTRATION = [
    ("GET", "/v1/oa/organization/admin_api_keys"),
    ("POST", "/v1/oa/organization/projects"),
    ("GET", "/v1/oa/v1/Organization/users"),
    ("GET", "/v1/an/organizations/api_keys"),
    ("DELETE", "/v1/ol/api/delete"),
    *(("POST", f"/v1/ol/api/{verb}") for verb in ("pull", "create", "push", "copy", "blobs/sha256:1")),
]


async def test_a_vendors_administration_takes_admin_write_whatever_the_method(
    start: Start, upstream: MockUpstream
) -> None:
    """Keys, members and local models are the operator's."""
    gateway = await start(key())
    for method, path in ADMINISTRATION:
        assert (await ask(gateway, method, path, {"model": "m-1"}))[0] == 403, path
    assert upstream.seen == []
    gateway = await start(ADMINISTRATOR)
    for method, path in ADMINISTRATION:
        upstream.script(ScriptedReply.of_json({}))
        assert (await ask(gateway, method, path))[0] == 200, path


GOOGLE = [
    "models/gemini-2.5-pro%3AgenerateContent",
    "models/gemini-2.5-pro:predict",
    "models/gemini-2.5-pro:batchGenerateContent",
    "models/gemini-2.5-pro%3apredictLongRunning",
    "v1beta/models/gemini%2D2.5-pro:generateContent",
    "models/gemini-2.5-pro:generateContent/",
]


@pytest.mark.parametrize("endpoint", GOOGLE)
async def test_the_model_of_a_path_is_judged_however_it_is_written(
    start: Start, upstream: MockUpstream, endpoint: str
) -> None:
    """`%3A` is a colon, an unknown verb calls its path's model, and the body's model does not win."""
    limited = await start(key(allowed_models=("ge/gemini-2.5-flash",)))
    body = {"model": "gemini-2.5-flash", "contents": []}
    assert await ask(limited, "POST", f"/v1/ge/{endpoint}", body) == (403, "model_not_allowed")
    poor = await start(key(), meter={"prepaid": True})
    status, _ = await ask(poor, "POST", f"/v1/ge/{endpoint}", body)
    assert status == (400 if "batch" in endpoint else 402)
    assert upstream.seen == []


async def test_bedrocks_operations_are_judged_by_the_paths_model(
    start: Start, upstream: MockUpstream
) -> None:
    """Known or not; the bytes of the path go up as they came."""
    limited = await start(key(allowed_models=("be/m-1",)))
    for operation in ("invoke", "conjure"):
        path = f"/v1/be/model/other/{operation}"
        assert await ask(limited, "POST", path, {"model": "m-1"}) == (403, "model_not_allowed")
    assert upstream.seen == []
    upstream.script(ScriptedReply.of_json({"usage": {"input_tokens": 10, "output_tokens": 5}}))
    assert (await ask(limited, "POST", "/v1/be/model/m%2D1/conjure", {}))[0] == 200
    assert upstream.seen[-1].target == "/v1/model/m%2D1/conjure"


NAMELESS = [
    ("/v1/oa/threads/runs", {"assistant_id": "a"}),
    ("/v1/an/messages/batches", {"requests": []}),
    ("/v1/be/async-invoke", {"modelId": "m-1"}),
    ("/v1/co/v1/chat", {"message": "Hi"}),
    ("/v1/oa/threads/runs", [{"model": "m-1"}]),
    ("/v1/oa/threads/runs", {"model": ""}),
]


@pytest.mark.parametrize(("path", "body"), NAMELESS)
async def test_where_money_is_bound_an_endpoint_must_have_a_price(
    start: Start, upstream: MockUpstream, path: str, body: Any
) -> None:
    """A POST without a model passes for who is bound by nothing, or where the operator says so."""
    bound = await start(key(), meter={"prepaid": True})
    assert await ask(bound, "POST", path, body) == (400, "unknown_model_pricing")
    assert upstream.seen == []
    for meter in ({}, {"prepaid": True, "allow_unpriced": True}):
        gateway = await start(key(), meter=meter)
        upstream.script(ScriptedReply.of_json({"id": "x", "text": "Hi"}))
        assert (await ask(gateway, "POST", path, body))[0] in {200, 502}


async def charge(gateway: RunningGateway, path: str, body: Any) -> dict[str, Any]:
    async with gateway.client.post(path, json=body) as reply:
        assert reply.status == 200, await reply.text()
        await reply.read()
    storage = gateway.gateway.storage
    await storage.flush()
    row: dict[str, Any] = (await storage.fetch_all("SELECT * FROM exchanges ORDER BY id DESC LIMIT 1"))[0]
    return row


async def test_an_unknown_endpoint_costs_what_its_reply_says(start: Start, upstream: MockUpstream) -> None:
    """Usage is read by the provider's own reader, whole or streamed."""
    gateway = await start(key())
    upstream.script(ScriptedReply.of_json({"id": "x", "usage": USAGE}))
    row = await charge(gateway, "/v1/oa/Chat/Completions", {"model": "m-1"})
    assert (row["cost_nano"], bool(row["estimated"])) == (20_000_000, False)
    events = b'data: {"id":"x","choices":[],"usage":' + msgspec.json.encode(USAGE) + b"}\n\n"
    upstream.script(ScriptedReply(chunks=[events], headers={"Content-Type": "text/event-stream"}))
    row = await charge(gateway, "/v1/oa/v1/chat/completions", {"model": "m-1", "stream": True})
    assert (row["cost_nano"], bool(row["estimated"])) == (20_000_000, False)


async def test_an_unknown_endpoint_costs_the_estimate_where_its_reply_says_nothing(
    start: Start, upstream: MockUpstream
) -> None:
    """A reply of a shape that nobody knows is charged for what was held, and marked so."""
    gateway = await start(key(), meter={"assumed_output_tokens": 100})
    upstream.script(ScriptedReply.of_json({"job": "queued"}))
    row = await charge(gateway, "/v1/oa/somewhere/new", {"model": "m-1"})
    tokens = 64 + len(b'{"model":"m-1"}') // 3
    assert bool(row["estimated"])
    assert row["cost_nano"] == tokens * 1_000_000 + 100 * 2_000_000
    upstream.script(ScriptedReply.of_json({"data": [{"url": "http://x.invalid"}]}))
    row = await charge(gateway, "/v1/oa/Images/Generations", {"model": "pic-1"})
    assert (row["cost_nano"], bool(row["estimated"])) == (500_000_000, True)


async def test_an_unknown_endpoint_needs_a_known_price_and_the_money(
    start: Start, upstream: MockUpstream
) -> None:
    """As on any face: 400 for a model without a price, 402 without a balance; a refusal costs nothing."""
    gateway = await start(key(), meter={"prepaid": True})
    assert await ask(gateway, "POST", "/v1/oa/videos", {"model": "no-price"}) == (
        400,
        "unknown_model_pricing",
    )
    assert await ask(gateway, "POST", "/v1/oa/videos", {"model": "m-1"}) == (402, "insufficient_balance")
    assert upstream.seen == []
    free = await start(key())
    upstream.script(ScriptedReply(status=404, body=b"{}"))
    assert (await ask(free, "POST", "/v1/oa/videos", {"model": "m-1"}))[0] == 404
    await free.gateway.storage.flush()
    rows = await free.gateway.storage.fetch_all("SELECT cost_nano FROM exchanges")
    assert [row["cost_nano"] for row in rows] == [0]
