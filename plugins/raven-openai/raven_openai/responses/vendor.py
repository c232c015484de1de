"""A request of the hub as a Responses request: for clients of other dialects, where the upstream says so.

Nothing is stored at the vendor (`store: false`), so reasoning travels sealed (`encrypted_content`) through
the client and back.
"""

from __future__ import annotations

from typing import Any

import msgspec

from raven_openai.presets import Preset
from raven_proxy import hub
from raven_proxy.dialects import ProviderSide, Reader
from raven_proxy.errors import InvalidRequest
from raven_proxy.exchange import Exchange

from .history import write_input
from .reader import open_reader, read_reply

__all__ = ["SIDE", "VENDOR"]

_LEAST_TOKENS = 16  # OpenAI refuses a smaller bound
_NOT_THINKING = ("gpt-3", "gpt-4", "chatgpt-4o")  # they refuse to be asked for sealed reasoning
_PASSED = frozenset({"prompt_cache_retention", "prompt_cache_options"})


class _Side:
    def read_reply(self, body: bytes) -> hub.ChatReply:
        return read_reply(body)

    def open_reader(self) -> Reader:
        return open_reader()


SIDE: ProviderSide = _Side()
"""Reads what vendors with this API send."""


class _Vendor:
    """How a chat is written for an upstream with `options.api = "responses"`."""

    endpoint = "responses"
    side = SIDE

    def write_request(
        self, request: hub.ChatRequest, exchange: Exchange, preset: Preset | None = None
    ) -> bytes:
        """Write the vendor's body; notes what is lost in `request.dropped`.

        Raises InvalidRequest for what cannot be left out without changing the meaning.
        """
        del exchange
        _refuse(request)
        knows_developer = preset is None or preset.knows_developer
        body: dict[str, Any] = {
            "model": request.model,
            "input": write_input(request.messages, knows_developer=knows_developer),
            "store": False,
        }
        if request.stream:
            body["stream"] = True
        _add_limits(body, request)
        _add_tools(body, request)
        _add_text(body, request)
        _add_thinking(body, request)
        _add_include(body, request)
        for name, value in request.extra.items():
            if name in _PASSED and request.family.startswith("openai."):
                body[name] = value
                request.dropped = [one for one in request.dropped if one != name]
            else:
                request.drop(name)
        _note_lost(request)
        return msgspec.json.encode(body)

    def provider_side(self, exchange: Exchange, preset: Preset) -> ProviderSide:
        """Give the reader of replies: all vendors' are read alike."""
        del exchange, preset
        return SIDE


VENDOR = _Vendor()


def _refuse(request: hub.ChatRequest) -> None:
    names = request.names
    if (request.n or 1) > 1:
        param = names.get("n", "n")
        raise InvalidRequest(
            f"{param}: the Responses API gives one answer; send 1, or several requests.", param=param
        )
    if "audio" in (request.modalities or ()):
        param = names.get("modalities", "modalities")
        raise InvalidRequest(
            f"{param}: the Responses API does not answer in sound; ask for text.", param=param
        )
    if request.server_tools:
        param = names.get("server_tools", "tools")
        kind = request.server_tools[0].get("type", "?")
        raise InvalidRequest(
            f"{param}: the tool {kind!r} runs only at its own vendor. Leave it out, or choose another model.",
            param=param,
        )


def _note_lost(request: hub.ChatRequest) -> None:
    request.drop_if_set(
        "stop", "seed", "presence_penalty", "frequency_penalty", "logit_bias", "top_k", "prediction", "audio"
    )
    if request.store:
        request.drop("store")
    if any(message.name for message in request.messages):
        request.drop(f"{request.names.get('messages', 'messages')}[].name")


