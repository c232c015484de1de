"""Raw paths at the core: how an endpoint is judged, and what goes up."""

from __future__ import annotations

import msgspec
import pytest

from raven_proxy import Exchange, Principal, hookimpl
from raven_proxy.harness import ADMINISTRATOR, GatewayStarter, RunningGateway
from raven_proxy.mock import MockUpstream, ScriptedReply
from raven_proxy.organizations import Organization


async def send(gateway: RunningGateway, method: str, path: str, body: bytes = b"") -> int:
    async with gateway.client.request(method, path, data=body) as reply:
        await reply.read()
        return reply.status


class Faces:
    """Notes the face of each exchange, whether nobody knows its endpoint, and its model."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, bool, str | None]] = []

    @hookimpl
    async def finish_exchange(self, exchange: Exchange) -> None:
        self.seen.append((exchange.face.name, exchange.face.opaque, exchange.model))


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        ("/v1/mock/things", b'{"model":"m"}', ("raw", True, "m")),
        ("/v1/mock/things", b'\r\n {"a":{"model":"no"}}', ("raw", True, None)),
        ("/v1/mock/things", b'{"model":7}', ("raw", True, None)),
        ("/v1/mock/things", b"\xef\xbb\xbf{}", ("raw", True, None)),
        ("/v1/mock/things", b"", ("raw", True, None)),
    ],
)
async def test_an_endpoint_that_nobody_knows_is_opaque(
    raven: GatewayStarter,
    upstream: MockUpstream,
    path: str,
    body: bytes,
    expected: tuple[str, bool, str | None],
) -> None:
    """Its body is read for a model and goes up whole."""
    faces = Faces()
    gateway = await raven([faces], upstreams=[upstream])
    upstream.script(ScriptedReply.of_json({"id": "file-1"}))
    assert await send(gateway, "POST", path, body) == 200
    assert upstream.seen[0].body == body
    await upstream.wait_until(lambda: faces.seen)
    assert faces.seen == [expected]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("openai", "No upstream of the provider 'openai' is set up here."),
        ("opnai", "There is no provider or upstream named 'opnai'."),
        ("v1", "The base URL ends in /v1: write that once."),
    ],
)
async def test_who_names_no_upstream_is_told_why(raven: GatewayStarter, name: str, words: str) -> None:
    """A provider without an upstream, a typing error, and a base URL with /v1 twice are told apart."""
    gateway = await raven()
    async with gateway.client.post(f"/v1/{name}/chat/completions", json={}) as reply:
        assert reply.status == 404
        assert words in (await reply.json())["error"]["message"]
    question = {"model": f"{name}/m", "messages": [{"role": "user", "content": "Hi"}]}
    async with gateway.client.post("/v1/chat/completions", json=question) as reply:
        said = (await reply.json())["error"]["message"]
        assert reply.status == 400
        assert ("no upstream of the provider 'openai' is set up" in said) == (name == "openai")


async def test_a_repeated_model_is_refused(raven: GatewayStarter, upstream: MockUpstream) -> None:
    """Two readers could take two models from it."""
    gateway = await raven(upstreams=[upstream])
    assert await send(gateway, "POST", "/v1/mock/things", b'{"model":"a","model":"b"}') == 400
    assert upstream.seen == []


async def test_a_proxy_key_does_not_go_up_in_a_query(raven: GatewayStarter, upstream: MockUpstream) -> None:
    gateway = await raven(upstreams=[upstream])
    assert await send(gateway, "GET", "/v1/mock/things?key=rk_live_x") == 400
    assert upstream.seen == []


async def test_the_refusal_says_what_the_key_would_need(
    raven: GatewayStarter, upstream: MockUpstream
) -> None:
    """Every missing scope, or the pattern of models."""
    scopes = ADMINISTRATOR.scopes - {"video:write", "files:read", "admin:write"}
    principal = msgspec.structs.replace(ADMINISTRATOR, scopes=scopes)
    gateway = await raven(upstreams=[upstream], principal=principal)
    async with gateway.client.delete("/v1/mock/things/1") as reply:
        message = (await reply.json())["error"]["message"]
    assert "video:write, files:read, admin:write" in message
    principal = msgspec.structs.replace(ADMINISTRATOR, allowed_models=("mock/m",))
    gateway = await raven(upstreams=[upstream], principal=principal)
    async with gateway.client.get("/v1/mock/things") as reply:
        message = (await reply.json())["error"]["message"]
    assert "mock/*" in message


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize(("is_operator", "status"), [(True, 200), (False, 403)])
async def test_nobody_changes_an_account_that_is_not_theirs(
    raven: GatewayStarter, upstream: MockUpstream, method: str, is_operator: bool, status: int
) -> None:
    """An organisation's owner has `admin:write` too; the operator's account at the vendor is not theirs."""
    principal = msgspec.structs.replace(ADMINISTRATOR, is_operator=is_operator)
    gateway = await raven(upstreams=[upstream], principal=principal, base=("byok", "openai"))
    for headers in ({}, {"X-Provider-Key": "sk-of-the-caller"}):
        upstream.script(ScriptedReply.of_json({}))
        async with gateway.client.request(method, "/v1/mock/things/1", headers=headers) as reply:
            assert reply.status == status
    assert bool(upstream.seen) == (status == 200)


async def test_who_does_not_run_the_gateway_still_reads(
    raven: GatewayStarter, upstream: MockUpstream
) -> None:
    """What makes or shows something is bounded by scopes alone."""
    principal = msgspec.structs.replace(ADMINISTRATOR, is_operator=False, role="developer")
    gateway = await raven(upstreams=[upstream], principal=principal)
    for method in ("GET", "POST"):
        upstream.script(ScriptedReply.of_json({}))
        assert await send(gateway, method, "/v1/mock/things/1") == 200


async def test_what_several_organisations_share_is_not_shown_to_one(
    raven: GatewayStarter, upstream: MockUpstream
) -> None:
    """Stored chats, vector stores, jobs: nobody knows whose they are. One organisation owns them all."""
    customer = Principal(
        key_id="key_b", organization_id="org_b", role="admin", scopes=ADMINISTRATOR.scopes, is_operator=False
    )
    upstream.script(*[ScriptedReply.of_json({"data": []}) for _ in range(4)])
    gateway = await raven(upstreams=[upstream], base=("openai", "byok"), principal=customer)
    assert await send(gateway, "GET", "/v1/mock/vector_stores") == 200
    gateway.gateway.organizations.replace({"org_b": Organization(id="org_b")})
    seen = len(upstream.seen)
    for method in ("GET", "POST", "DELETE"):
        assert await send(gateway, method, "/v1/mock/vector_stores/vs_1/search") == 403
    assert len(upstream.seen) == seen
    own = {"X-Provider-Key": "sk-own-0123456789"}
    async with gateway.client.get("/v1/mock/vector_stores", headers=own) as reply:
        assert reply.status == 200
    gateway = await raven(upstreams=[upstream], principal=ADMINISTRATOR)
    gateway.gateway.organizations.replace({"org_b": Organization(id="org_b")})
    assert await send(gateway, "GET", "/v1/mock/vector_stores") == 200


async def test_t141_a_page_of_a_provider_is_shown_in_a_sandbox(
    raven: GatewayStarter, upstream: MockUpstream
) -> None:
    """A link leads somebody signed in to it: no script runs with their session."""
    gateway = await raven(upstreams=[upstream])
    page = b"<script>fetch('/auth/me')</script>"
    upstream.script(ScriptedReply(body=page, headers=[("Content-Type", "text/html")]))
    async with gateway.client.get("/v1/mock/page.html") as reply:
        assert await reply.read() == page
        assert reply.headers["Content-Security-Policy"] == "sandbox; default-src 'none'"
        assert reply.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    ("path", "is_a_list"),
    [
        ("models", True),
        ("v1/models", True),
        ("v1beta/models/gemini-2.5-pro", True),
        ("models/meta-llama/Llama-3", True),
        ("api/tags", True),
        ("models/a/b/c", False),
        ("models/x:batchGet", False),
        ("vector_stores", False),
        ("models?x=1/../files", True),
    ],
)
async def test_a_vendors_list_of_models_is_for_every_key_that_may_read_models(
    raven: GatewayStarter, upstream: MockUpstream, path: str, is_a_list: bool
) -> None:
    """Official clients ask for it at `base_url=…/v1/{provider}`; nothing of anybody's stands in it."""
    reader = Principal(key_id="key_r", scopes=frozenset({"models:read"}))
    upstream.script(ScriptedReply.of_json({"data": []}))
    gateway = await raven(upstreams=[upstream], principal=reader)
    gateway.gateway.organizations.replace({"org_b": Organization(id="org_b")})
    assert await send(gateway, "GET", f"/v1/mock/{path}") == (200 if is_a_list else 403)
    assert await send(gateway, "DELETE", "/v1/mock/models/mine") == 403
    blind = Principal(key_id="key_c", scopes=frozenset({"chat:write"}))
    gateway = await raven(upstreams=[upstream], principal=blind)
    assert await send(gateway, "GET", f"/v1/mock/{path}") == 403
