"""Data residency: which upstreams an organisation's data may go to.

An upstream says its `region` in the config or by the management API. A region that nobody named, and
"any", can be anywhere: they are allowed unless the organisation enforces strictly.
"""

from __future__ import annotations

from raven_proxy import Candidate, Forbidden
from raven_proxy.organizations import Organization

__all__ = ["keep_allowed", "violation"]


def keep_allowed(candidates: tuple[Candidate, ...], organization: Organization) -> tuple[Candidate, ...]:
    """Leave out the places that are not allowed. Raises Forbidden if none is left."""
    kept = tuple(one for one in candidates if organization.allows(one.upstream.region))
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
