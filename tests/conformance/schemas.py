"""Strict validators of each vendor's requests: the types of its own SDK, and rules that types cannot say.

`problems` gives what is wrong with a body that the gateway sent, in one line each; none if it is right.
"""

from __future__ import annotations

import inspect
import itertools
import typing
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Any

import botocore.session
import cohere
from anthropic.types.message_create_params import MessageCreateParamsNonStreaming
from botocore.model import Shape
from botocore.validate import ParamValidator
from google.genai import types as google
from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming
from openai.types.responses.response_create_params import ResponseCreateParamsNonStreaming
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from .meaning import Json

__all__ = ["TARGETS", "problems"]


def problems(target: str, body: Json) -> list[str]:
    """Say what `target` would refuse in `body`, which is what the gateway sent."""
    return [*TARGETS[target](body)]


# -- OpenAI and Anthropic: typed dictionaries -----------------------------------------


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    # The setting reaches typed dictionaries at every depth, but is not taken for one at the top.
    return TypeAdapter(list[kind], config=ConfigDict(extra="forbid"))


def _check_type(kind: Any, body: Json) -> Iterator[str]:
    try:
        yield from _drain(_adapter(kind).validate_python([body]))
    except ValidationError as error:
        yield from _lines(error)


def _lines(error: ValidationError) -> Iterator[str]:
    """Tell the errors; of a union only those of the member that was meant, by its `type` or `role`."""
    found = error.errors(include_url=False, include_context=False)
    foreign = {one["loc"][:-1] for one in found if one["type"] == "literal_error"}
    meant = [one for one in found if not any(one["loc"][: len(place)] == place for place in foreign)]
    depth = max(len(one["loc"]) for one in meant or found)
    for one in [one for one in meant or found if len(one["loc"]) >= depth - 1][:6]:
        places = [str(place) for place in one["loc"] if "[" not in str(place)]
        yield f"{'.'.join(places)}: {one['msg']} ({str(one['input'])[:80]})"


def _drain(value: Any) -> Iterator[str]:
    """Read the iterables that pydantic checks only when they are read."""
    if isinstance(value, BaseModel):
        yield f"{value!r:.200} is only a part of a reply"
    elif isinstance(value, dict):
        for item in value.values():
            yield from _drain(item)
    elif isinstance(value, Iterable) and not isinstance(value, str | bytes):
        for item in value:
            yield from _drain(item)


def _check_messages(body: Json) -> Iterator[str]:
    # The SDK's newest types leave out what older models still take.
    plain = {k: v for k, v in body.items() if k not in {"stream", "temperature", "top_p", "top_k"}}
    yield from _check_type(MessageCreateParamsNonStreaming, plain)
    thinking = body.get("thinking") or {}
    if thinking.get("budget_tokens", 0) >= body.get("max_tokens", 0) and thinking.get("type") == "enabled":
        yield "max_tokens is not greater than thinking.budget_tokens"
    if not 0 <= body.get("temperature", 0) <= 1:
        yield "temperature is not between 0 and 1"
    if body.get("tool_choice") and not body.get("tools"):
        yield "tool_choice without tools"
    for tool in body.get("tools") or ():
        if "input_schema" in tool and tool["input_schema"].get("type") != "object":
            yield "input_schema.type is not object"
    yield from _check_pairs(_messages_calls(body))
    for message in body["messages"]:
        blocks = message["content"] if isinstance(message["content"], list) else []
        if any(block["type"] == "text" and not block["text"].strip() for block in blocks):
            yield "a text block is blank"


def _messages_calls(body: Json) -> Iterator[tuple[set[str], set[str]]]:
    for message in body["messages"]:
        blocks = message["content"] if isinstance(message["content"], list) else []
        made = {block["id"] for block in blocks if block["type"] == "tool_use"}
        yield made, {block["tool_use_id"] for block in blocks if block["type"] == "tool_result"}


def _check_pairs(turns: Iterable[tuple[set[str], set[str]]]) -> Iterator[str]:
    """Results answer the calls of the turn right before."""
    open_calls: set[str] = set()
    for made, answered in turns:
        if not answered <= open_calls:
            yield f"results without a call right before them: {sorted(answered - open_calls)}"
        open_calls = made


def _check_chat(body: Json) -> Iterator[str]:
    allowed = {k: v for k, v in body.items() if k != "stream"}
    yield from _check_type(CompletionCreateParamsNonStreaming, allowed)
    called: set[str] = set()
    for message in body["messages"]:
        called |= {call["id"] for call in message.get("tool_calls") or ()}
        if message["role"] == "tool" and message["tool_call_id"] not in called:
            yield "a tool message without a call before it"
    if body.get("tool_choice") and not body.get("tools"):
        yield "tool_choice without tools"


def _check_responses(body: Json) -> Iterator[str]:
    allowed = {k: v for k, v in body.items() if k != "stream"}
    yield from _check_type(ResponseCreateParamsNonStreaming, allowed)
    if body.get("max_output_tokens", 16) < 16:
        yield "max_output_tokens is below 16"


# -- Google ---------------------------------------------------------------------------

