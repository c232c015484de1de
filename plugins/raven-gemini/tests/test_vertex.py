"""Vertex AI: its addresses, its tokens, and Claude there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs

import msgspec
import pytest
from raven_gemini.identity import read_identity
from raven_gemini.tokens import TokenSource

from raven_proxy import hub
from raven_proxy.config import UpstreamConfig
from raven_proxy.errors import NoActiveKey, UpstreamError
from raven_proxy.exchange import Credential, Exchange
from raven_proxy.mock import MockUpstream, ScriptedReply
from raven_proxy.upstream import Upstream

Make = Callable[..., Exchange]
OPTIONS = {"project": "p1", "location": "europe-west4"}
USER = {"type": "authorized_user", "client_id": "id", "client_secret": "cs", "refresh_token": "rt"}


@pytest.fixture(scope="module")
def service_account() -> tuple[str, Any]:
    """A service account's JSON, and its public key."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    account = {
        "type": "service_account",
        "project_id": "from-the-key",
        "private_key_id": "k1",
        "private_key": pem.decode(),
        "client_email": "robot@p1.iam.gserviceaccount.com",
        "token_uri": "http://evil.example/token",
    }
    return msgspec.json.encode(account).decode(), public


def grant(token: str = "ya29.token", expires_in: int = 3600) -> ScriptedReply:
    return ScriptedReply.of_json({"access_token": token, "expires_in": expires_in, "token_type": "Bearer"})


def hello(make_exchange: Make, **fields: Any) -> Exchange:
    stream = fields.pop("stream", False)
    fields = {"preset": "vertex", "options": OPTIONS, "secret": "ya29.given", **fields}
    exchange = make_exchange({"messages": [], "stream": stream}, **fields)
    assert exchange.candidate is not None
    message = hub.Message(role="user", parts=[hub.Text(text="Hi")])
    exchange.hub_request = hub.ChatRequest(model=exchange.candidate.model or "", messages=[message])
    return exchange


# -- addresses ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("location", "host"),
    [
        ("global", "aiplatform.googleapis.com"),
        ("europe-west4", "europe-west4-aiplatform.googleapis.com"),
        ("us", "aiplatform.us.rep.googleapis.com"),
    ],
)
def test_the_location_is_the_host(provider: Any, location: str, host: str) -> None:
    """Unless the config names a base URL."""
    options = {"location": location}
    upstream = Upstream(
        UpstreamConfig(name="v", provider="vertex", options=options), provider, allow_private=False
    )
    assert (upstream.host, upstream.is_tls) == (host, True)
    mine = UpstreamConfig(name="v", provider="vertex", options=options, base_url="http://127.0.0.1:1/v1")
    assert Upstream(mine, provider, allow_private=True).host == "127.0.0.1"


@pytest.mark.parametrize(
    ("model", "path"),
    [
        ("gemini-2.5-flash", "publishers/google/models/gemini-2.5-flash"),
        ("google/gemini-2.5-flash", "publishers/google/models/gemini-2.5-flash"),
        ("publishers/google/models/gemini-2.5-flash", "publishers/google/models/gemini-2.5-flash"),
        ("endpoints/123", "endpoints/123"),
    ],
)
def test_paths_name_project_and_location(make_exchange: Make, provider: Any, model: str, path: str) -> None:
    """Below the newest version of the API, or below the base URL of the config."""
    outgoing = provider.build_request(hello(make_exchange, model=model))
    assert outgoing.target == f"/v1beta1/projects/p1/locations/europe-west4/{path}:generateContent"
    assert outgoing.headers["authorization"] == "Bearer ya29.given"
    assert "x-goog-api-key" not in outgoing.headers
    outgoing = provider.build_request(hello(make_exchange, model=model, base_url="http://127.0.0.1:1/v1"))
    assert outgoing.target == f"/v1/projects/p1/locations/europe-west4/{path}:generateContent"


@pytest.mark.parametrize(
    ("endpoint", "target"),
    [
        ("publishers/google/models/m:generateContent", "/v1beta1/projects/p1/locations/europe-west4/{}"),
        ("projects/p2/locations/l/publishers/google/models/m:generateContent", "/v1beta1/{}"),
        ("v1/projects/p2/locations/l/endpoints/1:generateContent", "/{}"),
    ],
)
def test_raw_paths_may_be_short(make_exchange: Make, provider: Any, endpoint: str, target: str) -> None:
    """With or without version, project and location."""
    face = provider.find_face("POST", endpoint)
    exchange = hello(make_exchange)
    exchange.face, exchange.params = face, {"endpoint": endpoint}
    assert provider.build_request(exchange).target == target.format(endpoint)


def test_the_project_may_stand_in_the_key(make_exchange: Make, provider: Any, service_account: Any) -> None:
    """An option comes first; without either there is nowhere to go."""
    exchange = hello(make_exchange, secret=service_account[0], options={})
    assert "/projects/from-the-key/locations/global/" in provider.build_request(exchange).target
    with pytest.raises(NoActiveKey, match="project"):
        provider.build_request(hello(make_exchange, options={}))


