"""Custom domains: whose a host is, proved by a TXT record.

`POST /domains` gives a record to publish at `_raven-challenge.<domain>`; `POST /domains/{id}/verify` looks
it up. From then on requests to that host are its organisation's only. Hosts are compared in lower case and
in their ASCII form (RFC 5891).
"""

from __future__ import annotations

import ipaddress
import re
import secrets
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import dns.asyncresolver
import dns.exception
import msgspec
from msgspec import Meta

from raven_proxy import ConfigError, Refused
from raven_proxy.resources import Action, ActionCall, Change, Record, Records, Resource, invalid

__all__ = ["MIGRATIONS", "Domains", "NewDomain", "host_of"]

MIGRATIONS = (
    """CREATE TABLE domains (
      id TEXT PRIMARY KEY, organization_id TEXT NOT NULL, created_at INTEGER NOT NULL, domain TEXT NOT NULL,
      token TEXT NOT NULL, verified_at INTEGER
    );
    CREATE INDEX domains_by_name ON domains (domain);""",
)
_LABEL = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)")
_CHALLENGE = "_raven-challenge"
_LOOKUP_S = 5.0
_DAY_S = 86_400
_DNS_PORT = 53


class NewDomain(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """The body of `POST /domains`: a host name of your own, without scheme, port or path."""

    domain: Annotated[str, Meta(min_length=4, max_length=253)]


class Proof(msgspec.Struct, kw_only=True, rename="camel"):
    """The record to publish: its name, its type and its value."""

    name: str
    type: Literal["TXT"]
    value: str


class Shown(msgspec.Struct, kw_only=True, rename="camel"):
    """What reading adds: whether it is proved, since when, and by which record."""

    status: Literal["pending", "verified"]
    verified_at: datetime | None
    verification_record: Proof


class Verified(msgspec.Struct, kw_only=True, rename="camel"):
    """The answer to a verification."""

    status: Literal["verified"]


def host_of(headers: Mapping[str, str]) -> str:
    """Give a request's host without its port, in lower case."""
    host = headers.get("host", "")
    return host.partition("]")[0] if host.startswith("[") else host.partition(":")[0].rstrip(".").lower()


class Domains:
    """The resource `/domains`, and the hosts that are proved, in memory."""

    def __init__(self, nameservers: tuple[str, ...], claim_days: int) -> None:
        self._nameservers = _read_nameservers(nameservers)
        self._claim_s = claim_days * _DAY_S
        self._owners: Mapping[str, str] = {}
        self.resource: Resource[NewDomain] = Resource(
            name="domains", singular="domain", table="domains", prefix="dom_", body=NewDomain, shown=Shown,
            summary="Hosts of an organisation's own", example={"domain": "ai.example.com"},
            unique=("domain",),
            check=self._judge, show=_show,
            actions=(
                Action(name="verify", summary="Look the record up", run=self._verify, reply=Verified),
            ),
        )  # fmt: skip

    @property
    def are_any(self) -> bool:
        """Whether any host is proved: most gateways need not look."""
        return bool(self._owners)

    def owner_of(self, host: str) -> str | None:
        """Give the organisation that a host belongs to."""
        return self._owners.get(host)

    async def refresh(self, records: Records) -> None:
        """Read which hosts are proved."""
        self._owners = {
            one.body.domain: one.organization_id
            for one in await records.load(self.resource)
            if one.columns["verified_at"] is not None
        }

    async def _judge(self, change: Change[NewDomain]) -> None:
        domain = _normal(change.body.domain)
        change.body = NewDomain(domain=domain)
        if change.before is not None and change.before.body.domain != domain:
            raise invalid("domain", "a proof holds for one host; delete it and add the other")
        sql = "SELECT organization_id, created_at, verified_at FROM domains WHERE domain = ?"
        for row in await change.transaction.fetch_all(sql, (domain,)):
            is_old = row["verified_at"] is None and row["created_at"] < time.time() - self._claim_s
            if row["organization_id"] != change.caller.organization_id and not is_old:
                raise Refused("domain: this domain is taken.", status=409, param="domain")
        if change.before is None:
            change.columns["token"] = secrets.token_urlsafe(24)

    async def _verify(self, call: ActionCall) -> dict[str, str]:
        record = call.record
        assert record is not None
        domain, token = record.body.domain, record.columns["token"]
        if record.columns["verified_at"] is None:
            found = await self._look_up(f"{_CHALLENGE}.{domain}")
            if token not in found:
                seen = f"it has {len(found)} other value(s)" if found else "there is none"
                raise Refused(
                    f"The TXT record {_CHALLENGE}.{domain} does not hold {token}: {seen}. "
                    "A new record can take minutes to be seen.",
                    status=409,
                    code="conflict",
                )
            await self._claim(call, record, domain)
        return {"status": "verified"}

    async def _claim(self, call: ActionCall, record: Record[NewDomain], domain: str) -> None:
        sql = "SELECT 1 AS found FROM domains WHERE domain = ? AND verified_at IS NOT NULL AND id <> ?"
        columns = {"verified_at": int(time.time())}
        async with call.records.storage.transaction() as transaction:  # of two at once the first has it
            if await transaction.fetch_one(sql, (domain, record.id)):
                raise Refused("This domain was proved by another organisation.", status=409)
            await call.records.write_columns(
                self.resource, record, columns, call.caller, "verify", within=transaction
            )

    async def _look_up(self, name: str) -> set[str]:
        try:
            resolver = dns.asyncresolver.Resolver(configure=not self._nameservers)
            if self._nameservers:
                resolver.nameservers = list(self._nameservers)
                resolver.nameserver_ports = dict(self._nameservers)
            answer = await resolver.resolve(name, "TXT", lifetime=_LOOKUP_S, raise_on_no_answer=False)
        except dns.exception.DNSException:
            return set()
        return {b"".join(one.strings).decode("utf-8", "replace") for one in answer.rrset or ()}


async def _show(record: Record[NewDomain]) -> Mapping[str, Any]:
    at = record.columns["verified_at"]
    return {
        "status": "pending" if at is None else "verified",
        "verifiedAt": None if at is None else datetime.fromtimestamp(at, UTC),
        "verificationRecord": {
            "name": f"{_CHALLENGE}.{record.body.domain}",
            "type": "TXT",
            "value": record.columns["token"],
        },
    }


def _read_nameservers(texts: tuple[str, ...]) -> Mapping[str, int]:
    """Map addresses to ports. Raises ConfigError."""
    found = {}
    for text in texts:
        host, _, port = text.rpartition(":") if text.count(":") == 1 else (text, "", str(_DNS_PORT))
        try:
            found[str(ipaddress.ip_address(host))] = int(port)
        except ValueError:
            raise ConfigError(
                f'[plugin.access]: nameservers: {text!r} is not "192.0.2.53" or "192.0.2.53:5353"'
            ) from None
    return found


def _normal(text: str) -> str:
    try:
        domain = text.strip().rstrip(".").encode("idna").decode().lower()
    except UnicodeError:
        raise invalid("domain", "is not a host name") from None
    labels = domain.split(".")
    if len(labels) < 2 or not all(map(_LABEL.fullmatch, labels)) or labels[-1].isdigit():
        raise invalid("domain", 'must be a host name such as "ai.example.com", without scheme, port or path')
    return domain
