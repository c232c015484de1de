"""A Responses client's request in the hub's terms.

Nothing is stored here, so what needs a store (`previous_response_id`, `conversation`, `background`,
prompt templates) is refused with the remedy; `store: true` is accepted, and the reply says `false`.
"""

from __future__ import annotations

from typing import Any, get_args

import msgspec

from raven_proxy import hub
from raven_proxy.errors import InvalidRequest
from raven_proxy.exchange import Exchange

from .asked import Asked, Item, ReasoningAsked, TextAsked, Tool, read_asked
from .calls import decode
from .tools import Toolbox, read_tool_choice
from .turns import read_turns

__all__ = ["DIALECT", "NAMESPACES", "not_found", "read_request"]

DIALECT = "openai.responses"
NAMESPACES = "openai.responses"
"""The key in `exchange.notes` of the names that a request's namespaces were flattened to."""

_NAMES = {
    "messages": "input",
    "max_tokens": "max_output_tokens",
    "output_format": "text.format",
    "verbosity": "text.verbosity",
    "thinking": "reasoning",
}
_EFFORTS = get_args(hub.Effort)
_LOGPROBS = "message.output_text.logprobs"
_SEALED = "reasoning.encrypted_content"
_KNOWN = frozenset(Asked.__struct_fields__)


def read_request(exchange: Exchange) -> hub.ChatRequest:
    """Read `exchange.body` for `exchange.candidate`'s model. Raises InvalidRequest with `param`."""
    asked = decode(read_asked, exchange.body)
    _refuse_stored(asked)
    box = Toolbox()
    box.add(asked.tools or ())
    if isinstance(asked.input, list):
        _add_tools_of_input(asked.input, box)
    candidate = exchange.candidate
    request = hub.ChatRequest(
        model=(candidate.model if candidate is not None else None) or asked.model,
        messages=_read_messages(asked, box),
        stream=exchange.stream,
        max_tokens=asked.max_output_tokens,
        temperature=asked.temperature,
        top_p=asked.top_p,
        tool_choice=read_tool_choice(asked.tool_choice, box),
        tools=box.tools,
        parallel_tool_calls=asked.parallel_tool_calls if box.tools else None,
        output_format=_read_format(asked.text),
        verbosity=asked.text.verbosity if asked.text is not None else None,
        thinking=_read_thinking(asked.reasoning),
        user=asked.user,
        metadata=asked.metadata or None,
        service_tier=asked.service_tier,
        prompt_cache_key=asked.prompt_cache_key,
        safety_identifier=asked.safety_identifier,
        family=DIALECT,
        names=_NAMES,
    )
    _read_logprobs(asked, request)
    _note_lost(asked, box, request)
    _read_extra(exchange, request)
    exchange.notes[NAMESPACES] = box.names
    return request


def not_found(response_id: str) -> InvalidRequest:
    """Refuse a `previous_response_id` in OpenAI's own words."""
    return InvalidRequest(
        f"Previous response with id '{response_id[:128]}' not found.",
        code="previous_response_not_found",
        param="previous_response_id",
    )


def _refuse_stored(asked: Asked) -> None:
    if asked.previous_response_id:
        raise not_found(asked.previous_response_id)
    for name, remedy in (
        ("conversation", "Send the conversation's items in input"),
        ("prompt", "Send the prompt's text in instructions and input"),
        ("background", "Ask for a stream"),
    ):
        if getattr(asked, name):
            raise InvalidRequest(
                f"{name}: this model's provider does not store responses. "
                f"{remedy}, or choose a model whose provider serves the Responses API itself.",
                code="unsupported_parameter",
                param=name,
            )


def _add_tools_of_input(items: list[Item], box: Toolbox) -> None:
    for index, item in enumerate(items):
        if item.type == "additional_tools":
            place = f"input[{index}].tools"
            try:
                box.add(msgspec.convert(item.tools or [], list[Tool]), place)
            except msgspec.ValidationError as error:
                raise InvalidRequest(f"{place}: {error}.", param=place) from None


def _read_messages(asked: Asked, box: Toolbox) -> list[hub.Message]:
    messages: list[hub.Message] = []
    if asked.instructions:
        messages.append(hub.Message(role="system", parts=[hub.Text(text=asked.instructions)]))
    if isinstance(asked.input, str):
        messages.append(hub.Message(role="user", parts=[hub.Text(text=asked.input)]))
    else:
        messages += read_turns(asked.input or [], box)
    if not messages:
        raise InvalidRequest(
            "input: it is missing. Send a string, or an array of input items.", param="input"
        )
    return messages


def _read_format(text: TextAsked | None) -> hub.OutputFormat | None:
    form = text.format if text is not None else None
    if form is None or form.type == "text":
        return None
    if form.type == "json_object":
        return hub.OutputFormat(mode="json_object")
    if form.type != "json_schema" or form.schema is None:
        raise InvalidRequest(
            'text.format: send {"type": "text"}, {"type": "json_object"}, '
            'or {"type": "json_schema", "name": …, "schema": …}.',
            param="text.format",
        )
    return hub.OutputFormat(
        mode="json_schema",
        name=form.name or "response",
        schema=form.schema,
        description=form.description,
        strict=form.strict,
    )


def _read_thinking(reasoning: ReasoningAsked | None) -> hub.Thinking | None:
    if reasoning is None:
        return None
    effort: Any = reasoning.effort
    summary = reasoning.summary or reasoning.generate_summary
    if effort is not None and effort not in _EFFORTS:
        raise InvalidRequest(f"reasoning.effort: use one of {', '.join(_EFFORTS)}.", param="reasoning.effort")
    if effort is None and summary is None:
        return None
    return hub.Thinking(enabled=False if effort == "none" else None, effort=effort, summary=summary)


def _read_logprobs(asked: Asked, request: hub.ChatRequest) -> None:
    if _LOGPROBS in (asked.include or ()) or asked.top_logprobs:
        request.logprobs = True
        request.top_logprobs = asked.top_logprobs


def _note_lost(asked: Asked, box: Toolbox, request: hub.ChatRequest) -> None:
    """Note what no chat can express; what OpenAI does by default anyway is no loss."""
    for kind in box.server:
        request.drop(f"tools.{kind}")
    if asked.truncation not in (None, "disabled"):
        request.drop("truncation")
    if asked.max_tool_calls is not None and box.server:  # it bounds the vendor's own tools alone
        request.drop("max_tool_calls")
    if any(name not in (_LOGPROBS, _SEALED) for name in asked.include or ()) and box.server:
        request.drop("include")
    reasoning = asked.reasoning
    if reasoning is not None:
        if reasoning.context not in (None, "auto"):
            request.drop("reasoning.context")
        if reasoning.mode not in (None, "standard"):
            request.drop("reasoning.mode")


def _read_extra(exchange: Exchange, request: hub.ChatRequest) -> None:
    """Keep what nobody here knows for a vendor of the same family; for others it counts as dropped."""
    for name, (start, end) in exchange.call.members.items():
        if name not in _KNOWN and exchange.body[start:end] != b"null":
            request.extra[name] = msgspec.json.decode(exchange.body[start:end])
            request.drop(name)
