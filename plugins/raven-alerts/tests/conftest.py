"""What the tests of the alerts share: a gateway with prices and rules, a mail server, an ear."""

from __future__ import annotations

import asyncio
import ssl
import warnings
from collections.abc import AsyncIterator, Mapping, Sequence
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from raven_proxy import hookimpl
from raven_proxy.events import Event
from raven_proxy.harness import GatewayStarter, RunningGateway
from raven_proxy.mock import MockUpstream, ScriptedReply

CHAT = "/v1/chat/completions"
PASSWORD = "correct-horse-battery-staple"


class MailServer:
    """A real SMTP server on a real socket; `refusing` is what it says to the next recipients."""

    def __init__(
        self, *, tls: ssl.SSLContext | None = None, implicit: bool = False, auth: bool = False
    ) -> None:
        self.mails: list[EmailMessage] = []
        self.envelopes: list[Envelope] = []
        self.sessions: list[Session] = []
        self.refusing: list[str] = []
        self._tls, self._implicit, self._auth = tls, implicit, auth
        self.port = 0

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:
        if self.refusing:
            return self.refusing.pop(0)
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Session, envelope: Envelope) -> str:
        assert isinstance(envelope.content, bytes)
        mail = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(mail, EmailMessage)
        self.mails.append(mail)
        self.envelopes.append(envelope)
        self.sessions.append(session)
        return "250 taken"

    def _authenticate(
        self, server: Any, session: Any, envelope: Any, mechanism: str, data: Any
    ) -> AuthResult:
        fits = isinstance(data, LoginPassword) and (data.login, data.password) == (
            b"raven",
            PASSWORD.encode(),
        )
        return AuthResult(success=fits)

    def open(self) -> SMTP:
        with warnings.catch_warnings(action="ignore"):  # it does not see that TLS is there from the start
            return SMTP(
                self,
                hostname="mail.test",
                tls_context=None if self._implicit else self._tls,
                require_starttls=self._tls is not None and not self._implicit,
                auth_required=self._auth,
                auth_require_tls=self._auth and not self._implicit,
                authenticator=self._authenticate if self._auth else None,
            )

    async def __aenter__(self) -> MailServer:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            self.open, "127.0.0.1", 0, ssl=self._tls if self._implicit else None
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()


@pytest.fixture
async def mailbox() -> AsyncIterator[MailServer]:
    async with MailServer() as server:
        yield server


@pytest.fixture
def heard() -> list[Event]:
    """What was published, by every gateway of `office`."""
    return []


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raven_alerts.deliveries._PAUSES_S", (0.05, 0.1))
    monkeypatch.setattr("raven_alerts.watch._TELL_EVERY_S", 0.02)
    monkeypatch.setattr("raven_alerts.watch._STANDINGS_EVERY_S", 0.02)


def answer(tokens: int = 15, **fields: Any) -> ScriptedReply:
    usage = {"prompt_tokens": tokens - 5, "completion_tokens": 5, "total_tokens": tokens}
    message = {"role": "assistant", "content": "Hello."}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    document = {"id": "c", "object": "chat.completion", "created": 1, "model": "m-1", "choices": [choice]}
    return ScriptedReply.of_json(document | {"usage": usage}, **fields)


class Ear:
    """Hears what is published."""

    def __init__(self, heard: list[Event]) -> None:
        self._heard = heard

    @hookimpl
    async def observe_event(self, event: Event) -> None:
        self._heard.append(event)


class Office:
    """A gateway with rules, seen by its administrator."""

    def __init__(self, gateway: RunningGateway) -> None:
        self.gateway = gateway

    async def chat(self, model: str = "mock/m-1", **fields: Any) -> tuple[int, Any, Mapping[str, str]]:
        body = {"model": model, "max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}]} | fields
        async with self.gateway.client.post(CHAT, json=body) as reply:
            data = await reply.read()
            whole = reply.content_type == "application/json"
            return reply.status, msgspec.json.decode(data) if whole else data, reply.headers

    async def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        async with self.gateway.client.request(method, path, json=body) as reply:
            return reply.status, msgspec.json.decode(await reply.read())

    async def shown(self) -> Any:
        status, shown = await self.ask("GET", "/alerts")
        assert status == 200, shown
        return shown

    async def until(self, true: Any, timeout_s: float = 5.0) -> Any:
        """Ask for `/alerts` until `true(shown)`."""
        async with asyncio.timeout(timeout_s):
            while not true(shown := await self.shown()):
                await asyncio.sleep(0.02)
        return shown


@pytest.fixture
def office(
    raven: GatewayStarter,
    upstream: MockUpstream,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    heard: list[Event],
) -> Any:
    """Start a gateway whose upstream "mock" charges $0.02 for an answer of 15 tokens."""
    catalog = tmp_path / "catalog.json"
    catalog.write_bytes(msgspec.json.encode({"m-1": {"input": "1000", "output": "2000"}}))
    monkeypatch.setenv("SMTP_PASSWORD", PASSWORD)

    async def start(
        rules: Sequence[Mapping[str, Any]] = (),
        *,
        mailbox: MailServer | None = None,
        config: Mapping[str, Any] | None = None,
        upstreams: Sequence[Any] = (),
        plugins: Sequence[Any] = (),
        **settings: Any,
    ) -> Office:
        options: dict[str, Any] = {"principal": settings.pop("principal")} if "principal" in settings else {}
        if mailbox is not None:
            mail = {
                "host": "127.0.0.1",
                "port": mailbox.port,
                "security": "none",
                "sender": "raven@example.com",
            }
            settings = {
                "mail": mail | {"hello_name": "raven.test"},
                "mail_to": ["ops@example.com"],
            } | settings
        table = {"catalog": str(catalog), "access_log": False} | dict(config or {})
        table["plugin"] = {"alerts": {"rules": list(rules), **settings}}
        gateway = await raven(
            [*plugins, Ear(heard)],
            upstreams=[upstream, *upstreams],
            base=("meter", "alerts", "byok", "openai"),
            config=table,
            **options,
        )
        return Office(gateway)

    upstream.handler = _always
    return start


async def _always(seen: Any) -> ScriptedReply | None:
    return answer() if seen.path.endswith("/chat/completions") and seen.model == "m-1" else None
