"""T43, T44, T49: bodies that cannot be read one way only, and fields that want to steer the gateway."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from raven_proxy import Exchange, hookimpl
from raven_proxy.mock import MockUpstream

from .conftest import Case
from .wire import CANARY, CHAT, chat, post

MESSAGES = b'"messages":[{"role":"user","content":"hi"}]'
FACES = (CHAT, "/v1/mock/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/mock/responses")

NOT_JSON: dict[str, bytes] = {
    "empty": b"",
    "blank": b"  \n",
    "brace": b"{",
    "array": b"[]",
    "null": b"null",
    "string": b'"x"',
    "number": b"1",
    "nan": b'{"model":"mock/a","temperature":NaN,' + MESSAGES + b"}",
    "infinity": b'{"model":"mock/a","temperature":Infinity,' + MESSAGES + b"}",
    "minus infinity": b'{"model":"mock/a","temperature":-Infinity,' + MESSAGES + b"}",
    "lone surrogate": rb'{"model":"mock/a","messages":[{"role":"user","content":"\ud800"}]}',
    "lone surrogate in a name": rb'{"model":"mock/a","\udc00":1,' + MESSAGES + b"}",
    "lone surrogate in the model": rb'{"model":"mock/\ud83d",' + MESSAGES + b"}",
    "lone surrogate elsewhere": rb'{"model":"mock/a","metadata":{"a":["\udfff"]},' + MESSAGES + b"}",
    "invalid utf-8": b'{"model":"mock/a","x":"\xff\xfe",' + MESSAGES + b"}",
    "overlong utf-8": b'{"model":"mock/a","x":"\xc0\xaf",' + MESSAGES + b"}",
    "surrogate in utf-8": b'{"model":"mock/a","x":"\xed\xa0\x80",' + MESSAGES + b"}",
    "utf-16": ('{"model":"mock/a",' + MESSAGES.decode() + "}").encode("utf-16"),
    "utf-16-le": ('{"model":"mock/a",' + MESSAGES.decode() + "}").encode("utf-16-le"),
    "utf-32": ('{"model":"mock/a",' + MESSAGES.decode() + "}").encode("utf-32"),
    "bom": b'\xef\xbb\xbf{"model":"mock/a",' + MESSAGES + b"}",
    "garbage after": b'{"model":"mock/a",' + MESSAGES + b"} x",
    "two documents": b'{"model":"mock/a",' + MESSAGES + b"}{}",
    "comma after": b'{"model":"mock/a",' + MESSAGES + b",}",
    "single quotes": b"{'model':'mock/a'}",
    "comment": b'{"model":"mock/a",/* x */' + MESSAGES + b"}",
    "raw control character": b'{"model":"mock/a","x":"a\nb",' + MESSAGES + b"}",
    "deep": b'{"model":"mock/a","x":' + b"[" * 100_000 + b"]" * 100_000 + b"," + MESSAGES + b"}",
    "deep objects": b'{"model":"mock/a","x":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}",
    "deep and cut": b'{"model":"mock/a","x":' + b"[" * 1_000_000,
    "leading zero": b'{"model":"mock/a","n":01,' + MESSAGES + b"}",
}


@pytest.mark.parametrize("name", NOT_JSON)
async def test_t43_what_is_not_one_json_object_is_a_400(case: Case, name: str) -> None:
    """Whatever the bytes are, the answer is a 400 that says where; nothing goes upstream."""
    body = NOT_JSON[name]
    await case.start(base=("openai", "meter"))
    for path in FACES if body.startswith(b"{") else FACES[:-1]:  # the last may take any body
        inner = case.refused(await case.ask(post(body, path)), 400, type="invalid_request_error")
        assert inner["message"]
    assert case.upstream.seen == []


WRONG: list[tuple[str, dict[str, Any], str]] = [
    (CHAT, {"messages": chat()["messages"]}, "model"),
    (CHAT, {"model": None}, "model"),
    (CHAT, {"model": 1}, "model"),
    (CHAT, {"model": ""}, "model"),
    (CHAT, chat("x" * 10_000), "model"),
    (CHAT, chat("a\nb"), "model"),
    (CHAT, chat("a\x1b[31m"), "model"),
    (CHAT, chat("a\u2028b"), "model"),
    (CHAT, {"model": "mock/a"}, "messages"),
    (CHAT, {"model": "mock/a", "messages": {}}, "messages"),
    (CHAT, {"model": "mock/a", "messages": []}, "messages"),
    (CHAT, {"model": "mock/a", "messages": "hi"}, "messages"),
    (CHAT, {"model": "mock/a", "messages": None}, "messages"),
    (CHAT, {"model": "mock/a", "messages": [{"role": "user", "content": "x"}] * 10_000}, "messages"),
    (CHAT, {"model": "mock/a", "messages": ["x"]}, "messages[0]"),
    (CHAT, {"model": "mock/a", "messages": [None]}, "messages[0]"),
    (CHAT, {"model": "mock/a", "messages": [{"content": "x"}]}, "messages[0].role"),
    (CHAT, {"model": "mock/a", "messages": [{"role": "root", "content": "x"}]}, "messages[0].role"),
    (CHAT, {"model": "mock/a", "messages": [{"role": 1, "content": "x"}]}, "messages[0].role"),
    (CHAT, {"model": "mock/a", "messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
    (CHAT, chat() | {"stream": "yes"}, "stream"),
    (CHAT, chat() | {"stream": 1}, "stream"),
    (CHAT, chat(max_tokens="many"), "max_tokens"),
    (CHAT, chat(max_tokens=-1), "max_tokens"),
    (CHAT, chat(max_tokens=1.5), "max_tokens"),
    (CHAT, chat(max_tokens=10**30), "max_tokens"),
    (CHAT, chat(n=0), "n"),
    (CHAT, chat(stream_options=5), "stream_options"),
    (CHAT, chat(stream_options={"include_usage": "yes"}), "stream_options.include_usage"),
    ("/v1/completions", {"prompt": "x"}, "model"),
    ("/v1/completions", {"model": "mock/a", "prompt": 5}, "prompt"),
    ("/v1/embeddings", {"model": "mock/a"}, "input"),
    ("/v1/embeddings", {"model": "mock/a", "input": []}, "input"),
    ("/v1/embeddings", {"model": "mock/a", "input": {}}, "input"),
]


@pytest.mark.parametrize(("path", "body", "param"), WRONG)
async def test_t43_wrong_types_are_a_400_that_names_the_field(
    case: Case, path: str, body: dict[str, Any], param: str
) -> None:
    """A field of the wrong type or size is a 400 with `param`, before anything is sent or stored."""
    await case.start(base=("openai", "meter"))
    case.refused(await case.ask(post(body, path)), 400, type="invalid_request_error", param=param)
    assert case.upstream.seen == []


async def test_t43_unknown_models_are_a_400(case: Case) -> None:
    """A model that nobody offers is a 400 `model_not_found`."""
    table = {"name": "mock", "provider": "openai", "base_url": case.upstream.url, "models": ["gpt-*"]}
    await case.start(upstreams=[table])
    case.refused(await case.chat("nobody-has-it"), 400, code="model_not_found", param="model")
    assert case.upstream.seen == []


@pytest.mark.parametrize(
    "kind", ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"]
)
async def test_t43_json_needs_its_content_type(case: Case, kind: str) -> None:
    """Without `Content-Type: application/json` a JSON face answers 400: no form post gets through."""
    await case.start()
    case.refused(await case.ask(post(chat(), kind=kind)), 400, param="Content-Type")
    assert case.upstream.seen == []


async def test_t43_text_of_every_kind_arrives_and_is_stored(case: Case) -> None:
    """What is valid JSON passes: NUL and every other character in a string, pairs of surrogates, depth."""
    await case.start(base=("openai", "meter"))
    text = "".join(map(chr, [*range(0x20), 0x7F, 0x85, 0x2028, 0xFEFF, 0xFFFD, 0x1F642, 0x10FFFF]))
    body = chat(metadata={"deep": [[[[[text]]]]]})
    escaped = msgspec.json.encode(body).replace("\U0001f642".encode(), rb"\ud83d\ude42")
    assert (await case.ask(post(escaped))).status == 200
    assert case.upstream.seen[0].json["metadata"] == body["metadata"]
    assert (await case.chat("mock/名前-é")).status == 200


# -- twice the same key -------------------------------------------------------------------

DUPLICATES = [
    b'{"model":"mock/cheap","model":"mock/dear",%b}',
    b'{"model":"mock/same","model":"mock/same",%b}',
    b'{%b,"model":"mock/cheap","model":"mock/dear"}',
    b'{"model":"mock/cheap",%b,"stream":false,"stream":true}',
    b'{"model":"mock/cheap",%b,"stream":true,"stream":true}',
    b'{"model":"mock/cheap",%b,"max_tokens":100,"max_tokens":10}',
    b'{"model":"mock/cheap",%b,"max_tokens":10,"max_tokens":100}',
    b'{"max_tokens":12,"max_tokens":1,"model":"mock/cheap",%b}',
    b'{"max_tokens":1,"max_tokens":12,"model":"mock/cheap",%b}',
    b'{ "max_tokens" : 12 , "max_tokens" : 1 , "model" : "mock/cheap" , %b }',
    b'{"model":"mock/cheap","mod\\u0065l":"mock/dear",%b}',
    b'{"\\u006dodel":"mock/dear","model":"mock/cheap",%b}',
    b'{"\\u006dodel":"mock/same","model":"mock/same",%b}',
    b'{"model":"mock/cheap",%b,"n":1,"n":1.0}',
    b'{"model":"mock/cheap",%b,"n":1,"n":2,"x":{"n":2}}',
    b'{"model":"mock/cheap","x":1,"x":1.5,"x":15,%b}',
    b'{"model":"mock/cheap",%b,%b}',
]


@pytest.mark.parametrize("template", DUPLICATES)
async def test_t44_a_key_that_comes_twice_is_refused(case: Case, template: bytes) -> None:
    """Readers differ on which of two equal keys counts: nobody has to guess, it is a 400."""
    await case.start()
    body = template % ((MESSAGES,) * template.count(b"%b"))
    for path in (CHAT, "/v1/mock/chat/completions", "/v1/mock/responses"):
        inner = case.refused(await case.ask(post(body, path)), 400, type="invalid_request_error")
        assert "more than once" in inner["message"]
    assert case.upstream.seen == []


class Rewriting:
    """Puts another model in the place of the client's."""

    @hookimpl
    async def check_request(self, exchange: Exchange) -> None:
        exchange.replace_body(exchange.body.replace(b'"mock/dear"', b'"mock/cheap"'))