_GOOGLE: dict[str, Any] = {
    "contents": list[google.Content],
    "systemInstruction": google.Content,
    "tools": list[google.Tool],
    "toolConfig": google.ToolConfig,
    "generationConfig": google.GenerationConfig,
    "safetySettings": list[google.SafetySetting],
    "cachedContent": str,
    "serviceTier": str,
    "labels": dict[str, str],
    "store": bool,
}


def _check_gemini(body: Json) -> Iterator[str]:
    for name, value in body.items():
        if name not in _GOOGLE:
            yield f"{name}: unknown"
            continue
        try:
            _plain_adapter(_GOOGLE[name]).validate_python(value)
        except ValidationError as error:
            yield from _lines(error)
    roles = [content.get("role") for content in body["contents"]]
    if set(roles) - {"user", "model"} or roles[:1] != ["user"]:
        yield f"roles are {roles}"
    if any(a == b for a, b in itertools.pairwise(roles)):
        yield "neighbours of one role"
    if not all(content.get("parts") for content in body["contents"]):
        yield "a turn without parts"
    called: list[str] = []
    for part in [part for content in body["contents"] for part in content.get("parts") or ()]:
        called += [part["functionCall"]["name"]] if "functionCall" in part else []
        if "functionResponse" in part and part["functionResponse"]["name"] not in called:
            yield f"a result of {part['functionResponse']['name']}, which was not called"


@cache
def _plain_adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


# -- Bedrock --------------------------------------------------------------------------


@cache
def _converse() -> Shape:
    service = botocore.session.get_session().get_service_model("bedrock-runtime")
    shape = service.operation_model("Converse").input_shape
    assert shape is not None
    return shape


def _check_converse(body: Json) -> Iterator[str]:
    parameters = {"modelId": "any", **body}
    report = ParamValidator().validate(parameters, _converse())
    if report.has_errors():
        yield report.generate_report()
        return
    yield from _check_words(parameters, _converse(), "")
    roles = [message["role"] for message in body["messages"]]
    if any(role != ("user", "assistant")[place % 2] for place, role in enumerate(roles)):
        yield f"roles are {roles}"
    blocks = [block for message in body["messages"] for block in message["content"]]
    if not all(message["content"] for message in body["messages"]):
        yield "a turn without content"
    if any("text" in block and not block["text"].strip() for block in blocks):
        yield "a text block is blank"
    if any("toolUse" in block or "toolResult" in block for block in blocks) and "toolConfig" not in body:
        yield "tool blocks without toolConfig"
    names = [block["document"]["name"] for block in blocks if "document" in block]
    if len(names) != len(set(names)):
        yield f"names of documents are not unique: {names}"
    yield from _check_pairs(_converse_calls(body))


def _converse_calls(body: Json) -> Iterator[tuple[set[str], set[str]]]:
    for message in body["messages"]:
        made = {b["toolUse"]["toolUseId"] for b in message["content"] if "toolUse" in b}
        yield made, {b["toolResult"]["toolUseId"] for b in message["content"] if "toolResult" in b}


def _check_words(value: Any, shape: Any, path: str) -> Iterator[str]:
    """Check enumerations, which botocore leaves to the service."""
    if shape.type_name == "structure" and isinstance(value, dict) and not shape.is_document_type:
        for name, item in value.items():
            yield from _check_words(item, shape.members[name], f"{path}.{name}")
    elif shape.type_name == "list":
        for place, item in enumerate(value):
            yield from _check_words(item, shape.member, f"{path}[{place}]")
    elif shape.type_name == "string" and getattr(shape, "enum", None) and value not in shape.enum:
        yield f"{path}: {value!r} is none of {shape.enum}"


# -- Cohere ---------------------------------------------------------------------------


@cache
def _cohere() -> dict[str, Any]:
    chat = cohere.ClientV2.chat
    hints = typing.get_type_hints(inspect.unwrap(chat))
    return {name: hints[name] for name in inspect.signature(chat).parameters if name in hints}


def _check_cohere(body: Json) -> Iterator[str]:
    known = _cohere()
    for name, value in body.items():
        if name == "stream":
            continue
        if name not in known:
            yield f"{name}: unknown"
            continue
        try:
            found = _plain_adapter(known[name]).validate_python(value)
        except ValidationError as error:
            yield from _lines(error)
        else:
            yield from _extras(found, name)
    for message in body["messages"]:
        if message["role"] == "assistant" and not (message.get("content") or message.get("tool_calls")):
            yield "an assistant message that says nothing"


def _extras(value: Any, path: str) -> Iterator[str]:
    """Cohere's types keep what they do not know; name it."""
    if isinstance(value, BaseModel):
        for name in value.model_extra or ():
            yield f"{path}.{name}: unknown to {type(value).__name__}"
        for name in type(value).model_fields:
            yield from _extras(getattr(value, name), f"{path}.{name}")
    elif isinstance(value, list | tuple):
        for place, item in enumerate(value):
            yield from _extras(item, f"{path}[{place}]")


TARGETS: dict[str, Callable[[Json], Iterator[str]]] = {
    "anthropic": _check_messages,
    "openai chat": _check_chat,
    "openai responses": _check_responses,
    "gemini": _check_gemini,
    "bedrock": _check_converse,
    "cohere": _check_cohere,
}
