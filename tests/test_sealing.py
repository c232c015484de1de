"""What must be read again is sealed, and opens in its own place only."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raven_proxy.sealing import SealBroken, Sealer


def test_a_sealed_value_opens_in_its_place_only() -> None:
    """Nor with another secret; a former one still opens it."""
    old, new = Sealer(b"1" * 32), Sealer(b"2" * 32, [b"1" * 32])
    sealed = old.seal("sk-something-long", "providers/prov_1/api_key")
    assert b"something" not in sealed
    assert new.open(sealed, "providers/prov_1/api_key") == "sk-something-long"
    for sealer, place in ((old, "providers/prov_2/api_key"), (Sealer(b"3" * 32), "providers/prov_1/api_key")):
        with pytest.raises(SealBroken):
            sealer.open(sealed, place)


@given(st.text(min_size=1))
def test_what_was_sealed_comes_back(text: str) -> None:
    """Whatever it is; and its hint is its end, or nothing where that would say too much."""
    text = text.encode("utf-8", "replace").decode()
    sealed = Sealer(b"1" * 32).seal(text, "here")
    assert Sealer(b"1" * 32).open(sealed, "here") == text
    assert Sealer.hint(sealed) == "…" + (text[-4:] if len(text) >= 12 else "")


def test_a_byte_that_was_changed_is_noticed() -> None:
    """In the head as in the rest."""
    sealed = Sealer(b"1" * 32).seal("sk-something-long", "here")
    for place in (2, len(sealed) - 1):
        broken = bytearray(sealed)
        broken[place] ^= 1
        with pytest.raises(SealBroken):
            Sealer(b"1" * 32).open(bytes(broken), "here")


def test_what_a_former_secret_sealed_is_sealed_anew() -> None:
    """Once, in its own place; what no secret opens is left alone."""
    former, sealer = Sealer(b"1" * 32), Sealer(b"2" * 32, [b"1" * 32])
    sealed = former.seal("sk-something-long", "here")
    renewed = sealer.renew(sealed, "here")
    assert renewed is not None
    assert Sealer(b"2" * 32).open(renewed, "here") == "sk-something-long"
    assert sealer.renew(renewed, "here") is None
    assert sealer.renew(sealed, "elsewhere") is None
    assert (sealer.has_former, former.has_former) == (True, False)
