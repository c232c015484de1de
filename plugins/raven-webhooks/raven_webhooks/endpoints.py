"""`/webhooks`: who is told of what, and where. Those of the table and of the config file, in memory.

A URL is often a secret itself, so that reading takes an administrator too.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Annotated, Any

import msgspec
import structlog
from msgspec import Meta

from raven_proxy import ConfigError
from raven_proxy.events import Event
from raven_proxy.organizations import DEFAULT
from raven_proxy.resources import SYSTEM, Action, Caller, Change, Record, Records, Resource, Secret, invalid
from raven_proxy.sealing import SealBroken
from raven_proxy.storage import Transaction

from .sending import MIN_SECRET, Target, judge_url
from .settings import Settings
from .topics import TOPICS, covers, find_unknown

__all__ = ["Endpoint", "Endpoints", "NewWebhook"]

_log = structlog.get_logger("raven_webhooks.endpoints")
_Pattern = Annotated[str, Meta(pattern=r"^(\*|[a-z_]{1,40}\.(\*|[a-z_]{1,40}))\Z")]


class NewWebhook(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """The body of `POST /webhooks`. `events` are names, groups ("budget.*") or "*". Without a `secret` one is
    made up and shown this once.
    """

    url: Annotated[str, Meta(min_length=1, max_length=2000)]
    events: Annotated[list[_Pattern], Meta(min_length=1, max_length=50)]
    secret: Secret | None = None
    is_enabled: bool = True


class Shown(msgspec.Struct, kw_only=True, rename="camel"):
    """What reading adds: since when every try has failed."""

    failing_since: datetime | None


class Created(msgspec.Struct, kw_only=True, rename="camel"):
    """What making one adds, this once: the secret to check signatures with."""

    secret: str


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A webhook as deliveries see it. `organization` is a glob for one of the config file, whose id is
    "config/" and its name; `created_at` is in Unix seconds.
    """

    id: str
    organization: str
    events: tuple[str, ...]
    target: Target
    created_at: int = 0
    is_stored: bool = False

    def hears(self, event: Event) -> bool:
        """Say whether it is to be told of an event."""
        whose = event.organization_id or DEFAULT
        is_theirs = self.organization == whose if self.is_stored else fnmatchcase(whose, self.organization)
        return is_theirs and covers(self.events, event.type)


class Endpoints:
    """The resource, and every webhook that is switched on. Raises ConfigError for those of the config."""

    def __init__(self, settings: Settings, actions: tuple[Action, ...]) -> None:
        self._allow_private = settings.allow_private
        self._configured = tuple(_read_configured(settings))
        self._known: Mapping[str, Endpoint] = {one.id: one for one in self._configured}
        self.resource: Resource[NewWebhook] = Resource(
            name="webhooks", singular="webhook", table="webhooks", prefix="wh_", body=NewWebhook, shown=Shown,
            most=100,
            created=Created, summary="Addresses that are told of events, signed", unique=("url",),
            example={"url": "https://hooks.example/raven", "events": ["budget.*", "exchange.failed"]},
            read_role="admin", check=self._judge, forget=_forget, show=_show, actions=actions,
        )  # fmt: skip

    def check_secrets(self) -> None:
        """Refuse to start with a secret that can be guessed. Raises ConfigError."""
        for one in self._configured:
            if len(one.target.secret) < MIN_SECRET:
                raise ConfigError(
                    f"[plugin.webhooks]: {one.id}: secret: is shorter than {MIN_SECRET} characters; take the "
                    "output of: openssl rand -hex 32"
                )

    @property
    def all(self) -> Sequence[Endpoint]:
        """Give every webhook that is on."""
        return tuple(self._known.values())

    def get(self, webhook: str) -> Endpoint | None:
        """Give a webhook that is on."""
        return self._known.get(webhook)

    async def refresh(self, records: Records) -> None:
        """Read the table anew."""
        known = {one.id: one for one in self._configured}
        for record in await records.load(self.resource):
            if record.body.is_enabled:
                try:
                    known[record.id] = self.open(records, record)
                except SealBroken as error:
                    _log.error("a webhook's secret cannot be opened", webhook=record.id, reason=str(error))
        self._known = known

    def open(self, records: Records, record: Record[NewWebhook]) -> Endpoint:
        """Make a row ready to be delivered to. Raises SealBroken."""
        secret = records.reveal(self.resource, record, "secret")
        return Endpoint(
            id=record.id, organization=record.organization_id, events=tuple(record.body.events),
            target=Target(url=record.body.url, secret=secret or "", allow_private=self._allow_private),
            created_at=int(record.created_at.timestamp()), is_stored=True,
        )  # fmt: skip

    async def switch_off(self, records: Records, webhook: str) -> None:
        """Tell a webhook nothing more: it fails for long. Noted in the audit log."""
        endpoint = self.get(webhook)
        if endpoint is None or not endpoint.is_stored:
            return
        caller = msgspec.structs.replace(SYSTEM, organization_id=endpoint.organization, name="webhooks")
        record = await records.get(self.resource, webhook, caller)
        await records.write_columns(self.resource, record, {"is_enabled": 0}, caller, "disable")
        _log.warning("a webhook fails for long and was switched off", webhook=webhook)

    async def _judge(self, change: Change[NewWebhook]) -> None:
        body, given = change.body, change.given
        wrong = judge_url(body.url, allow_private=self._allow_private) if "url" in given else None
        if wrong is not None:
            raise invalid("url", wrong)
        unknown = find_unknown(body.events)
        if unknown is not None:
            raise invalid("events", f"there is no {unknown!r}; there are {', '.join(TOPICS)}")
        if change.before is not None and change.before.body.is_enabled != body.is_enabled:
            change.columns["failing_since"] = None
        if change.before is None or "secret" in given:
            if body.secret is None:
                secret = f"whsec_{secrets.token_urlsafe(32)}"
                change.body = msgspec.structs.replace(body, secret=secret)
                change.reply["secret"] = secret
            elif len(body.secret) < MIN_SECRET:
                raise invalid("secret", f"must have at least {MIN_SECRET} characters; leave it out for one")
            elif change.before is None:
                change.reply["secret"] = body.secret


async def _forget(caller: Caller, record: Record[NewWebhook], transaction: Transaction) -> None:
    del caller
    await transaction.execute("DELETE FROM webhook_deliveries WHERE webhook_id = ?", (record.id,))


async def _show(record: Record[NewWebhook]) -> Mapping[str, Any]:
    since = record.columns["failing_since"]
    return {"failingSince": None if since is None else datetime.fromtimestamp(since, UTC)}


def _read_configured(settings: Settings) -> list[Endpoint]:
    found: dict[str, Endpoint] = {}
    for one in settings.endpoints:
        where = f"[plugin.webhooks]: endpoints: {one.name!r}"
        if one.name in found:
            raise ConfigError(f"{where}: the name is used twice")
        may_be_private = one.allow_private or settings.allow_private
        wrong = judge_url(one.url, allow_private=may_be_private)
        if wrong is not None:
            raise ConfigError(f"{where}: url: {wrong}")
        unknown = find_unknown(one.events)
        if unknown is not None:
            raise ConfigError(f"{where}: events: there is no {unknown!r}; there are {', '.join(TOPICS)}")
        try:
            secret = one.secret.reveal()
        except ConfigError as error:
            raise ConfigError(f"{where}: secret: {error}") from None
        target = Target(url=one.url, secret=secret, allow_private=may_be_private)
        found[one.name] = Endpoint(
            id=f"config/{one.name}", organization=one.organization, events=one.events, target=target
        )
    return list(found.values())
