"""The hub's chat request, written as the body of Anthropic's Messages.

`write` gives the body without `model` and `stream`, because some hosts of Claude say both elsewhere
(Amazon Bedrock's InvokeModel, Google's Vertex AI); `encode` puts them in.
"""

from __future__ import annotations

from typing import Any

import msgspec

from raven_proxy import hub, splice
from raven_proxy.errors import InvalidRequest
from raven_proxy.exchange import Exchange
from raven_proxy.hub import ChatRequest, Tool

from .content import FAMILY, Block, ContentWriter, mark
from .models import DEFAULT_MAX_TOKENS, Abilities, abilities_of
from .replies import Reading
from .schemas import close_schema, tool_schema
from .thinking import write_thinking

__all__ = ["Written", "cut_model", "encode", "write"]

_MOST_STRICT = 20  # tools; more is a 400
_UNKNOWN_HERE = (
    "seed", "presence_penalty", "frequency_penalty", "logit_bias", "logprobs", "top_logprobs", "verbosity",
    "store", "prompt_cache_key", "prediction", "metadata",
)  # fmt: skip
_ONLY_JSON = "Answer with one valid JSON object and nothing else: no code fence, no text around it."
_TIERS = {"auto": "auto", "default": "standard_only", "standard_only": "standard_only"}


class Written(msgspec.Struct):
    """A body, and what has to be known beside it.

    `adjusted` are the hub's fields whose values were changed to fit, `betas` go into the header
    `anthropic-beta`, and `reading` is for the reader of the reply.
    """

    body: dict[str, Any]
    adjusted: list[str] = []
    betas: list[str] = []
    reading: Reading = msgspec.field(default_factory=Reading)


def encode(written: Written, *, model: str, stream: bool) -> bytes:
    """Give the body as Anthropic's own API takes it."""
    head: dict[str, Any] = {"model": model}
    if stream:
        head["stream"] = True
    return msgspec.json.encode(head | written.body)


def cut_model(exchange: Exchange) -> bytes:
    """Give the body of a client that speaks Messages without `model` and `stream`, byte for byte else.

    For hosts of Claude that say both elsewhere: nothing has to be translated for them.
    """
    body = splice.remove(exchange.body, exchange.call.members, "model")
    return splice.remove(body, splice.scan(body), "stream")


def write(request: ChatRequest, *, default_max_tokens: int | None = None, unsigned: bool = False) -> Written:
    """Write `request`; what Anthropic cannot be told is noted with `request.drop`.

    `default_max_tokens` bounds the answer where the client did not. `unsigned` sends thinking without a
    signature too, for vendors that do not sign. Raises InvalidRequest for what would silently change
    what the request means: several answers, sound, another vendor's server-side tools.
    """
    _refuse(request)
    abilities = abilities_of(request.model)
    content = ContentWriter(request, unsigned=unsigned)
    texts, turns = hub.system_texts(request.messages)
    system, messages = content.system(texts), content.messages(turns)
    if not messages:
        if not system:
            raise InvalidRequest("messages: say something; every message is empty.", param="messages")
        messages, system = [{"role": "user", "content": system}], []
    written = Written({"max_tokens": request.max_tokens or default_max_tokens or DEFAULT_MAX_TOKENS})
    body = written.body
    body["messages"] = messages
    _write_tools(request, abilities, written)
    system += _write_format(request, abilities, written)
    if system:
        body["system"] = system
    is_forced = body.get("tool_choice", {}).get("type") in ("any", "tool")
    write_thinking(request, abilities, body, is_forced=is_forced, is_broken=_lacks_thinking(messages))
    if request.max_tokens is not None and body["max_tokens"] != request.max_tokens:
        written.adjusted.append("max_tokens")
    _write_sampling(request, abilities, written)
    _write_rest(request, body)
    written.betas += sorted(content.betas)
    return written


def _refuse(request: ChatRequest) -> None:
    if request.n is not None and request.n > 1:
        raise InvalidRequest("n: this model gives one answer a request; send 1.", param="n")
    if request.audio is not None or "audio" in (request.modalities or ()):
        raise InvalidRequest('modalities: this model does not speak; leave "audio" out.', param="modalities")


def _lacks_thinking(messages: list[dict[str, Any]]) -> bool:
    """Say whether the calls that are answered last stand in a turn without its thinking."""
    if len(messages) < 2 or messages[-1]["content"][0]["type"] != "tool_result":
        return False
    first: str = messages[-2]["content"][0]["type"]
    return first not in ("thinking", "redacted_thinking")


# -- tools ---------------------------------------------------------------------------


def _write_tools(request: ChatRequest, abilities: Abilities, written: Written) -> None:
    choice, tools = request.tool_choice, request.tools
    if choice is not None and choice.mode == "named" and len(choice.names) > 1:
        tools = [tool for tool in tools if tool.name in choice.names]
    is_strict = abilities.structured and sum(tool.strict is True for tool in tools) <= _MOST_STRICT
    blocks = [_write_tool(tool, index, is_strict=is_strict) for index, tool in enumerate(tools)]
    blocks += _server_tools(request)
    if not blocks:
        return
    written.body["tools"] = blocks
    written.reading.custom = frozenset(tool.name for tool in tools if tool.custom)
    wanted: dict[str, Any] | None = None
    if choice is not None:
        if choice.mode == "named" and len(choice.names) == 1:
            wanted = {"type": "tool", "name": choice.names[0]}
        else:
            wanted = {"type": {"auto": "auto", "none": "none"}.get(choice.mode, "any")}
    if request.parallel_tool_calls is False and (wanted is None or wanted["type"] != "none"):
        wanted = {**(wanted or {"type": "auto"}), "disable_parallel_tool_use": True}
    if wanted is not None:
        written.body["tool_choice"] = wanted