def test_an_api_key_goes_where_api_keys_go(make_exchange: Make, provider: Any) -> None:
    """Vertex AI takes those too."""
    headers = provider.build_request(hello(make_exchange, secret="AIzaSomething")).headers
    assert headers["x-goog-api-key"] == "AIzaSomething"
    assert "authorization" not in headers


# -- tokens ------------------------------------------------------------------------


async def test_a_service_accounts_token_is_asked_for_and_sent(
    make_exchange: Make, provider: Any, service_account: Any, upstream: MockUpstream
) -> None:
    """A signed assertion that Google's own library accepts; to the configured address, not to the key's."""
    jwt = pytest.importorskip("google.auth.jwt")
    key, public = service_account
    upstream.script(grant())
    uri = upstream.url + "/token"
    exchange = hello(make_exchange, secret=key, options={**OPTIONS, "token_uri": uri})
    await provider.prepare(exchange)
    outgoing = provider.build_request(exchange)
    assert outgoing.headers["authorization"] == "Bearer ya29.token"
    assert key not in repr(outgoing)
    (seen,) = upstream.seen
    form = {name: values[0] for name, values in parse_qs(seen.body.decode()).items()}
    assert form["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer"
    claims = jwt.decode(form["assertion"], certs={"k1": public}, audience=uri)
    assert claims["iss"] == "robot@p1.iam.gserviceaccount.com"
    assert claims["scope"] == "https://www.googleapis.com/auth/cloud-platform"
    assert claims["exp"] - claims["iat"] == 3600


async def test_a_users_credentials_work_too(upstream: MockUpstream) -> None:
    """A refresh token, as `gcloud auth application-default login` leaves it."""
    upstream.script(grant())
    credential = Credential(msgspec.json.encode(USER).decode())
    assert await TokenSource().get("v", credential, upstream.url) == "ya29.token"
    assert parse_qs(upstream.seen[0].body.decode())["refresh_token"] == ["rt"]


async def test_tokens_are_kept_until_shortly_before_they_expire(upstream: MockUpstream) -> None:
    """However many requests wait, one asks; an old token that still holds is used if there is no new one."""
    now = [1000.0]
    source = TokenSource(lambda: now[0])
    credential = Credential(msgspec.json.encode(USER).decode())

    async def get() -> str:
        return await source.get("v", credential, upstream.url)

    upstream.script(grant("one"))
    assert set(await asyncio.gather(*[get() for _ in range(20)])) == {"one"}
    now[0] += 3000
    assert await get() == "one"
    assert len(upstream.seen) == 1
    now[0] += 400
    upstream.reply(status=503)
    assert await get() == "one"
    upstream.script(grant("two"))
    assert await get() == "two"
    now[0] += 4000
    upstream.reply(status=400, body=b'{"error":"invalid_grant","error_description":"rt cs"}')
    with pytest.raises(UpstreamError) as error:
        await get()
    assert (error.value.status, "rt cs" in error.value.message) == (502, False)


async def test_a_clients_own_credentials_are_not_kept(upstream: MockUpstream) -> None:
    """What came with one request serves that request only."""
    source = TokenSource()
    credential = Credential(msgspec.json.encode(USER).decode(), source="byok")
    for name in ("one", "two"):
        upstream.script(grant(name))
        assert await source.get("v", credential, upstream.url) == name


@pytest.mark.parametrize(
    "key",
    [
        "{",
        "{}",
        '{"type":"external_account"}',
        '{"type":"service_account","client_email":"a"}',
        '{"type":"service_account","client_email":"a","private_key":"SECRET"}',
        '{"type":5}',
    ],
)
async def test_keys_that_cannot_be_used(key: str) -> None:
    """Said without a word of the secret, before anybody is asked."""
    with pytest.raises(NoActiveKey) as error:
        await TokenSource().get("v", Credential(key), "http://127.0.0.1:1/")
    assert "SECRET" not in error.value.message


async def test_an_answer_without_a_token_is_an_error(upstream: MockUpstream) -> None:
    """Whatever it is."""
    upstream.script(ScriptedReply.of_json({"id_token": "x"}))
    with pytest.raises(UpstreamError, match="something else"):
        await TokenSource().get("v", Credential(msgspec.json.encode(USER).decode()), upstream.url)


def test_secrets_are_not_printed(service_account: Any) -> None:
    """Neither keys nor tokens show in a repr."""
    assert "PRIVATE" not in repr(read_identity(service_account[0]))


def test_ai_studio_does_not_pay_for_vertex() -> None:
    """Nothing of the signing is imported by the plugin itself."""
    import subprocess
    import sys

    code = "import raven_gemini, sys; print([m for m in sys.modules if m in ('cryptography', 'google.auth')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
