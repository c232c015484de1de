"""Networks, regions and hosts of an organisation, through a real gateway."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import dns.message
import dns.rrset
import msgspec
import pytest
from raven_access import Access
from raven_access.domains import Domains

from raven_proxy import Candidate, ConfigError, Exchange, hookimpl
from raven_proxy.harness import ADMIN_KEY, ADMINISTRATOR
from raven_proxy.mock import MockUpstream
from raven_proxy.organizations import Organization

CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}]}
HERE = msgspec.structs.replace(ADMINISTRATOR, is_operator=False)


def places(*upstreams: tuple[str, MockUpstream, str | None]) -> dict[str, Any]:
    """A config with these upstreams and their regions; the alias "fast" goes to all of them in order."""
    tables = [
        {
            "name": name,
            "provider": "openai",
            "base_url": upstream.url,
            "key": {"env": "ACCESS_TEST_KEY"},
            **({"region": region} if region else {}),
        }
        for name, upstream, region in upstreams
    ]
    targets = [f"{name}/gpt-4o-mini" for name, _, _ in upstreams]
    return {"upstreams": tables, "models": [{"name": "fast", "targets": targets}]}


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCESS_TEST_KEY", "sk-of-the-gateway")


@pytest.fixture
async def other() -> AsyncIterator[MockUpstream]:
    async with MockUpstream() as upstream:
        yield upstream


async def start(raven: Any, config: dict[str, Any], *plugins: Any, **organization: Any) -> Any:
    running = await raven([*plugins], base=("access", "openai", "byok"), config=config, principal=HERE)
    running.gateway.organizations.replace({"org_default": Organization(id="org_default", **organization)})
    return running


async def ask(running: Any, path: str = "/v1/chat/completions", **headers: str) -> tuple[int, Any]:
    body = {**CHAT, "model": "fast"} if not path.startswith("/v1/us") else CHAT
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    async with running.client.post(path, json=body, headers=sent) as reply:
        return reply.status, await reply.json()


# -- networks ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("networks", "status"), [(("127.0.0.0/8",), 200), (("192.0.2.0/24", "::1/128"), 403)]
)
async def test_an_organisation_is_used_from_its_networks_only(
    raven: Any, upstream: MockUpstream, networks: tuple[str, ...], status: int
) -> None:
    """On the proxy's faces and on those that manage it; and nobody is asked."""
    running = await start(raven, places(("us", upstream, None)), ip_allowlist=networks)
    assert (await ask(running))[0] == status
    async with running.client.get("/domains") as reply:
        assert reply.status == status
    if status == 403:
        assert (await ask(running))[1]["error"]["code"] == "ip_not_allowed"
        assert not upstream.seen


async def test_a_forwarded_address_counts_through_trusted_proxies_only(
    raven: Any, upstream: MockUpstream
) -> None:
    """T13: a client cannot name the address that it would like to have."""
    config = places(("us", upstream, None))
    for trusted, status in (((), 403), (("127.0.0.1/32",), 200)):
        running = await start(raven, config | {"trusted_proxies": list(trusted)}, ip_allowlist=("192.0.2.7",))
        assert (await ask(running, X_Forwarded_For="192.0.2.7"))[0] == status


# -- regions -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("region", "allowed", "strictly", "status"),
    [
        ("eu", ("eu",), True, 200),
        ("EU", ("eu", "us"), True, 200),
        ("us", ("eu",), False, 403),
        (None, ("eu",), False, 200),
        (None, ("eu",), True, 403),
        ("any", ("eu",), False, 200),
        ("any", ("eu",), True, 403),
        ("us", None, True, 200),
        ("us", (), False, 403),
    ],
)
async def test_data_goes_to_allowed_regions_only(
    raven: Any, upstream: MockUpstream, region: str | None, allowed: Any, strictly: bool, status: int
) -> None:
    """403 `data_residency_violation`, and nobody is asked."""
    running = await start(
        raven, places(("us", upstream, region)), allowed_regions=allowed, enforce_strictly=strictly
    )
    for path in ("/v1/chat/completions", "/v1/us/chat/completions", "/api/v1/chat/completions"):
        got, body = await ask(running, path)
        assert got == status
        if status == 403:
            assert body["error"]["code"] == "data_residency_violation"
    assert bool(upstream.seen) == (status == 200)


