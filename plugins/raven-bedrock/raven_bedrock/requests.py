"""Writes Converse requests from the hub's chat.

Responsible for turns, system texts, what is dropped and what is refused. Parts are written by `contents`,
tools by `tools`, thinking and sampling by `thinking`.
"""

from __future__ import annotations

import msgspec

from raven_proxy import hub
from raven_proxy.errors import InvalidRequest

from .contents import Block, Blocks
from .models import Model
from .thinking import inference_config, plan_thinking
from .tools import ToolPlan, plan_tools

__all__ = ["ConverseRequest", "write_request"]

_NEVER = (
    "seed", "presence_penalty", "frequency_penalty", "logit_bias", "logprobs", "top_logprobs", "verbosity",
    "store", "prompt_cache_key", "safety_identifier", "prediction", "user",
)  # fmt: skip
# Bedrock's own words, which a client may send beside those of its dialect.
_EXTRA = frozenset(
    "additionalModelRequestFields additionalModelResponseFieldPaths guardrailConfig performanceConfig "
    "promptVariables requestMetadata serviceTier".split()
)
_TIERS = {"priority": "priority", "default": "default", "flex": "flex", "reserved": "reserved"}
_BEGIN = "Begin."  # Bedrock wants the user to speak first


class ConverseRequest(msgspec.Struct):
    """The body, and what the reply's reader must know of it.

    `adjusted` are the client's words for what was sent with another value.
    """

    body: bytes
    json_tool: str | None = None
    titles: dict[str, str] = {}
    adjusted: list[str] = []


def write_request(request: hub.ChatRequest, model: Model) -> ConverseRequest:
    """Write a request; what is lost is noted in `request.dropped`. Raises InvalidRequest."""
    _refuse(request)
    try:
        return _write(request, model)
    except RecursionError:
        raise InvalidRequest("The request is nested too deeply.", param="body") from None


def _write(request: hub.ChatRequest, model: Model) -> ConverseRequest:
    blocks = Blocks(request, model)
    plan = plan_tools(request, model, blocks)
    body: Block = {"messages": _write_turns(request, blocks)}
    if system := _write_system(request, blocks, plan):
        if body["messages"]:
            body["system"] = system
        else:  # a system text alone is a question all the same
            body["messages"] = [{"role": "user", "content": system}]
    if not body["messages"]:
        raise InvalidRequest("messages: there is no text in any of them.", param="messages")
    adjusted: list[str] = []
    thinking = plan_thinking(request, model, plan, adjusted)
    config, sampling = inference_config(request, model, adjusted, thinks=bool(thinking))
    if config:
        body["inferenceConfig"] = config
    if plan.config is not None:
        body["toolConfig"] = plan.config
    if plan.output is not None:
        body["outputConfig"] = plan.output
    if fields := {**sampling, **thinking, **plan.fields}:
        body["additionalModelRequestFields"] = fields
    request.drop_if_set(*_NEVER)
    _write_extra(request, body)
    words = [request.names.get(name, name) for name in adjusted]
    return ConverseRequest(msgspec.json.encode(body), plan.json_tool, blocks.titles, words)


def _refuse(request: hub.ChatRequest) -> None:
    """Refuse what would be something else if it were dropped."""
    if request.n is not None and request.n > 1:
        raise InvalidRequest(
            "n: Bedrock gives one answer to a request; leave it out, or send several.", param="n"
        )
    if request.audio is not None or "audio" in (request.modalities or ()):
        raise InvalidRequest("modalities: Bedrock's Converse does not answer in audio.", param="modalities")
    if request.web_search is not None:
        name = request.names.get("web_search", "web_search_options")
        raise InvalidRequest(f"{name}: Bedrock cannot search the web; choose another model.", param=name)


def _write_turns(request: hub.ChatRequest, blocks: Blocks) -> list[Block]:
    """Write the turns: user first, in alternation, results right behind their calls, nothing blank."""
    _, said = hub.system_texts(request.messages)
    turns: list[tuple[str, list[Block]]] = []
    for message in hub.pair_tool_results(said):
        role = "assistant" if message.role == "assistant" else "user"
        content = blocks.write_turn(message)
        if not content:
            continue
        if turns and turns[-1][0] == role:
            turns[-1][1].extend(content)
        else:
            turns.append((role, content))
    if turns and turns[0][0] == "assistant":
        turns.insert(0, ("user", [{"text": _BEGIN}]))
    for role, content in turns:
        if role == "user":
            _results_first(content)
    if turns and turns[-1][0] == "assistant" and "text" in turns[-1][1][-1]:
        last = turns[-1][1][-1]
        last["text"] = last["text"].rstrip()  # refused at the very end
    return [{"role": role, "content": content} for role, content in turns]


def _results_first(content: list[Block]) -> None:
    """Put tool results, with the cache points behind them, before all else in a user's turn."""
    if not any("toolResult" in block for block in content[1:]):
        return
    results: list[Block] = []
    others: list[Block] = []
    for block in content:
        if "toolResult" in block:
            target = results
        elif "cachePoint" not in block:
            target = others
        target.append(block)
    content[:] = results + others


def _write_system(request: hub.ChatRequest, blocks: Blocks, plan: ToolPlan) -> list[Block]:
    texts, _ = hub.system_texts(request.messages)
    system: list[Block] = []
    for part in texts:
        if part.text.strip():
            system += [{"text": part.text}, *blocks.cache_point(part.cache)]
    if plan.instruction is not None:
        system.append({"text": plan.instruction})
    return system


def _write_extra(request: hub.ChatRequest, body: Block) -> None:
    if request.service_tier is not None:
        tier = _TIERS.get(request.service_tier)
        if tier is not None:
            body["serviceTier"] = {"type": tier}
        elif request.service_tier != "auto":
            request.drop("service_tier")
    if request.metadata:
        request.drop("metadata")
    for name, value in request.extra.items():
        if name not in _EXTRA:
            request.drop(name)
            continue
        if name in request.dropped:  # for the client's reader nobody knows it
            request.dropped.remove(name)
        if name == "additionalModelRequestFields" and isinstance(value, dict):
            body[name] = {**body.get(name, {}), **value}
        else:
            body[name] = value