def _write_tool(tool: Tool, index: int, *, is_strict: bool) -> Block:
    block: Block = {"name": tool.name}
    if tool.description:
        block["description"] = tool.description
    if tool.custom:  # free text becomes the one argument of a function; the reader takes it out again
        about = "The whole input, as plain text."
        if tool.grammar is not None:
            about += f" It must match this grammar: {msgspec.json.encode(tool.grammar).decode()}"
        text = {"type": "string", "description": about}
        block["input_schema"] = {"type": "object", "properties": {"input": text}, "required": ["input"]}
    elif is_strict and tool.strict:
        param = f"tools[{index}].function.parameters"
        block["input_schema"] = tool_schema(close_schema(tool.schema, param=param))
        block["strict"] = True
    else:
        block["input_schema"] = tool_schema(tool.schema)
    return mark(block, tool.cache)


def _server_tools(request: ChatRequest) -> list[Block]:
    if request.family == FAMILY:
        return [*request.server_tools]
    blocks: list[Block] = []
    for index, tool in enumerate(request.server_tools):
        kind = str(tool.get("type"))
        if not kind.startswith("web_search"):
            raise InvalidRequest(
                f"tools[{index}].type: {kind!r} runs at another vendor only. "
                "Leave it out, or choose a model of that vendor.",
                param=f"tools[{index}].type",
            )
        blocks.append(_web_search(tool))
    if request.web_search is not None and not blocks:
        blocks.append(_web_search(request.web_search))
    return blocks[:1]


def _web_search(options: dict[str, Any]) -> Block:
    block: Block = {"type": "web_search_20250305", "name": "web_search"}
    place = options.get("user_location")
    if isinstance(place, dict):
        place = place.get("approximate", place)
        known = {name: place[name] for name in ("city", "region", "country", "timezone") if place.get(name)}
        if known:
            block["user_location"] = {"type": "approximate", **known}
    return block


# -- format --------------------------------------------------------------------------


def _write_format(request: ChatRequest, abilities: Abilities, written: Written) -> list[Block]:
    """Ask for JSON; gives what has to be said in the system prompt."""
    wish, body = request.output_format, written.body
    if wish is None:
        return []
    if wish.mode == "json_object" or wish.schema is None:
        return [{"type": "text", "text": _ONLY_JSON}]
    if abilities.structured:
        schema = close_schema(wish.schema, param="response_format.json_schema.schema")
        body["output_config"] = {"format": {"type": "json_schema", "schema": schema}}
        return []
    names = {tool["name"] for tool in body.get("tools", ())}
    name = next(one for one in ("json", "json_answer", "json_answer_") if one not in names)
    about = wish.description or "Give the answer to the user. Call this once, with the whole answer."
    tool = {"name": name, "description": about, "input_schema": tool_schema(wish.schema)}
    body["tools"] = [*body.get("tools", ()), tool]
    only = {"type": "tool", "name": name}
    may_call = names and body.get("tool_choice", {}).get("type") != "none"
    body["tool_choice"] = {**({"type": "any"} if may_call else only), "disable_parallel_tool_use": True}
    written.reading.json_tool = name
    return []


# -- everything else -----------------------------------------------------------------


def _write_sampling(request: ChatRequest, abilities: Abilities, written: Written) -> None:
    body = written.body
    thinks = body.get("thinking", {}).get("type") in ("enabled", "adaptive")
    temperature, top_p = request.temperature, request.top_p
    if not abilities.sampling or thinks:
        if temperature == 1 and abilities.sampling:
            body["temperature"] = 1.0
        elif temperature is not None and temperature != 1:
            request.drop("temperature")
        if top_p is not None and top_p < 1:
            request.drop("top_p")
        request.drop_if_set("top_k")
        return
    if temperature is not None:
        body["temperature"] = min(max(temperature, 0.0), 1.0)
        if body["temperature"] != temperature:
            written.adjusted.append("temperature")
        if top_p is not None and top_p < 1:
            request.drop("top_p")  # the two together are refused
    elif top_p is not None:
        body["top_p"] = min(max(top_p, 0.0), 1.0)
    if request.top_k is not None:
        body["top_k"] = request.top_k


def _write_rest(request: ChatRequest, body: dict[str, Any]) -> None:
    stops = [stop for stop in request.stop if stop.strip()]
    if stops:
        body["stop_sequences"] = stops
    if len(stops) != len(request.stop):
        request.drop("stop")
    if user := request.user or request.safety_identifier:
        body["metadata"] = {"user_id": user}
    if request.service_tier in _TIERS:
        body["service_tier"] = _TIERS[request.service_tier]
    elif request.service_tier is not None:
        request.drop("service_tier")
    request.drop_if_set(*_UNKNOWN_HERE)
    if request.family == FAMILY:
        body.update(request.extra)
        request.dropped = [name for name in request.dropped if name not in request.extra]
    else:
        for name in request.extra:
            request.drop(name)
