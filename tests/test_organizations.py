"""The table of organisations that plugins read."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest

from raven_proxy import Forbidden, NotFound, Principal
from raven_proxy.organizations import DEFAULT, Member, Organization, Organizations


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


def test_one_that_can_be_acted_for_is_there_and_on() -> None:
    """404 for one that is not, 403 for one that is switched off."""
    known = Organizations()
    known.replace({"org_off": Organization(id="org_off", is_active=False)})
    assert known.require(DEFAULT).id == DEFAULT
    with pytest.raises(NotFound):
        known.require("org_none")
    with pytest.raises(Forbidden):
        known.require("org_off")


def key(member_id: str | None, organization_id: str = "org_a", role: str = "admin") -> Principal:
    return Principal(
        key_id="key_1", organization_id=organization_id, role=role, attributes={"member_id": member_id}
    )


def test_a_key_is_bound_to_its_member() -> None:
    """Their multiplier, at most their role; nobody's key is as it was."""
    known = Organizations()
    assert known.bind(key("mem_any")) == key("mem_any")  # nobody keeps members
    members = [
        Member(id="mem_1", organization_id="org_a", role="viewer", rate_multiplier=Decimal("1.5")),
        Member(id="mem_2", organization_id="org_a", role="owner"),
        Member(id="mem_off", organization_id="org_a", role="owner", is_active=False),
    ]
    known.replace({"org_a": Organization(id="org_a")}, {member.id: member for member in members})
    assert known.bind(key(None)) == key(None)
    for member_id, role, multiplier in (("mem_1", "viewer", "1.5"), ("mem_2", "admin", "1")):
        bound = known.bind(key(member_id))
        assert bound is not None
        assert (bound.role, bound.attributes["rate_multiplier"]) == (role, Decimal(multiplier))


def test_a_bound_key_is_kept_until_somebody_changes() -> None:
    """And as itself only: a key that was changed meanwhile is bound anew."""
    known = Organizations()
    member = Member(id="mem_1", organization_id="org_a", role="viewer")
    known.replace({"org_a": Organization(id="org_a")}, {"mem_1": member})
    given = key("mem_1")
    first = known.bind(given)
    assert first is not None
    assert known.bind(given) is first
    assert known.bind(key("mem_1")) is not first
    known.replace(
        {"org_a": Organization(id="org_a")}, {"mem_1": msgspec.structs.replace(member, role="owner")}
    )
    changed = known.bind(given)
    assert changed is not None
    assert changed.role == "admin"
    known.replace({"org_a": Organization(id="org_a", is_active=False)}, {"mem_1": member})
    with pytest.raises(Forbidden):
        known.bind(given)


@pytest.mark.parametrize(
    "gone", [key("mem_none"), key("mem_off"), key("mem_1", organization_id="org_b")], ids=repr
)
def test_the_key_of_somebody_who_is_gone_is_nobodys(gone: Principal) -> None:
    """Removed, switched off, or of another organisation."""
    known = Organizations()
    members = {
        "mem_1": Member(id="mem_1", organization_id="org_a", role="owner"),
        "mem_off": Member(id="mem_off", organization_id="org_a", role="owner", is_active=False),
    }
    known.replace({name: Organization(id=name) for name in ("org_a", "org_b")}, members)
    assert known.bind(gone) is None


def test_the_key_of_an_organisation_that_is_gone_is_nobodys() -> None:
    """403 while it is switched off; without members' keeper every organisation's key is good."""
    known = Organizations()
    known.replace({"org_off": Organization(id="org_off", is_active=False)}, {})
    assert known.bind(key(None, "org_none")) is None
    with pytest.raises(Forbidden):
        known.bind(key(None, "org_off"))
    known.replace({})
    assert known.bind(key(None, "org_none")) is not None