@pytest.mark.parametrize(
    "template",
    [
        b'{"model":"mock/dear",%b}',
        b'{"mod\\u0065l":"mock/dear",%b}',
        b' { "x" : {"model":"mock/other"} , "model" : "mock/dear" ,\n%b } ',
        b'{"x":"\\"model\\":\\"evil\\"",%b,"model":"mock/dear"}',
        b'{"messages ":[],"Model":"mock/evil","model":"mock/dear",%b}',
    ],
)
@pytest.mark.parametrize("rewrite", [False, True])
async def test_t44_judged_sent_and_recorded_are_one_model(case: Case, template: bytes, rewrite: bool) -> None:
    """The model that the gates judged is the one that the provider gets and that is recorded."""
    await case.start(*([Rewriting()] if rewrite else []))
    wanted = "cheap" if rewrite else "dear"
    assert (await case.ask(post(template % MESSAGES))).status == 200
    sent = case.upstream.seen[0]
    assert sent.json["model"] == wanted
    assert sent.body.count(wanted.encode()) == 1
    ended = await case.last()
    assert ended.model == f"mock/{wanted}"
    assert ended.attempts[0].model == wanted


# -- fields that would steer --------------------------------------------------------------

STEERING = ("api_base", "base_url", "custom_host", "api_url", "endpoint", "callbacks", "fallbacks", "proxy")


