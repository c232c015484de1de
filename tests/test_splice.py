"""The splice changes one member and leaves every other byte alone; ambiguous bodies are refused."""

from __future__ import annotations

import json  # noqa: TID251 - another encoder, that writes in other ways
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raven_proxy.errors import InvalidRequest
from raven_proxy.splice import put, remove, scan

NAMES = st.sampled_from(["a", "b", "model", "stream", "ü", 'q"uote', "back\\slash", "", "🙂"])
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.text(max_size=5)
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
SPACE = st.text(" \t\r\n", max_size=2)


@st.composite
def bodies(draw: st.DrawFn) -> tuple[bytes, dict[str, bytes]]:
    """A JSON object written in any legal way, and the text of each member's value."""
    names = draw(st.lists(NAMES, unique=True, max_size=5))
    spaced = draw(st.booleans())

    def space() -> bytes:
        return draw(SPACE).encode() if spaced else b""

    texts: dict[str, bytes] = {}
    members: list[bytes] = []
    for name in names:
        key = msgspec.json.encode(name)
        if draw(st.booleans()):  # the same name, escaped letter by letter
            units = name.encode("utf-16-be")
            key = (
                b'"'
                + b"".join(b"\\u%04x" % (units[i] << 8 | units[i + 1]) for i in range(0, len(units), 2))
                + b'"'
            )
        texts[name] = msgspec.json.encode(draw(VALUES))
        members.append(space() + key + space() + b":" + space() + texts[name] + space())
    return space() + b"{" + (b",".join(members) or space()) + b"}" + space(), texts


@given(bodies())
def test_spans_are_where_the_values_stand(written: tuple[bytes, dict[str, bytes]]) -> None:
    body, texts = written
    assert {name: body[start:end] for name, (start, end) in scan(body).items()} == texts


@given(bodies(), NAMES, VALUES)
def test_put_changes_one_value_and_no_other_byte(
    written: tuple[bytes, dict[str, bytes]], name: str, value: Any
) -> None:
    body, texts = written
    spans = scan(body)
    changed = put(body, spans, name, value)
    assert msgspec.json.decode(changed) == msgspec.json.decode(body) | {name: value}
    if name in texts:
        start, end = spans[name]
        assert changed[:start] == body[:start]
        assert changed[start:].removeprefix(msgspec.json.encode(value)) == body[end:]
    else:
        close = body.rindex(b"}")
        assert changed[:close] == body[:close]
        assert changed.endswith(body[close:])


@given(bodies(), NAMES)
def test_remove_takes_one_member_out_and_keeps_the_others_bytes(
    written: tuple[bytes, dict[str, bytes]], name: str
) -> None:
    body, texts = written
    left = remove(body, scan(body), name)
    expected = {key: text for key, text in texts.items() if key != name}
    assert {key: left[start:end] for key, (start, end) in scan(left).items()} == expected
    if name not in texts:
        assert left == body


@given(bodies(), st.data())
def test_a_repeated_key_is_refused_wherever_it_stands(
    written: tuple[bytes, dict[str, bytes]], data: st.DataObject
) -> None:
    body, texts = written
    if texts:
        name = data.draw(st.sampled_from(sorted(texts)))
        again = b"," + msgspec.json.encode(name) + b":" + msgspec.json.encode(data.draw(VALUES))
        close = body.rindex(b"}")
        with pytest.raises(InvalidRequest):
            scan(body[:close] + again + body[close:])


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"cheap","model":"dear"}',
        b'{"model":"same","model":"same"}',
        b'{"max_tokens":12,"max_tokens":1}',  # the last value's text begins like the first's
        b'{"max_tokens":12,"model":"cheap","max_tokens":1,"model":"dear"}',
        b'{"n":1.5,"n":1}',
        b'{"m\\u006fdel":"cheap","model":"dear"}',
    ],
)
def test_no_two_readers_can_see_different_values(body: bytes) -> None:
    with pytest.raises(InvalidRequest, match="more than once"):
        scan(body)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "empty"),
        (b"{", "unexpected end"),
        (b"[]", "JSON object"),
        (b"null", "JSON object"),
        (b'"x"', "JSON object"),
        (b'{"a":1}x', "not valid JSON at byte"),
        (b'{"a":NaN}', "not valid JSON"),
        (b'{"a":Infinity}', "not valid JSON"),
        (b'{"a":{"b":"\\ud800"}}', "not valid JSON"),
        (b'{"a":"\xff"}', "UTF-8 at byte 6"),
        ('{"a":1}'.encode("utf-16"), "UTF-8"),
        (b'\xef\xbb\xbf{"a":1}', "byte order mark"),
        (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
    ],
)
def test_a_body_that_cannot_be_judged_is_refused_with_its_place(body: bytes, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words) as refusal:
        scan(body)
    assert refusal.value.status == 400


@given(st.binary(max_size=40))
def test_any_bytes_are_judged_or_refused(body: bytes) -> None:
    try:
        spans = scan(body)
    except InvalidRequest:
        return
    assert set(spans) == set(msgspec.json.decode(body))


# -- what is nested -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b'{"messages":[{"role":"user","content":"nice","content":"evil"}]}',
        b'{"messages": [ {"role": "user", "content": "nice", "content": "evil"} ]}',
        b'{"messages":[{"content":"nice","c\\u006fntent":"evil"}]}',
        b'{"a":{"b":{"c":[1,{"x":1,"x":1}]}}}',
        # As long as it would be without: what a comparison of lengths would take for the same.
        b'{"a":[{"x":1,"x":2},1e9,1e9]}',
    ],
)
def test_a_nested_key_that_is_repeated_is_refused(body: bytes) -> None:
    """T44: what is judged is what is sent, at every depth."""
    with pytest.raises(InvalidRequest, match="appears more than once in one object") as caught:
        scan(body)
    assert caught.value.param in {"messages", "a"}


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":[{"x":1},{"x":1}]}',
        b'{ "a" : [ { "x" : 1 } , { "x" : { "x" : [ ] } } ] }',
        b'{"a":[1e999,-0.0,1E5,123456789012345678901234567890]}',
        b'{"a":{"n":%s}}' % (b"9" * 6000),
        '{"a":["\\u00e9","é","\\/","\\ud83d\\ude00"]}'.encode(),
        b'{"a":[],"b":{}}',
    ],
)
def test_what_is_written_oddly_is_not_refused(body: bytes) -> None:
    """White space, escapes and numbers of any form are the client's affair."""
    assert "a" in scan(body)


@given(VALUES)
def test_no_document_of_a_real_encoder_is_refused(value: Any) -> None:
    """Whichever way it writes."""
    for text in (json.dumps({"a": value}), json.dumps({"a": value}, ensure_ascii=False, indent=1)):
        assert "a" in scan(text.encode())


@pytest.mark.parametrize(
    "body",
    [
        b'{"tools":[' + b",".join([b"{}"] * 150_000) + b"]}",
        b"{" + b",".join(b'"k%d":1' % number for number in range(300_000)) + b"}",
    ],
)
def test_a_body_of_countless_pieces_is_refused(body: bytes) -> None:
    """I6: a judgement that takes seconds would hold everybody up."""
    with pytest.raises(InvalidRequest, match="The body holds more than"):
        scan(body)
