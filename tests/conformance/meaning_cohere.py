"""What recorded replies of Cohere's chat (v2) and of Ollama's own chat mean."""

from __future__ import annotations

import msgspec

from .meaning import Answer, Call, Json, Meaning, Tokens, read_arguments, read_events

__all__ = ["read_cohere", "read_ollama"]

_FINISH = {
    "COMPLETE": "stop",
    "STOP_SEQUENCE": "stop",
    "MAX_TOKENS": "length",
    "TOOL_CALL": "tool_calls",
    "ERROR": "error",
    "ERROR_TOXIC": "content_filter",
    "TIMEOUT": "error",
}


def read_cohere(body: bytes, *, streaming: bool) -> Meaning:
    """Read a v2 chat. Tokens are those that the model saw and made, not those that are billed."""
    if not streaming:
        document = msgspec.json.decode(body)
        message = document["message"]
        answer = Answer(finish=_FINISH[document["finish_reason"]], reasoning=message.get("tool_plan") or "")
        for part in message.get("content") or ():
            answer.text += part.get("text") or ""
            answer.reasoning += part.get("thinking") or ""
        for call in message.get("tool_calls") or ():
            function = call["function"]
            answer.calls.append(Call(function["name"], read_arguments(function["arguments"]), call["id"]))
        return Meaning(answers=[answer], usage=_usage(document.get("usage")))
    return _read_stream(body)


def _read_stream(body: bytes) -> Meaning:
    answer = Answer()
    meaning = Meaning(answers=[answer])
    calls: dict[int, Json] = {}
    for name, event in read_events(body):
        message = (event.get("delta") or {}).get("message") or {}
        match event.get("type", name):
            case "content-start" | "content-delta":
                answer.text += message["content"].get("text") or ""
                answer.reasoning += message["content"].get("thinking") or ""
            case "tool-plan-delta":
                answer.reasoning += message["tool_plan"]
            case "tool-call-start":
                calls[event["index"]] = message["tool_calls"]
            case "tool-call-delta":
                more = message["tool_calls"]["function"]["arguments"]
                calls[event["index"]]["function"]["arguments"] += more
            case "message-end":
                answer.finish = _FINISH[event["delta"]["finish_reason"]]
                meaning.usage = _usage(event["delta"].get("usage"))
    for call in calls.values():
        function = call["function"]
        answer.calls.append(Call(function["name"], read_arguments(function["arguments"]), call["id"]))
    return meaning


def _usage(usage: Json | None) -> Tokens | None:
    if not usage:
        return None
    tokens = usage.get("tokens") or usage["billed_units"]
    return Tokens(
        prompt=int(tokens["input_tokens"]),
        completion=int(tokens["output_tokens"]),
        cached=int(usage.get("cached_tokens") or 0),
        reasoning=int(tokens.get("reasoning_tokens") or 0),
    )


def read_ollama(body: bytes) -> Meaning:
    """Read a chat of Ollama's own API: one document a line."""
    answer = Answer()
    meaning = Meaning(answers=[answer])
    for line in body.splitlines():
        document = msgspec.json.decode(line)
        message = document.get("message") or {}
        answer.text += message.get("content") or ""
        answer.reasoning += message.get("thinking") or ""
        for call in message.get("tool_calls") or ():
            function = call["function"]
            answer.calls.append(Call(function["name"], function.get("arguments") or {}, call.get("id")))
        if document.get("done"):
            answer.finish = {"length": "length"}.get(document.get("done_reason"), "stop")
            meaning.usage = Tokens(
                prompt=document.get("prompt_eval_count") or 0, completion=document.get("eval_count") or 0
            )
    if answer.calls:
        answer.finish = "tool_calls"
    return meaning
