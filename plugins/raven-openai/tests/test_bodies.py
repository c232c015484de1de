"""A request goes up byte for byte, but for the fields that must change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from raven_openai.bodies import build_body
from raven_openai.dialect import FACES
from raven_openai.presets import PRESETS, Preset

from raven_proxy.errors import InvalidRequest
from raven_proxy.exchange import Exchange

Make = Callable[..., Exchange]
ODD = (
    b' {\n\t"model" : "alias" , "messages":[{"role":"user","content":"\\u4f60\xe5\xa5\xbd"}],'
    b'"temperature":1.0e0,"unknown":{"b":1,"a":[ ]},"stream":true%s}\n'
)


def test_a_body_that_needs_no_change_is_the_same_object(make_exchange: Make) -> None:
    exchange = make_exchange(ODD % b"", model="alias")
    assert build_body(exchange, PRESETS["openai"], ask_usage=False) is exchange.body


def test_an_alias_changes_the_model_and_nothing_else(make_exchange: Make) -> None:
    exchange = make_exchange(ODD % b"", model='gpt-"4o"')
    body = build_body(exchange, PRESETS["openai"], ask_usage=False)
    assert body == (ODD % b"").replace(b'"alias"', b'"gpt-\\"4o\\""')


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (b"", b',"stream_options":{"include_usage":true}'),
        (b',"stream_options":null', b',"stream_options":{"include_usage":true}'),
        (b',"stream_options":{}', b',"stream_options":{"include_usage":true}'),
        (b', "stream_options" : {"include_usage": false }', b', "stream_options" : {"include_usage": true }'),
        (
            b',"stream_options":{"include_obfuscation":false}',
            b',"stream_options":{"include_obfuscation":false,"include_usage":true}',
        ),
    ],
)
@pytest.mark.parametrize("model", ["alias", "another"])
def test_t29_usage_is_asked_for_by_a_splice(
    make_exchange: Make, theirs: bytes, ours: bytes, model: str
) -> None:
    exchange = make_exchange(ODD % theirs, model=model)
    body = build_body(exchange, PRESETS["openai"], ask_usage=True)
    expected = (ODD % ours).replace(b'"alias"', b'"%s"' % model.encode())
    if not theirs:  # a new member goes right before the closing brace
        assert body == expected
    assert msgspec.json.decode(body) == msgspec.json.decode(expected)
    assert body == expected


LIMITED = Preset(
    renames={"max_completion_tokens": "max_tokens", "seed": "random_seed"}, unsupported=frozenset({"user"})
)
CHAT = b'{"model":"m",%s"messages":[{"role":"user","content":"Hi"}]%s}'


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (b"", b',"max_completion_tokens":5', {"max_tokens": 5}),
        (b'"max_completion_tokens":5,', b"", {"max_tokens": 5}),
        (b'"max_completion_tokens":5,"seed":1,', b',"user":"u"', {"max_tokens": 5, "random_seed": 1}),
        (b'"max_completion_tokens":5,', b',"max_tokens":7', {"max_tokens": 7}),
        (b'"max_completion_tokens":null,', b"", {}),
        (b'"user":"u",', b',"x_user":"u"', {"x_user": "u"}),
        (b"", b',"max_tokens":7', {"max_tokens": 7}),
    ],
)
def test_parameters_are_fitted_to_the_vendor(
    make_exchange: Make, before: bytes, after: bytes, expected: dict[str, Any]
) -> None:
    exchange = make_exchange(CHAT % (before, after))
    body = build_body(exchange, LIMITED, ask_usage=False)
    assert (
        msgspec.json.decode(body)
        == {"model": "m", "messages": [{"role": "user", "content": "Hi"}]} | expected
    )


@pytest.mark.parametrize(
    ("after", "param"),
    [(b',"user":"u"', "user"), (b',"seed":1,"random_seed":2', "seed"), (b',"user":null', None)],
)
def test_strict_names_what_would_be_dropped(make_exchange: Make, after: bytes, param: str | None) -> None:
    exchange = make_exchange(CHAT % (b"", after), headers={"x-raven-strict": "true"})
    if param is None:
        assert build_body(exchange, LIMITED, ask_usage=False) == CHAT % (b"", b"")
        return
    with pytest.raises(InvalidRequest) as caught:
        build_body(exchange, LIMITED, ask_usage=False)
    assert (caught.value.code, caught.value.param) == ("unsupported_parameter", param)


def test_strict_names_every_parameter_that_would_be_dropped(make_exchange: Make) -> None:
    """One answer tells all that has to be left out."""
    after = b',"user":"u","seed":1,"random_seed":2'
    exchange = make_exchange(CHAT % (b"", after), headers={"x-raven-strict": "true"})
    with pytest.raises(InvalidRequest) as caught:
        build_body(exchange, LIMITED, ask_usage=False)
    assert caught.value.metadata == {"unsupported_parameters": ["seed", "user"]}
    assert "seed, user" in caught.value.message


def test_strict_lets_a_rename_pass(make_exchange: Make) -> None:
    exchange = make_exchange(CHAT % (b"", b',"max_completion_tokens":5'), headers={"x-raven-strict": "TRUE"})
    assert build_body(exchange, LIMITED, ask_usage=False) == CHAT % (b"", b',"max_tokens":5')


def test_the_developer_role_becomes_system_where_it_is_unknown(make_exchange: Make) -> None:
    text = b'{"role": "developer","content":"the \\"role\\": \\"developer\\" stays"}'
    body = b'{"model":"m","messages":[%s,{"role":"user","content":"developer"}],"user":"developer"}'
    exchange = make_exchange(body % text)
    assert build_body(exchange, Preset(knows_developer=False), ask_usage=False) == body % text.replace(
        b'{"role": "developer"', b'{"role": "system"'
    )
    assert build_body(exchange, Preset(), ask_usage=False) == exchange.body


def test_t49_fields_that_would_steer_other_gateways_are_plain_unknown_fields(
    make_exchange: Make, provider: Any
) -> None:
    steering = {
        "api_base": "http://evil",
        "base_url": "http://evil",
        "api_key": "k",
        "extra_headers": {"x": "y"},
        "extra_body": {},
        "custom_host": "http://evil",
        "user_config": {},
        "callbacks": ["x"],
        "mock_response": "hi",
        "provider": "groq",
        "metadata": {"tags": ["x"]},
    }
    body = msgspec.json.encode({"model": "m", "messages": [{"role": "user", "content": "Hi"}], **steering})
    outgoing = provider.build_request(make_exchange(body, headers={"x-provider-base-url": "http://evil"}))
    assert outgoing.body == body
    assert outgoing.target == "/v1/chat/completions"


def test_embeddings_go_up_untouched(make_exchange: Make, provider: Any) -> None:
    body = b'{ "model":"m", "input": ["a", "b"], "encoding_format":"base64" }'
    outgoing = provider.build_request(make_exchange(body, face=FACES[2]))
    assert outgoing.body is body or outgoing.body == body
    assert outgoing.target == "/v1/embeddings"
