"""Promises about the items of a Responses request as turns of the hub."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from raven_openai.responses import FACES, RESPONSES

from raven_proxy import hub
from raven_proxy.errors import InvalidRequest
from raven_proxy.exchange import Candidate, Exchange

CREATE = FACES[0]


def read(asked: dict[str, Any] | bytes, model: str | None = None) -> hub.ChatRequest:
    exchange = make(asked, model)
    request: hub.ChatRequest = RESPONSES.client_side.read_request(exchange)
    return request


def make(asked: dict[str, Any] | bytes, model: str | None = None) -> Exchange:
    request: Any = SimpleNamespace(method="POST", raw_path="/v1/responses")
    pipeline: Any = None
    exchange = Exchange(request, pipeline, "req_test")
    exchange.face = CREATE
    exchange.body = asked if isinstance(asked, bytes) else msgspec.json.encode(asked)
    exchange.call = CREATE.read_call(exchange.body)
    upstream: Any = SimpleNamespace(name="main")
    exchange.candidate = Candidate(upstream, model or exchange.call.model)
    return exchange


def ask(**fields: Any) -> hub.ChatRequest:
    return read({"model": "m", "input": "Hi", **fields})


def refusal(**fields: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        ask(**fields)
    return caught.value


# -- items ---------------------------------------------------------------------------


def test_instructions_come_first_and_a_string_is_the_users() -> None:
    """The two simplest members are two messages."""
    request = ask(instructions="Be brief")
    assert [(m.role, m.text()) for m in request.messages] == [("system", "Be brief"), ("user", "Hi")]


def test_the_model_is_the_candidates() -> None:
    """An alias is resolved before the translation."""
    assert read({"model": "alias", "input": "Hi"}, model="real").model == "real"


def test_content_parts_become_media() -> None:
    """Images, files, sound and cache marks are read from every place where clients put them."""
    content = [
        {"type": "input_image", "image_url": "data:image/png;base64,iVBORw0KGgo=", "detail": "low"},
        {"type": "input_image", "file_id": "file-1"},
        {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERi0="},
        {"type": "input_file", "file_data": "JVBERi0="},
        {"type": "input_file", "file_url": "https://x.example/a.pdf"},
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
        {"type": "input_text", "text": "x", "prompt_cache_breakpoint": {"mode": "explicit"}},
    ]
    (message,) = ask(input=[{"role": "user", "content": content}]).messages
    assert message.parts == [
        hub.Image(media=hub.Media(data="iVBORw0KGgo=", media_type="image/png"), detail="low"),
        hub.Image(media=hub.Media(file_id="file-1")),
        hub.File(media=hub.Media(data="JVBERi0=", media_type="application/pdf"), filename="a.pdf"),
        hub.File(media=hub.Media(data="JVBERi0=", media_type="application/pdf")),
        hub.File(media=hub.Media(url="https://x.example/a.pdf")),
        hub.Audio(media=hub.Media(data="AAAA"), format="wav"),
        hub.Text(text="x", cache=hub.CacheMark()),
    ]


def test_assistant_turns_keep_what_was_said() -> None:
    """Text and refusals of the model's come back as its own; what its vendor's tools did is left out."""
    items = [
        {"role": "user", "content": "a"},
        {
            "type": "web_search_call",
            "id": "ws_1",
            "status": "completed",
            "action": {"type": "search", "query": "q"},
        },
        {
            "type": "message",
            "id": "msg_1",
            "status": "completed",
            "role": "assistant",
            "content": [
                {"type": "output_text", "text": "b", "annotations": []},
                {"type": "refusal", "refusal": "no"},
            ],
        },
        {"role": "assistant", "content": "c"},
        {"role": "user", "content": "d"},
    ]
    _, said, _ = ask(input=items).messages
    assert said.parts == [hub.Text(text="b"), hub.Refusal(text="no"), hub.Text(text="c")]


@pytest.mark.parametrize(
    ("item", "param", "words"),
    [
        ({"type": "item_reference", "id": "msg_9"}, "input[0]", "msg_9"),
        ({"id": "msg_9"}, "input[0]", "Send the item itself"),
        ({"type": "local_shell_call", "call_id": "x", "action": {}}, "input[0].type", "local_shell_call"),
        (
            {"type": "computer_call_output", "call_id": "x", "output": {}},
            "input[0].type",
            "leave the item out",
        ),
        ({"type": "function_call", "name": "f", "arguments": "{}"}, "input[0].call_id", "missing"),
        ({"type": "function_call_output", "call_id": "x"}, "input[0].output", "send a string"),
        ({"role": "tool", "content": "x"}, "input[0].role", "use one of"),
        ({"role": "user"}, "input[0].content", "missing"),
        ({"role": "user", "content": [{"type": "video"}]}, "input[0].content[0].type", "video"),
        ({"role": "user", "content": [{"type": "input_image"}]}, "input[0].content[0].image_url", "missing"),
        ({"type": "reasoning", "encrypted_content": "raven1.!!"}, "input[0].encrypted_content", "damaged"),
    ],
)
def test_an_item_that_cannot_be_translated_is_named(item: Any, param: str, words: str) -> None:
    """A 400 says which item it is and what to do."""
    error = refusal(input=[item])
    assert error.param == param
    assert words in error.message
