"""Bad keys are limited by client address, before any key is looked up; good callers elsewhere are not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from raven_limits import strangers

from raven_proxy import Exchange, Principal, hookimpl
from raven_proxy.counters import LocalCounters
from raven_proxy.harness import ADMINISTRATOR
from raven_proxy.tasks import Tasks

from .conftest import Site, Start

BAD = {"Authorization": "Bearer rk_live_wrong"}
PROXIES = {"trusted_proxies": ["127.0.0.1/32"]}


class Doorman:
    """Looks keys up, and notes for whom."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    @hookimpl
    async def authenticate(self, exchange: Exchange) -> Principal | None:
        self.asked.append(exchange.client_address)
        return ADMINISTRATOR if exchange.headers.get("authorization") == "Bearer good" else None


async def ask(here: Site, address: str, key: str | None = "bad") -> int:
    headers = {"X-Forwarded-For": address} | ({"Authorization": f"Bearer {key}"} if key else {})
    del here.gateway.client.headers["Authorization"]
    try:
        return (await here.ask("GET", "/v1/models", headers=headers)).status
    finally:
        here.gateway.client.headers["Authorization"] = "Bearer x"


async def test_so_many_bad_keys_and_no_more(site: Start) -> None:
    """The fourth is a 429 before the lookup, good keys of that address too, and after its wait it is not."""
    door = Doorman()
    here = await site(settings={"failed_keys_per_minute": 3}, plugins=[door], **PROXIES)
    assert [await ask(here, "192.0.2.1") for _ in range(5)] == [401, 401, 401, 429, 429]
    assert len(door.asked) == 3
    assert await ask(here, "192.0.2.1", "good") == 429
    assert await ask(here, "192.0.2.2", "good") == 200
    answer = await here.ask("GET", "/v1/models", headers=BAD | {"X-Forwarded-For": "192.0.2.1"})
    assert (answer.status, answer.code) == (429, "rate_limit_exceeded")
    here.clock.forward(answer.retry_after)
    assert await ask(here, "192.0.2.1", "good") == 200


async def test_good_keys_and_no_keys_do_not_count(site: Start) -> None:
    here = await site(settings={"failed_keys_per_minute": 3}, plugins=[Doorman()], **PROXIES)
    assert await ask(here, "192.0.2.1") == 401
    assert [await ask(here, "192.0.2.1", "good") for _ in range(9)] == [200] * 9
    assert [await ask(here, "192.0.2.1", None) for _ in range(9)] == [401] * 9
    assert [await ask(here, "192.0.2.1") for _ in range(3)] == [401, 401, 429]


async def test_a_v6_network_is_one_address(site: Start) -> None:
    here = await site(settings={"failed_keys_per_minute": 2}, plugins=[Doorman()], **PROXIES)
    assert [await ask(here, f"2001:db8::{n}") for n in range(1, 4)] == [401, 401, 429]
    assert await ask(here, "2001:db8:0:1::1") == 401


async def test_it_can_be_turned_off(site: Start) -> None:
    here = await site(settings={"failed_keys_per_minute": 0}, plugins=[Doorman()], **PROXIES)
    assert {await ask(here, "192.0.2.1") for _ in range(50)} == {401}


async def test_it_stands_before_the_key_plugin_wherever_it_is_named(site: Start) -> None:
    """`plugins` has auth-keys first, as by default."""
    here = await site(settings={"failed_keys_per_minute": 2}, base=("auth-keys", "limits", "openai"))
    statuses = [(await here.ask("GET", "/v1/models", headers=BAD)).status for _ in range(4)]
    assert statuses == [401, 401, 429, 429]


async def test_a_flood_of_addresses_is_bounded(monkeypatch: Any) -> None:
    """No more are watched than the limit, and healthy callers are never among them."""
    monkeypatch.setattr(strangers, "_MOST_WATCHED", 100)
    counters = LocalCounters()
    gateway: Any = SimpleNamespace(counters=counters, tasks=Tasks())
    guard = strangers.Strangers(gateway, 3)
    for number in range(1000):
        address = f"10.0.{number // 256}.{number % 256}"
        exchange: Any = SimpleNamespace(
            notes={}, headers={"authorization": "x"}, principal=None, client_address=address,
            error=SimpleNamespace(status=401),
        )  # fmt: skip
        await guard.check(exchange)
        guard.settle(exchange)
    assert len(guard.watched) == 100
    assert len(counters) == 100
