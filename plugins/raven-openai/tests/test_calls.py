"""Bodies are judged strictly and narrowly: any bytes give a call or InvalidRequest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from raven_openai.calls import StreamCall, read_chat, read_completion, read_embeddings

from raven_proxy import splice
from raven_proxy.errors import InvalidRequest
from raven_proxy.faces import Call

HELLO = b'"messages":[{"role":"user","content":"Hi"}]'
READERS = (read_chat, read_completion, read_embeddings)


def test_a_chat_call_holds_what_the_gateway_needs() -> None:
    body = (
        b'{"model":"m",'
        + HELLO
        + b',"stream":true,"max_tokens":5,"n":2,"stream_options":{"include_usage":true}}'
    )
    call = read_chat(body)
    assert call == StreamCall("m", True, 5, splice.scan(body), True, 2)


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        (b"", None),
        (b',"max_tokens":5', 5),
        (b',"max_completion_tokens":7', 7),
        (b',"max_tokens":9,"max_completion_tokens":7', 9),
        (b',"max_tokens":0', 0),
        (b',"max_tokens":null', None),
    ],
)
def test_the_output_limit_is_the_larger_of_its_two_names(limits: bytes, expected: int | None) -> None:
    assert read_chat(b'{"model":"m",' + HELLO + limits + b"}").max_output_tokens == expected


def test_nulls_are_as_good_as_absence() -> None:
    call = read_chat(b'{"model":"m",' + HELLO + b',"stream":null,"stream_options":null,"n":null}')
    assert (call.stream, call.include_usage, call.choices) == (False, False, 1)


def test_unknown_fields_are_not_judged() -> None:
    odd = b',"temperature":"hot","tools":7,"x":{"a":[1e400,"\\u0000"]},"api_base":"http://evil"}'
    assert read_chat(b'{"model":"m",' + HELLO + odd).model == "m"


def test_every_role_and_content_shape_is_known() -> None:
    roles = ("system", "developer", "user", "assistant", "tool", "function")
    messages: list[dict[str, Any]] = [{"role": role, "content": "x"} for role in roles]
    messages += [
        {"role": "assistant"},
        {"role": "assistant", "content": None},
        {"role": "user", "content": []},
    ]
    read_chat(msgspec.json.encode({"model": "m", "messages": messages}))


@pytest.mark.parametrize("prompt", ["text", ["a", "b"], [1, 2], [[1], [2]], None])
def test_completions_take_every_shape_of_prompt(prompt: Any) -> None:
    call = read_completion(msgspec.json.encode({"model": "m", "prompt": prompt, "max_tokens": 3}))
    assert call.max_output_tokens == 3


@pytest.mark.parametrize("text", ["text", ["a", "b"], [1, 2], [[1], [2]]])
def test_embeddings_take_every_shape_of_input(text: Any) -> None:
    call = read_embeddings(msgspec.json.encode({"model": "m", "input": text}))
    assert (call.model, call.stream) == ("m", False)


def chat(**fields: Any) -> bytes:
    return msgspec.json.encode({"model": "m", "messages": [{"role": "user", "content": "Hi"}]} | fields)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"{" + HELLO + b"}", "model"),
        (chat(model=None), "model"),
        (chat(model=""), "model"),
        (chat(model=7), "model"),
        (chat(model="x" * 513), "model"),
        (chat(model="a\r\nx-evil: 1"), "model"),
        (b'{"model":"m"}', "messages"),
        (chat(messages={}), "messages"),
        (chat(messages=[]), "messages"),
        (chat(messages="Hi"), "messages"),
        (chat(messages=[{"role": "user", "content": "Hi"}] * 2049), "messages"),
        (chat(messages=["Hi"]), "messages[0]"),
        (chat(messages=[{"content": "Hi"}]), "messages[0].role"),
        (chat(messages=[{"role": "user"}] * 3 + [{"role": "god"}]), "messages[3].role"),
        (chat(messages=[{"role": "user", "content": {}}]), "messages[0].content"),
        (chat(messages=[{"role": "user", "content": 1}]), "messages[0].content"),
        (chat(stream="true"), "stream"),
        (chat(stream=1), "stream"),
        (chat(stream_options=True), "stream_options"),
        (chat(stream_options={"include_usage": 1}), "stream_options.include_usage"),
        (chat(max_tokens=-1), "max_tokens"),
        (chat(max_tokens=1.5), "max_tokens"),
        (chat(max_tokens="5"), "max_tokens"),
        (chat(max_tokens=10**30), "max_tokens"),
        (chat(max_completion_tokens=[]), "max_completion_tokens"),
        (chat(n=0), "n"),
    ],
)
def test_t43_wrong_fields_are_named_with_a_remedy(body: bytes, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_chat(body)
    assert caught.value.param == param
    assert caught.value.message.startswith(f"{param}: ")
    assert caught.value.message.endswith(".")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b'{"model":"m"}', "input"),
        (b'{"model":"m","input":""}', "input"),
        (b'{"model":"m","input":[]}', "input"),
        (b'{"model":"m","input":null}', "input"),
        (b'{"model":"m","input":{}}', "input"),
        (b'{"input":"x"}', "model"),
    ],
)
def test_t43_embeddings_name_the_wrong_field(body: bytes, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_embeddings(body)
    assert caught.value.param == param


NESTED = b'{"model":"m","messages":' + b"[" * 100_000 + b"]" * 100_000 + b"}"


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"x"',
        b"NaN",
        b'{"model":NaN}',
        b'{"model":Infinity}',
        b'{"model":"\\ud800"}',
        b'{"model":"\xff"}',
        '{"model":"m"}'.encode("utf-16"),
        b'\xef\xbb\xbf{"model":"m"}',
        b'{"model":"m"} x',
        b'{"model":"m","max_tokens":1e400,"input":"x","messages":[{"role":"user"}]}x',
        NESTED,
        b"[" * 100_000,
    ],
)
def test_t43_what_is_not_a_json_object_is_refused(read: Any, body: bytes) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read(body)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("name", "again"),
    [
        ("model", b'"model":"dear"'),
        ("model", b'"model":"cheap"'),
        ("model", b'"mod\\u0065l":"dear"'),
        ("stream", b'"stream":true'),
        ("max_tokens", b'"max_tokens":9'),
        ("messages", HELLO),
    ],
)
def test_t44_repeated_keys_are_refused(name: str, again: bytes) -> None:
    body = b'{"model":"cheap","stream":false,"max_tokens":1,' + HELLO + b"," + again + b"}"
    with pytest.raises(InvalidRequest) as caught:
        read_chat(body)
    assert caught.value.param == name


NAMES = st.sampled_from(
    [
        "model",
        "messages",
        "stream",
        "stream_options",
        "max_tokens",
        "n",
        "input",
        "prompt",
        "role",
        "content",
        "include_usage",
    ]
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("user")
TREES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=6),
    max_leaves=20,
)


def judge(read: Callable[[bytes], Call], body: bytes) -> Call | InvalidRequest:
    try:
        return read(body)
    except InvalidRequest as error:
        return error


@pytest.mark.parametrize("read", READERS)
@given(
    body=st.binary(max_size=200)
    | TREES.map(msgspec.json.encode)
    | TREES.map(lambda t: msgspec.json.encode(t)[:-1])
)
def test_any_bytes_give_a_call_or_a_refusal(read: Callable[[bytes], Call], body: bytes) -> None:
    found = judge(read, body)
    if isinstance(found, InvalidRequest):
        assert found.status == 400
    else:
        assert found.model
        assert found.members == splice.scan(body)


BODIES = st.fixed_dictionaries(
    {"model": st.just("m"), "messages": st.just([{"role": "user", "content": "Hi"}])},
    optional=dict.fromkeys(("stream", "stream_options", "max_tokens", "max_completion_tokens", "n"), TREES),
)


@given(body=BODIES.map(msgspec.json.encode))
def test_nearly_good_bodies_give_a_call_or_name_the_field(body: bytes) -> None:
    found = judge(read_chat, body)
    if isinstance(found, InvalidRequest):
        assert found.param
        assert found.param.split(".")[0].split("[")[0] in splice.scan(body)
    else:
        assert found.max_output_tokens is None or found.max_output_tokens >= 0
