"""The table of organisations that plugins read."""

from __future__ import annotations

from raven_proxy.organizations import DEFAULT, Organization, Organizations


def test_there_is_always_the_default_one() -> None:
    """Also where a plugin put others in its place; what that plugin says of it holds."""
    known = Organizations()
    assert known.get(DEFAULT) == Organization(id=DEFAULT, name="Default")
    assert known.get("org_b") is None
    known.replace({"org_b": Organization(id="org_b", name="B")})
    assert known.get(DEFAULT) is not None
    assert known.get("org_b") == Organization(id="org_b", name="B")
    known.replace({DEFAULT: Organization(id=DEFAULT, name="Ours")})
    assert known.get("org_b") is None
    assert known.get(DEFAULT) == Organization(id=DEFAULT, name="Ours")