@pytest.mark.parametrize("path", [CHAT, "/v1/mock/chat/completions"])
async def test_t49_no_field_of_the_body_chooses_the_provider(case: Case, path: str) -> None:
    """Fields that steer other gateways mean nothing here: they pass to the provider like any unknown one."""
    async with MockUpstream() as elsewhere:
        await case.start()
        fields: dict[str, Any] = dict.fromkeys(STEERING, elsewhere.url)
        fields |= {
            "extra_headers": {"Host": "evil", "Authorization": "Bearer evil"},
            "headers": {"x-api-key": "evil"},
            "extra_body": {"model": "evil"},
            "provider": {"url": elsewhere.url},
            "api_key": "evil",
            "user_config": {"model_list": [{"litellm_params": {"api_base": elsewhere.url}}]},
            "metadata": {"tags": ["evil"]},
            "mock_response": "evil",
            "models": ["mock2/other"],
            "route": "fallback",
        }
        reply = await case.ask(post(chat("any" if "/mock/" in path else "mock/any", **fields), path))
        assert reply.status == 200
        assert CANARY in reply.json()["choices"][0]["message"]["content"]  # not the mock_response
        assert elsewhere.connections_opened == 0
    sent = case.upstream.seen[0]
    assert {name: sent.json[name] for name in fields} == fields
    assert sent.headers["authorization"] == "Bearer sk-upstream-test"
    assert sent.headers["host"] == case.upstream.origin.removeprefix("http://")
    assert sent.json["model"] == "any"


