"""Pages of a list: every item once, in either direction, and no surprise for a bad cursor."""

from __future__ import annotations

import pytest

from raven_proxy.errors import InvalidRequest
from raven_proxy.paging import make_page

ITEMS = [{"id": name} for name in "abcde"]


def _ids(**query: str) -> tuple[str, bool]:
    page = make_page(ITEMS, query)
    ids = "".join(item["id"] for item in page["data"])
    assert (page["first_id"], page["last_id"]) == ((ids[0], ids[-1]) if ids else (None, None))
    return ids, page["has_more"]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, ("abcde", False)),
        ({"limit": "2"}, ("ab", True)),
        ({"limit": "5"}, ("abcde", False)),
        ({"limit": "2", "after": "b"}, ("cd", True)),
        ({"limit": "2", "after": "d"}, ("e", False)),
        ({"after": "e"}, ("", False)),
        ({"limit": "2", "before": "d"}, ("bc", True)),
        ({"limit": "2", "before": "b"}, ("a", False)),
        ({"before": "a"}, ("", False)),
        ({"after": "a", "before": "e", "limit": "2"}, ("bc", True)),
        ({"after": "d", "before": "b"}, ("", False)),
    ],
)
def test_a_page(query: dict[str, str], expected: tuple[str, bool]) -> None:
    """`after` goes on where the caller was, `before` ends there, and `has_more` says if there is more."""
    assert _ids(**query) == expected


@pytest.mark.parametrize("limit", ["0", "-1", "1001", "ten", "", "1.5", "٣", "9" * 5000])
def test_a_bad_limit(limit: str) -> None:
    """A limit that is no whole number from 1 to 1000 is refused by name."""
    with pytest.raises(InvalidRequest) as caught:
        make_page(ITEMS, {"limit": limit})
    assert caught.value.param == "limit"


@pytest.mark.parametrize("param", ["after", "before"])
def test_an_unknown_cursor(param: str) -> None:
    """A cursor that is not in the list is refused, not taken for the beginning."""
    with pytest.raises(InvalidRequest) as caught:
        make_page(ITEMS, {param: "z" * 5000})
    assert caught.value.param == param
    assert len(caught.value.message) < 200
