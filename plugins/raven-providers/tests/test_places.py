"""Base URLs, judged by their text alone: whatever it is."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from raven_providers.account import make_slug
from raven_providers.places import find_origin, judge_url

PIECES = st.sampled_from(
    ["https://", "http://", "//", "/", ":", "@", "#", "?", "[", "]", "::1", "127.0.0.1", "a.example.com",
     "\\", "%2f", "443", "\t", " ", "é", "..", "-", "\x00"]
)  # fmt: skip


@given(st.one_of(st.text(), st.lists(PIECES).map("".join)))
@example("https://[")
@example("https://a:99999")
def test_a_url_is_judged_and_never_breaks_the_judge(url: str) -> None:
    """What passes is https, with a host and without a user, query or fragment."""
    find_origin(url)
    judge_url(url, allow_private=True)
    if judge_url(url, allow_private=False) is None:
        parts = urlsplit(url)
        assert parts.scheme == "https"
        assert parts.hostname
        assert parts.hostname not in {"::1", "127.0.0.1"}
        assert not any((parts.username, parts.query, parts.fragment))


@pytest.mark.parametrize(
    ("name", "slug"),
    [("Production OpenAI", "production-openai"), ("Zürich", "zurich"), ("a/b:c", "a-b-c"), ("v1.2", "v1.2"),
     ("東京", "prov_1"), ("--", "prov_1"), ("a_b", "a-b")],
)  # fmt: skip
def test_a_name_becomes_what_requests_write(name: str, slug: str) -> None:
    """Never with an underscore: ids have one, and no slug is another's id."""
    assert make_slug(name, "prov_1") == slug


@given(st.text(max_size=64))
def test_every_slug_stands_in_a_path_and_before_a_slash(name: str) -> None:
    slug = make_slug(name, "prov_1")
    assert slug == "prov_1" or (slug.isascii() and set(slug) <= set("abcdefghijklmnopqrstuvwxyz0123456789.-"))
    assert 0 < len(slug) <= 64
