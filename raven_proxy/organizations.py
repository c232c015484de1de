"""What the gateway knows of organisations and their members: a table in memory that one plugin fills.

Without such a plugin there is one organisation, `org_default`, and nothing bounds it. How people sign in
and who changes what is that plugin's affair; others read here what an organisation or a key is bound to.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING

import msgspec

from .errors import Forbidden, NotFound
from .resources.resource import outranks

if TYPE_CHECKING:
    from .exchange import Principal

__all__ = ["DEFAULT", "Member", "Organization", "Organizations"]

DEFAULT = "org_default"
_ANYWHERE = "any"
_MOST_BOUND = 8192


class Organization(msgspec.Struct, frozen=True, kw_only=True):
    """One organisation and its settings.

    `ip_allowlist` are networks in CIDR form, `allowed_regions` words as in an upstream's `region`; None
    means any. With `enforce_strictly` an upstream without a region is refused too. `allow_unpriced` lets
    models without a known price pass; None leaves it to the config.
    """

    id: str
    name: str = ""
    is_active: bool = True
    ip_allowlist: tuple[str, ...] | None = None
    allowed_regions: tuple[str, ...] | None = None
    enforce_strictly: bool = False
    allow_unpriced: bool | None = None

    def allows(self, region: str | None) -> bool:
        """Say whether its data may go to a region; "any", and one that nobody named, can be anywhere."""
        if self.allowed_regions is None:
            return True
        region = (region or _ANYWHERE).lower()
        if region in (one.lower() for one in self.allowed_regions):
            return True
        return region == _ANYWHERE and not self.enforce_strictly


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """One person in one organisation, as their keys are bound to them.

    What their requests cost is multiplied by `rate_multiplier`.
    """

    id: str
    organization_id: str
    role: str
    is_active: bool = True
    rate_multiplier: Decimal = Decimal(1)


class Organizations:
    """The organisations and members as a request sees them; replaced as a whole when one changes."""

    def __init__(self) -> None:
        self._known: Mapping[str, Organization] = {DEFAULT: Organization(id=DEFAULT, name="Default")}
        self._members: Mapping[str, Member] | None = None
        self._bound: dict[str, tuple[Principal, Principal]] = {}  # by key: as it was given, and as it stands

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._known)

    def get(self, organization_id: str) -> Organization | None:
        """Give an organisation; None if there is no such one."""
        return self._known.get(organization_id)

    def require(self, organization_id: str) -> Organization:
        """Give an organisation that can be acted for. Raises NotFound; Forbidden if it is off."""
        organization = self._known.get(organization_id)
        if organization is None:
            raise NotFound("There is no such organisation.")
        if not organization.is_active:
            raise Forbidden("This organisation is switched off.")
        return organization

    def replace(self, known: Mapping[str, Organization], members: Mapping[str, Member] | None = None) -> None:
        """Put these in the place of the ones before. `org_default` always is.

        `members` None means that nobody keeps members: ids of some are taken as they are.
        """
        self._known = {DEFAULT: Organization(id=DEFAULT, name="Default"), **known}
        self._members = members
        self._bound = {}

    def bind(self, principal: Principal) -> Principal | None:
        """Give a key's principal as it stands now: None if its organisation or member is gone.

        A member's key has the lesser of both roles, and `attributes["rate_multiplier"]`; one that is nobody's
        stays as it is. The same principal gives the same one until something changes. Raises Forbidden for an
        organisation that is switched off.
        """
        if self._members is None:
            return principal
        bound = self._bound.get(principal.key_id)
        if bound is not None and bound[0] is principal:
            return bound[1]
        if principal.organization_id not in self._known:
            return None
        self.require(principal.organization_id)
        member_id = principal.attributes.get("member_id")
        if member_id is None:
            return principal
        member = self._members.get(member_id)
        if member is None or not member.is_active or member.organization_id != principal.organization_id:
            return None
        found = msgspec.structs.replace(
            principal,
            role=member.role if outranks(principal.role, member.role) else principal.role,
            attributes={**principal.attributes, "rate_multiplier": member.rate_multiplier},
        )
        if len(self._bound) >= _MOST_BOUND:
            self._bound.clear()
        self._bound[principal.key_id] = (principal, found)
        return found
