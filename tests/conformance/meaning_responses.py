"""What recorded replies of OpenAI's Responses mean."""

from __future__ import annotations

from typing import Any

import msgspec

from .meaning import Answer, Call, Json, Meaning, Tokens, read_arguments, read_events

__all__ = ["add_item", "read_responses", "read_status"]

_ENDS = ("response.completed", "response.incomplete", "response.failed")


def read_responses(body: bytes, *, streaming: bool) -> Meaning:
    """Read a response; of a stream its items when they are done, and its last event."""
    if not streaming:
        document = msgspec.json.decode(body)
        return _read(document, document.get("output") or ())
    items: list[Json] = []
    for _, event in read_events(body):
        if event.get("type") == "response.output_item.done":
            items.append(event["item"])
        elif event.get("type") == "error" or event.get("type") is None:
            error = event.get("error") or event
            return Meaning(error=str(error.get("message")))
        elif event.get("type") in _ENDS:
            return _read(event["response"], items or event["response"].get("output") or ())
    raise AssertionError("the recording has no end")


def _read(response: Json, items: Any) -> Meaning:
    meaning = Meaning(answers=[Answer()])
    answer = meaning.answers[0]
    for item in items:
        add_item(answer, item)
    answer.finish = read_status(response, has_calls=bool(answer.calls))
    if response.get("error"):
        meaning.error = str(response["error"].get("message"))
    if usage := response.get("usage"):
        sent, made = usage.get("input_tokens_details") or {}, usage.get("output_tokens_details") or {}
        meaning.usage = Tokens(
            prompt=usage["input_tokens"],
            completion=usage["output_tokens"],
            cached=sent.get("cached_tokens") or 0,
            cache_write=sent.get("cache_write_tokens") or 0,
            reasoning=made.get("reasoning_tokens") or 0,
        )
    return meaning


def add_item(answer: Answer, item: Json) -> None:
    """Add one output item; what tools of the vendor's did is not the client's to answer."""
    match item.get("type"):
        case "message":
            for part in item.get("content") or ():
                answer.text += part.get("text") or "" if part["type"] == "output_text" else ""
                answer.refusal += part.get("refusal") or "" if part["type"] == "refusal" else ""
                answer.links += len([a for a in part.get("annotations") or () if a["type"] == "url_citation"])
        case "reasoning":
            # The thinking itself where it is shown, else its summary.
            texts = [part.get("text") or "" for part in item.get("content") or ()]
            texts = texts or [part.get("text") or "" for part in item.get("summary") or ()]
            answer.reasoning += "".join(texts)
        case "function_call":
            answer.calls.append(Call(item["name"], read_arguments(item["arguments"]), item["call_id"]))
        case "custom_tool_call":
            answer.calls.append(Call(item["name"], item["input"], item["call_id"]))


def read_status(response: Json, *, has_calls: bool) -> str | None:
    """Give the finish reason that a status stands for."""
    match response.get("status"):
        case "completed":
            return "tool_calls" if has_calls else "stop"
        case "incomplete":
            reason = (response.get("incomplete_details") or {}).get("reason")
            return {"max_output_tokens": "length"}.get(reason, reason)
        case "failed":
            return "error"
    return None