async def test_t49_no_header_chooses_the_provider(case: Case) -> None:
    """Neither does a header; credentials of the client's own making are not forwarded."""
    async with MockUpstream() as elsewhere:
        await case.start()
        names = (
            "api-base",
            "base-url",
            "x-base-url",
            "custom-host",
            "x-custom-host",
            "x-portkey-custom-host",
        )
        lines = [f"{name}: {elsewhere.url}" for name in names]
        lines += ["api-key: evil", "x-goog-api-key: evil", "x-raven-upstream: evil", "x-portkey-provider: x"]
        reply = await case.ask(post(chat(), headers=tuple(lines)))
        assert reply.status == 200
        assert elsewhere.connections_opened == 0
    sent = case.upstream.seen[0].headers
    assert not {"api-key", "x-goog-api-key", "x-raven-upstream"} & sent.keys()
    assert sent["authorization"] == "Bearer sk-upstream-test"


@pytest.mark.parametrize(
    "model",
    [
        "http://evil/x",
        "//evil/x",
        "mock/../other",
        "mock2/any",
        "openai/../../x",
        "mock",
        "/mock/any",
        "mock/",
    ],
)
async def test_t49_neither_does_the_models_name(case: Case, model: str) -> None:
    """A model's name is only a name: at most it reaches the one provider that takes any."""
    await case.start()
    reply = await case.chat(model)
    assert reply.status in {200, 400}
    assert all(seen.path == CHAT for seen in case.upstream.seen)


@pytest.mark.parametrize(
    "model", ["a\nX-Evil: 1", "a\r\n\r\nHTTP/1.1 200 OK", "a\x1b[31mred", "a\u2028b", "a\x00"]
)
async def test_t49_a_name_cannot_break_out_of_a_header(case: Case, model: str) -> None:
    """On a raw path too a model's name goes into a reply header and the log: control characters are a 400."""
    await case.start()
    reply = await case.ask(post({"model": model, "input": "hi"}, "/v1/mock/responses"))
    case.refused(reply, 400, param="model")
    assert case.upstream.seen == []
