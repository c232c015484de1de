"""Data residency: which upstreams an organisation's data may go to.

An upstream says its `region` in the config or by the management API. A region that nobody named, and
"any", can be anywhere: they are allowed unless the organisation enforces strictly.
"""

from __future__ import annotations

from raven_proxy import Candidate, Forbidden
from raven_proxy.organizations import Organization
from raven_proxy.upstream import Upstream

__all__ = ["allows", "keep_allowed", "violation"]

_ANYWHERE = "any"


def allows(organization: Organization, upstream: Upstream) -> bool:
    """Say whether an organisation's data may go to an upstream."""
    allowed = organization.allowed_regions
    if allowed is None:
        return True
    region = (upstream.region or _ANYWHERE).lower()
    if region in (one.lower() for one in allowed):
        return True
    return region == _ANYWHERE and not organization.enforce_strictly


def keep_allowed(candidates: tuple[Candidate, ...], organization: Organization) -> tuple[Candidate, ...]:
    """Leave out the places that are not allowed. Raises Forbidden if none is left."""
    kept = tuple(one for one in candidates if allows(organization, one.upstream))
    if not kept:
        raise violation(organization)
    return kept


def violation(organization: Organization) -> Forbidden:
    """Make the 403: it names what the organisation allows, not where others' upstreams are."""
    regions = ", ".join(organization.allowed_regions or ()) or "none"
    return Forbidden(
        f"No provider for this model lies in a region that your organisation allows ({regions}).",
        code="data_residency_violation",
    )
