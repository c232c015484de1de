"""A gateway with people: who signs in keeps a cookie and a token, as a browser's page does."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from aiohttp import ClientSession, DummyCookieJar  # noqa: TID251 - the client side of a test

from raven_proxy.harness import ADMIN_KEY, GatewayStarter, RunningGateway

CHEAP = {"argon2_memory_kib": 19_456, "argon2_rounds": 2}
PASSWORD = "a raven on a wire"
OWNER = {"email": "olga@example.com", "password": PASSWORD, "name": "Olga", "organization": "Ravens"}


class Page:
    """Somebody at a gateway: with a key, with a session, or with nothing."""

    def __init__(self, house: House, **headers: str) -> None:
        self.house = house
        self.headers = headers
        self.body: Any = None
        self.replied: Any = None

    async def __call__(
        self, method: str, path: str, json: Any = None, without: str = "", **headers: str
    ) -> tuple[int, Any]:
        """Send a request; a header whose name is in `without` is left out."""
        sent = {**self.headers, **{name.replace("_", "-"): value for name, value in headers.items()}}
        sent = {name: value for name, value in sent.items() if name.lower() not in without.lower().split()}
        data = None if json is None else msgspec.json.encode(json)
        if data is not None:
            sent.setdefault("Content-Type", "application/json")
        async with self.house.client.request(method, path, data=data, headers=sent) as reply:
            self.replied = reply
            return reply.status, msgspec.json.decode(await reply.read())

    @property
    def cookie(self) -> str:
        return self.headers["Cookie"].partition("=")[2]


class House:
    """A running gateway, and who comes to it."""

    def __init__(self, running: RunningGateway, client: ClientSession) -> None:
        self.running = running
        self.gateway = running.gateway
        self.client = client
        self.stranger = Page(self)
        self.operator = Page(self, Authorization=f"Bearer {ADMIN_KEY}")

    async def sign_in(self, email: str, password: str = PASSWORD) -> Page:
        status, body = await self.stranger("POST", "/auth/login", {"email": email, "password": password})
        assert status == 200, body
        return self.enter(body)

    def enter(self, body: Any) -> Page:
        """Go on as who just got a session."""
        cookie = self.stranger.replied.headers["Set-Cookie"].partition(";")[0]
        page = Page(self, Cookie=cookie, Origin=self.running.url, **{"X-CSRF-Token": body["csrfToken"]})
        page.body = body
        return page

    async def set_up(self) -> Page:
        """Make the first owner; give them signed in."""
        status, body = await self.operator("POST", "/auth/setup", OWNER)
        assert status == 201, body
        self.stranger.replied = self.operator.replied
        return self.enter(body)

    async def add(self, email: str, role: str, organization: str = "org_default", **fields: Any) -> Any:
        """Make a member; give them as the API shows them."""
        body = {"email": email, "role": role, "password": PASSWORD, **fields}
        body = {name: value for name, value in body.items() if value is not None}
        status, made = await self.operator("POST", f"/orgs/{organization}/members", body)
        assert status == 201, made
        return made

    async def found(self, name: str, **fields: Any) -> str:
        """Make an organisation; give its id."""
        status, made = await self.operator("POST", "/orgs", {"name": name, **fields})
        assert status == 201, made
        return str(made["id"])


@pytest.fixture
async def client_of() -> Any:
    clients: list[ClientSession] = []

    def make(url: str) -> ClientSession:
        clients.append(ClientSession(url, cookie_jar=DummyCookieJar()))
        return clients[-1]

    yield make
    for client in clients:
        await client.close()


@pytest.fixture
async def open_house(raven: GatewayStarter, client_of: Any) -> Any:
    """Start a gateway with settings of `[plugin.accounts]`."""

    async def start(
        plugins: Any = (), base: Any = ("auth-keys", "accounts", "openai", "demo"), **settings: Any
    ) -> House:
        config = dict(settings.pop("config", {}))
        config["plugin"] = {**config.get("plugin", {}), "accounts": {**CHEAP, **settings}}
        running = await raven(plugins, base=base, config=config)
        return House(running, client_of(running.url))

    return start


@pytest.fixture
async def house(open_house: Any) -> House:
    made: House = await open_house()
    return made
