"""Short ways to write requests of the hub, shared by the tests of what is made of them."""

from __future__ import annotations

from typing import Any

from raven_bedrock.models import read_model
from raven_bedrock.requests import ConverseRequest, write_request

from raven_proxy import hub

from .conftest import HAIKU

LLAMA = "us.meta.llama3-3-70b-instruct-v1:0"
TOOLS = [hub.Tool(name="f"), hub.Tool(name="g"), hub.Tool(name="h")]
HIGH = hub.Thinking(effort="high")
OPUS_46 = "us.anthropic.claude-opus-4-6-v1"
OPUS_47 = "us.anthropic.claude-opus-4-7"


def text(words: str, **more: Any) -> hub.Text:
    return hub.Text(text=words, **more)


def user(*parts: hub.Part) -> hub.Message:
    return hub.Message(role="user", parts=list(parts))


def assistant(*parts: hub.Part) -> hub.Message:
    return hub.Message(role="assistant", parts=list(parts))


def result(call_id: str, *parts: hub.Part, **more: Any) -> hub.Message:
    return hub.Message(role="tool", parts=[hub.ToolResult(call_id=call_id, content=list(parts), **more)])


def call(call_id: str, arguments: str = "{}", name: str = "f") -> hub.ToolCall:
    return hub.ToolCall(id=call_id, name=name, arguments=arguments)


def ask(*messages: hub.Message, model: str = HAIKU, **fields: Any) -> hub.ChatRequest:
    return hub.ChatRequest(model=model, messages=list(messages) or [user(text("Hi"))], **fields)


def write(request: hub.ChatRequest) -> ConverseRequest:
    return write_request(request, read_model(request.model))