def _add_limits(body: dict[str, Any], request: hub.ChatRequest) -> None:
    if request.max_tokens is not None:
        body["max_output_tokens"] = max(_LEAST_TOKENS, request.max_tokens)
    for name in (
        "temperature",
        "top_p",
        "user",
        "metadata",
        "service_tier",
        "prompt_cache_key",
        "safety_identifier",
    ):
        if (value := getattr(request, name)) is not None:
            body[name] = value


def _add_tools(body: dict[str, Any], request: hub.ChatRequest) -> None:
    tools = [_tool(tool) for tool in request.tools]
    if request.web_search is not None:
        tools.append(_web_search(request.web_search))
    if not tools:
        return
    body["tools"] = tools
    if request.parallel_tool_calls is not None:
        body["parallel_tool_calls"] = request.parallel_tool_calls
    choice = request.tool_choice
    if choice is None:
        return
    if choice.mode != "named":
        body["tool_choice"] = choice.mode
        return
    custom = {tool.name for tool in request.tools if tool.custom}
    named = [{"type": "custom" if name in custom else "function", "name": name} for name in choice.names]
    body["tool_choice"] = (
        named[0] if len(named) == 1 else {"type": "allowed_tools", "mode": "required", "tools": named}
    )


def _tool(tool: hub.Tool) -> dict[str, Any]:
    made: dict[str, Any] = {"type": "custom" if tool.custom else "function", "name": tool.name}
    if tool.description is not None:
        made["description"] = tool.description
    if tool.custom:
        if tool.grammar is not None:
            inner = tool.grammar.get("grammar")
            made["format"] = {"type": "grammar", **inner} if isinstance(inner, dict) else tool.grammar
        return made
    # The default is strict here, and is not in any other dialect.
    return made | {"parameters": tool.schema, "strict": bool(tool.strict)}


def _web_search(options: dict[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {"type": "web_search"}
    if isinstance(size := options.get("search_context_size"), str):
        made["search_context_size"] = size
    place = options.get("user_location")
    if isinstance(place, dict):
        inner = place.get("approximate")
        made["user_location"] = {"type": "approximate", **(inner if isinstance(inner, dict) else {})}
    return made


def _add_text(body: dict[str, Any], request: hub.ChatRequest) -> None:
    text: dict[str, Any] = {}
    form = request.output_format
    if form is not None and (form.mode == "json_object" or form.schema is None):
        text["format"] = {"type": "json_object"}
    elif form is not None:
        made: dict[str, Any] = {"type": "json_schema", "name": form.name, "schema": form.schema}
        if form.description is not None:
            made["description"] = form.description
        # As with tools: said, because the default is another.
        text["format"] = made | {"strict": bool(form.strict)}
    if request.verbosity is not None:
        text["verbosity"] = request.verbosity
    if text:
        body["text"] = text


def _add_thinking(body: dict[str, Any], request: hub.ChatRequest) -> None:
    thinking = request.thinking
    if thinking is None:
        return
    reasoning: dict[str, Any] = {}
    if thinking.effort is not None:
        reasoning["effort"] = thinking.effort
    elif thinking.budget_tokens is not None and thinking.enabled is not False:
        reasoning["effort"] = _effort(thinking.budget_tokens, request.max_tokens)
    if thinking.summary is not None:
        reasoning["summary"] = thinking.summary
    elif thinking.include or thinking.enabled:  # the client shows thoughts
        reasoning["summary"] = "auto"
    if reasoning:
        body["reasoning"] = reasoning


def _effort(budget: int, limit: int | None) -> str:
    share = budget / limit if limit else budget / 32_000
    return "low" if share < 0.35 else "medium" if share < 0.65 else "high"


def _add_include(body: dict[str, Any], request: hub.ChatRequest) -> None:
    include = []
    if not request.model.rpartition("/")[2].startswith(_NOT_THINKING):
        include.append("reasoning.encrypted_content")
    if request.logprobs:
        include.append("message.output_text.logprobs")
        if request.top_logprobs is not None:
            body["top_logprobs"] = request.top_logprobs
    if include:
        body["include"] = include
