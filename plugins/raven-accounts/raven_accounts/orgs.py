"""`/orgs`: organisations and what they are bound to.

Each is a row of its own organisation. Who runs the gateway makes them and sees them all; others see those
they belong to, and change the one that they act for.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Annotated

import msgspec
from msgspec import Meta

from raven_proxy import Forbidden, NotFound, Refused
from raven_proxy.organizations import DEFAULT
from raven_proxy.resources import Caller, Change, Record, Resource, invalid
from raven_proxy.storage import Transaction

from .sessions import end_all

__all__ = ["NAME", "NewOrganization", "make_resource"]

NAME = "orgs"
_MAX_ENTRIES = 1000
Region = Annotated[str, Meta(min_length=1, max_length=64)]
Network = Annotated[str, Meta(min_length=1, max_length=64)]


class DataResidency(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """Where data may go: words as in an upstream's `region`, null for anywhere.

    With `enforce_strictly` an upstream without a region is refused too.
    """

    allowed_regions: tuple[Region, ...] | None = None
    enforce_strictly: bool = False


class NewOrganization(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """The body of `POST /orgs`. `ip_allowlist` are networks in CIDR form, null for any.

    `allow_unpriced` lets models without a known price pass; null leaves it to the config.
    """

    name: Annotated[str, Meta(min_length=1, max_length=200)]
    ip_allowlist: tuple[Network, ...] | None = None
    data_residency: DataResidency = DataResidency()
    allow_unpriced: bool | None = None
    is_active: bool = True


def make_resource(visible: Callable[[Caller], tuple[str, ...] | None]) -> Resource[NewOrganization]:
    """Declare `/orgs`; `visible` says which of them a caller may know of."""
    return Resource(
        name=NAME, singular="organisation", table="organizations", prefix="org_", body=NewOrganization,
        summary="Organisations",
        example={"name": "Team Blue", "ipAllowlist": ["127.0.0.0/8"],
                 "dataResidency": {"allowedRegions": ["eu"], "enforceStrictly": False}},
        unique=(), holds_all=True, visible=visible, check=_judge, forget=_forget,
    )  # fmt: skip


async def _judge(change: Change[NewOrganization]) -> None:
    caller, new, before = change.caller, change.body, change.before
    if before is None:
        if not caller.is_operator:
            raise Forbidden("Only who runs the gateway makes organisations.")
        change.columns["organization_id"] = change.id
    else:
        _check_own(caller, before)
    _check_fields(new)
    if not caller.is_operator:
        assert before is not None
        if new.is_active != before.body.is_active:
            raise Forbidden("Only who runs the gateway switches an organisation on or off.", param="isActive")
        if new.allow_unpriced and not before.body.allow_unpriced:
            raise Forbidden(
                "Only who runs the gateway lets models without a price pass: nobody pays for them.",
                param="allowUnpriced",
            )
    if not new.is_active and (before is None or before.body.is_active):
        await _switch_off(change)


async def _switch_off(change: Change[NewOrganization]) -> None:
    """End the sessions of everybody in it; its keys stop, since others look at `is_active`."""
    if change.id == DEFAULT:
        raise Refused(
            "isActive: org_default is who runs the gateway; it stays on.", status=409, param="isActive"
        )
    sql = "SELECT user_id FROM members WHERE organization_id = ?"
    for row in await change.transaction.fetch_all(sql, (change.id,)):
        await end_all(change.transaction, row["user_id"])


async def _forget(caller: Caller, record: Record[NewOrganization], transaction: Transaction) -> None:
    del transaction
    _check_own(caller, record)
    if caller.role != "owner":
        raise Forbidden("Only an owner, or who runs the gateway, deletes an organisation.")
    if record.id == DEFAULT:
        raise Refused("org_default is who runs the gateway; it cannot be deleted.", status=409)


def _check_own(caller: Caller, record: Record[NewOrganization]) -> None:
    """Refuse who sees an organisation but does not act for it: their role is another one's."""
    if not caller.is_operator and record.id != caller.organization_id:
        raise NotFound("There is no such organisation.")


def _check_fields(new: NewOrganization) -> None:
    if not new.name.strip() or not new.name.isprintable():
        raise invalid("name", "must have 1 to 200 printable characters")
    if new.ip_allowlist is not None:
        if not 0 < len(new.ip_allowlist) <= _MAX_ENTRIES:
            raise invalid("ipAllowlist", f"must be null for no limit, or have 1 to {_MAX_ENTRIES} entries")
        for network in new.ip_allowlist:
            try:
                ipaddress.ip_network(network)
            except ValueError as error:
                raise invalid("ipAllowlist", str(error)) from None
    regions = new.data_residency.allowed_regions
    if regions is not None and not 0 < len(regions) <= _MAX_ENTRIES:
        raise invalid(
            "dataResidency.allowedRegions", f"must be null for anywhere, or have 1 to {_MAX_ENTRIES} entries"
        )
    for region in regions or ():
        if not region.isprintable() or region != region.strip():
            raise invalid("dataResidency.allowedRegions", f"{region!r} is no region's name")