@pytest.mark.parametrize("byok", [False, True])
async def test_T62_a_fallback_elsewhere_sees_nothing(
    raven: Any, upstream: MockUpstream, other: MockUpstream, byok: bool
) -> None:
    """The EU's upstream is down and the fallback is in the US: an error, and the US saw nothing."""
    config = places(("eu", upstream, "eu"), ("us", other, "us"))
    await upstream.close()
    running = await start(raven, config, allowed_regions=("eu",), enforce_strictly=True)
    status, _ = await ask(running, **({"X_Provider_Key": "sk-of-a-caller"} if byok else {}))
    assert status >= 500
    assert not other.seen


class Elsewhere:
    """A plugin that sends everything to the upstream "us", whatever was resolved."""

    @hookimpl
    async def choose_upstreams(self, exchange: Exchange) -> list[Candidate]:
        return [Candidate(exchange.pipeline.upstreams["us"], "gpt-4o-mini")]


async def test_who_routes_elsewhere_is_stopped_before_the_attempt(
    raven: Any, upstream: MockUpstream, other: MockUpstream
) -> None:
    """The gate stands before routing and before each attempt."""
    config = places(("eu", upstream, "eu"), ("us", other, "us"))
    running = await start(raven, config, Elsewhere, allowed_regions=("eu",))
    status, body = await ask(running)
    assert (status, body["error"]["code"]) == (403, "data_residency_violation")
    assert not other.seen


# -- domains -------------------------------------------------------------------------------


class Names(asyncio.DatagramProtocol):
    """A name server on loopback that knows TXT records."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        asked = dns.message.from_wire(data)
        answer = dns.message.make_response(asked)
        name = asked.question[0].name.to_text()
        if text := self.texts.get(name.rstrip(".")):
            answer.answer.append(dns.rrset.from_text(name, 60, "IN", "TXT", f'"{text}"'))
        self.transport.sendto(answer.to_wire(), addr)


@asynccontextmanager
async def name_server() -> AsyncIterator[tuple[Names, str]]:
    loop = asyncio.get_running_loop()
    transport, names = await loop.create_datagram_endpoint(Names, local_addr=("127.0.0.1", 0))
    try:
        yield names, "127.0.0.1:{1}".format(*transport.get_extra_info("sockname"))
    finally:
        transport.close()


async def call(running: Any, method: str, path: str, json: Any = None, **headers: str) -> tuple[int, Any]:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    async with running.client.request(method, path, json=json, headers=sent) as reply:
        return reply.status, await reply.json()


async def test_a_domain_is_proved_by_a_record(raven: Any) -> None:
    """Until then it binds nothing; a wrong record says what was seen."""
    async with name_server() as (names, address):
        config = {"plugin": {"access": {"nameservers": [address]}}}
        running = await raven(base=("auth-keys", "access", "demo", "openai"), config=config)
        running.gateway.organizations.replace({"org_b": Organization(id="org_b")})
        status, made = await call(
            running, "POST", "/domains", {"domain": "AI.Example.com."}, X_Org_Id="org_b"
        )
        assert (status, made["domain"], made["status"]) == (201, "ai.example.com", "pending")
        record = made["verificationRecord"]
        path = f"/domains/{made['id']}/verify"
        status, body = await call(running, "POST", path, X_Org_Id="org_b")
        assert (status, body["error"]["code"]) == (409, "conflict")
        assert "there is none" in body["error"]["message"]
        _, key = await call(running, "POST", "/keys", {"name": "a"})
        bearer = {"Authorization": f"Bearer {key['key']}", "Host": "ai.example.com:4000"}
        assert (await call(running, "GET", "/v1/models", **bearer))[0] == 200
        names.texts[record["name"]] = record["value"]
        assert await call(running, "POST", path, X_Org_Id="org_b") == (200, {"status": "verified"})
        status, body = await call(running, "GET", "/v1/models", **bearer)
        assert (status, body["error"]["code"]) == (403, "forbidden")
        _, theirs = await call(running, "POST", "/keys", {"name": "b"}, X_Org_Id="org_b")
        mine = bearer | {"Authorization": f"Bearer {theirs['key']}"}
        assert (await call(running, "GET", "/v1/models", **mine))[0] == 200
        operator = bearer | {"Authorization": f"Bearer {ADMIN_KEY}"}
        assert (await call(running, "GET", "/v1/models", **operator))[0] == 200
        assert (await call(running, "DELETE", f"/domains/{made['id']}", X_Org_Id="org_b"))[0] == 200
        assert (await call(running, "GET", "/v1/models", **bearer))[0] == 200


@pytest.mark.parametrize(
    "domain",
    ["localhost", "https://a.example.com", "a.example.com/x", "-a.example.com", "10.0.0.1", "a..b", "a b.c"],
)
async def test_what_is_no_host_name_is_refused(raven: Any, domain: str) -> None:
    """400 `validation_error` with `param`."""
    running = await raven(base=("access", "demo"))
    status, body = await call(running, "POST", "/domains", {"domain": domain})
    assert (status, body["error"]["type"], body["error"]["param"]) == (400, "validation_error", "domain")


async def test_a_domain_is_one_organisations_only(raven: Any) -> None:
    """409, for another organisation as for one's own; a claim that grew old makes room."""
    running = await raven(base=("auth-keys", "access", "demo"))
    running.gateway.organizations.replace({"org_b": Organization(id="org_b")})
    assert (await call(running, "POST", "/domains", {"domain": "a.example.com"}))[0] == 201
    for headers in ({}, {"X_Org_Id": "org_b"}):
        status, body = await call(running, "POST", "/domains", {"domain": "a.example.com"}, **headers)
        assert (status, body["error"]["type"]) == (409, "conflict_error")
    await running.gateway.storage.execute("UPDATE domains SET created_at = created_at - 8 * 86400")
    assert (await call(running, "POST", "/domains", {"domain": "a.example.com"}, X_Org_Id="org_b"))[0] == 201


