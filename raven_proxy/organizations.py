"""What the gateway knows of organisations: a table in memory that one plugin fills.

Without such a plugin there is one organisation, `org_default`, and nothing bounds it. Who belongs to an
organisation and how it is changed is that plugin's affair; others read here what it is bound to.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

__all__ = ["DEFAULT", "Organization", "Organizations"]

DEFAULT = "org_default"


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


class Organizations:
    """The organisations as a request sees them; replaced as a whole when one changes."""

    def __init__(self) -> None:
        self._known: Mapping[str, Organization] = {DEFAULT: Organization(id=DEFAULT, name="Default")}

    def get(self, organization_id: str) -> Organization | None:
        """Give an organisation; None if there is no such one."""
        return self._known.get(organization_id)

    def replace(self, known: Mapping[str, Organization]) -> None:
        """Put these in the place of the ones before. `org_default` always is."""
        self._known = {DEFAULT: Organization(id=DEFAULT, name="Default"), **known}
