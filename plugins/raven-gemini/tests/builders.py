"""Messages in few words, requests that Google's own client has judged, and answers of Google's."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from raven_gemini.contents import Conversation
from raven_gemini.models import judge
from raven_gemini.replies import GenerateSide
from raven_gemini.requests import write_request

from raven_proxy import hub

__all__ = ["Json", "assistant", "call", "chunk", "result", "stream", "user", "whole", "write"]

Json = dict[str, Any]


def user(*parts: Any) -> hub.Message:
    return hub.Message(role="user", parts=[hub.Text(text=p) if isinstance(p, str) else p for p in parts])


def assistant(*parts: Any) -> hub.Message:
    made = user(*parts)
    made.role = "assistant"
    return made


def result(call_id: str, *content: Any, **fields: Any) -> hub.Message:
    parts = [hub.Text(text=p) if isinstance(p, str) else p for p in content]
    return hub.Message(role="tool", parts=[hub.ToolResult(call_id=call_id, content=parts, **fields)])


def call(call_id: str, name: str = "f", arguments: str = "{}", **fields: Any) -> hub.ToolCall:
    return hub.ToolCall(id=call_id, name=name, arguments=arguments, **fields)


def write(
    *messages: hub.Message,
    model: str = "gemini-2.5-flash",
    is_vertex: bool = False,
    recall: Any = None,
    **fields: Any,
) -> Json:
    request = hub.ChatRequest(model=model, messages=list(messages) or [user("Hi")], **fields)
    known = Conversation(judge(model), is_vertex, recall or (lambda _: None))
    body = write_request(request, known)
    accept(body)
    body["dropped"] = request.dropped
    return body


def accept(body: Json) -> None:
    """Let Google's own client judge the body."""
    types = pytest.importorskip("google.genai.types")
    for content in body["contents"]:
        types.Content.model_validate(content)
        assert content["role"] in ("user", "model")
        assert content["parts"]
    if "systemInstruction" in body:
        types.Content.model_validate(body["systemInstruction"])
    for tool in body.get("tools", ()):
        types.Tool.model_validate(tool)
    if "toolConfig" in body:
        types.ToolConfig.model_validate(body["toolConfig"])
    types.GenerationConfig.model_validate(body.get("generationConfig", {}))
    known = {"contents", "systemInstruction", "tools", "toolConfig", "generationConfig", "labels"}
    assert body.keys() <= known


def chunk(*parts: Json, finish: Any = None, **fields: Any) -> Json:
    candidate: Json = {"content": {"parts": [*parts], "role": "model"}, "index": fields.pop("index", 0)}
    candidate |= {"finishReason": finish} if finish is not None else {}
    candidate |= fields.pop("candidate", {})
    return {"candidates": [candidate], **fields}


def whole(document: Json, **known: Any) -> hub.ChatReply:
    return GenerateSide(**known).read_reply(msgspec.json.encode(document))


def stream(*documents: Json) -> list[hub.Event]:
    reader = GenerateSide().open_reader()
    data = b"".join(b"data: " + msgspec.json.encode(one) + b"\r\n\r\n" for one in documents)
    return [*reader.feed(data), *reader.close()]