@pytest.mark.parametrize("wrong", ["ns.example.com", "192.0.2.53:dns", ""])
def test_a_nameserver_that_is_no_address_stops_the_start(wrong: str) -> None:
    """Not only when somebody verifies a domain, as a 500."""
    with pytest.raises(ConfigError, match="nameservers"):
        Access(Access.Config(nameservers=("192.0.2.53", wrong)))


async def test_each_nameserver_has_its_own_port() -> None:
    """The second one answers, on a port that is not the first one's."""
    async with name_server() as (names, address):
        names.texts["_raven-challenge.ai.example.com"] = "word"
        domains = Domains(("127.0.0.2:9", address), 7)
        assert await domains._look_up("_raven-challenge.ai.example.com") == {"word"}


async def test_of_two_proofs_at_once_one_holds(raven: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both records are published: who is first in the database has the host, and the other is told."""
    running = await raven(base=("auth-keys", "access", "demo"))
    running.gateway.organizations.replace(
        {"org_b": Organization(id="org_b"), "org_c": Organization(id="org_c")}
    )
    made = []
    for organization in ("org_b", "org_c"):
        _, one = await call(running, "POST", "/domains", {"domain": "a.example.com"}, X_Org_Id=organization)
        made.append((organization, one["id"], one["verificationRecord"]["value"]))
        await running.gateway.storage.execute("UPDATE domains SET created_at = created_at - 8 * 86400")

    async def look_up(self: Domains, name: str) -> set[str]:
        await asyncio.sleep(0.05)
        return {token for _, _, token in made}

    monkeypatch.setattr(Domains, "_look_up", look_up)
    answers = await asyncio.gather(
        *[call(running, "POST", f"/domains/{name}/verify", X_Org_Id=owner) for owner, name, _ in made]
    )
    assert sorted(status for status, _ in answers) == [200, 409]
