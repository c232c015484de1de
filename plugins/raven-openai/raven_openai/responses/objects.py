"""The Response object of a translated reply: its frame, the echo of what was asked, and whole replies.

What the client set is echoed in its own bytes; what it left out has OpenAI's defaults, but `store`, which
is false: nothing is stored here.
"""

from __future__ import annotations

import time
from typing import Any

import msgspec

from raven_proxy import hub
from raven_proxy.errors import GatewayError
from raven_proxy.exchange import Exchange, Usage

from .output import (
    annotation_of,
    call_item,
    image_item,
    logprobs_of,
    message_item,
    reasoning_item,
    refusal_part,
    text_part,
    usage_of,
)
from .requests import NAMESPACES
from .thoughts import belongs_to, name_of, wrap

__all__ = ["Frame", "error_of", "failed_response", "item_id", "response_id", "status_of", "write_reply"]

_ECHOED = (
    "instructions max_output_tokens max_tool_calls metadata parallel_tool_calls prompt_cache_key "
    "safety_identifier temperature tool_choice tools top_logprobs top_p truncation user".split()
)
_DEFAULTS: dict[str, Any] = {
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "prompt_cache_key": None,
    "safety_identifier": None,
    "temperature": None,
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": None,
    "truncation": "disabled",
    "user": None,
}
_TIERS = frozenset({"auto", "default", "flex", "scale", "priority"})
_ERRORS = {429: "rate_limit_exceeded", 400: "invalid_prompt"}


def response_id(request_id: str) -> str:
    """Name the response that answers a request of the gateway's ("req_…")."""
    return "resp_" + request_id.removeprefix("req_")


def item_id(prefix: str, request_id: str, index: int) -> str:
    """Name an item of that response."""
    return f"{prefix}_{request_id.removeprefix('req_')}{index:04x}"


def status_of(finish: str) -> tuple[str, dict[str, Any] | None]:
    """Give a response's status for a finish reason, and `incomplete_details`."""
    if finish == "length":
        return "incomplete", {"reason": "max_output_tokens"}
    if finish == "content_filter":
        return "incomplete", {"reason": "content_filter"}
    return ("failed", None) if finish == "error" else ("completed", None)


class Frame:
    """What all Response objects of one reply have in common."""

    def __init__(self, exchange: Exchange, model: str, created: int, tier: str | None) -> None:
        now = int(time.time())
        candidate = exchange.candidate
        asked = candidate.model if candidate is not None else None
        self._head: dict[str, Any] = {
            "id": response_id(exchange.id),
            "object": "response",
            "created_at": created or now,
        }
        self._rest: dict[str, Any] = {
            "model": model or asked or exchange.call.model or "",
            "background": False,
            "previous_response_id": None,
            "store": False,
            "service_tier": tier if tier in _TIERS else None,
            **_echo(exchange),
        }

    def render(
        self,
        status: str,
        output: list[Any],
        *,
        usage: Usage | None = None,
        details: dict[str, Any] | None = None,
        error: dict[str, Any] | None = None,
    ) -> bytes:
        """Write the object in one of its states."""
        is_over = status != "in_progress"
        return msgspec.json.encode(
            {
                **self._head,
                "status": status,
                "completed_at": int(time.time()) if status == "completed" else None,
                "error": error,
                "incomplete_details": details,
                "output": output,
                **self._rest,
                "usage": usage_of(usage or Usage()) if is_over else None,
            }
        )


def _echo(exchange: Exchange) -> dict[str, Any]:
    body, members = exchange.body, exchange.call.members
    told = dict(_DEFAULTS)
    for name in _ECHOED:
        if name in members and (value := body[slice(*members[name])]) != b"null":
            told[name] = msgspec.Raw(value)
    told["text"] = _echo_object(exchange, "text") or {}
    told["text"].setdefault("format", {"type": "text"})
    told["reasoning"] = {"effort": None, "summary": None, **(_echo_object(exchange, "reasoning") or {})}
    return told


def _echo_object(exchange: Exchange, name: str) -> dict[str, Any] | None:
    span = exchange.call.members.get(name)
    if span is None:
        return None
    found: dict[str, Any] | None = msgspec.json.decode(
        exchange.body[slice(*span)], type=dict[str, msgspec.Raw] | None
    )
    return {key: value for key, value in (found or {}).items() if bytes(value) != b"null"}


def error_of(error: GatewayError) -> dict[str, Any]:
    """Give the `error` of a failed response, in one of the codes that clients know."""
    return {"code": _ERRORS.get(error.status, "server_error"), "message": error.message}


def failed_response(error: GatewayError, request_id: str) -> bytes:
    """Write the object of a response that failed, of which nothing but the request's id is known."""
    return msgspec.json.encode(
        {
            "id": response_id(request_id),
            "object": "response",
            "created_at": int(time.time()),
            "status": "failed",
            "completed_at": None,
            "error": error_of(error),
            "incomplete_details": None,
            "output": [],
            "model": "",
            "background": False,
            "previous_response_id": None,
            "store": False,
            "service_tier": None,
            **_DEFAULTS,
            "text": {"format": {"type": "text"}},
            "reasoning": {"effort": None, "summary": None},
            "usage": None,
        }
    )


# -- whole replies -------------------------------------------------------------------


def write_reply(reply: hub.ChatReply, exchange: Exchange) -> bytes:
    """Write a whole reply of the hub as a Response object."""
    choice = reply.choices[0] if reply.choices else hub.Choice()
    status, details = status_of(choice.finish)
    output = _Output(exchange, logprobs_of(choice.logprobs)).make(choice.parts)
    if output and status == "incomplete" and output[-1]["type"] != "image_generation_call":
        output[-1]["status"] = "incomplete"
    frame = Frame(exchange, reply.model, reply.created, reply.service_tier)
    error = None
    if status == "failed":
        error = {"code": "server_error", "message": f"The model stopped: {choice.native_finish or 'error'}."}
    return frame.render(status, output, usage=reply.usage, details=details, error=error)


class _Output:
    """Makes the items of a whole reply."""

    def __init__(self, exchange: Exchange, logprobs: list[dict[str, Any]]) -> None:
        self._id = exchange.id
        self._names: dict[str, tuple[str, str]] = exchange.notes.get(NAMESPACES, {})
        self._logprobs = logprobs  # of the first text
        self._items: list[dict[str, Any]] = []

    def make(self, parts: list[hub.Part]) -> list[dict[str, Any]]:
        calls = 0
        thought: hub.Reasoning | None = None
        for part in parts:
            if isinstance(part, hub.Reasoning):
                self._add_reasoning(part, thought)
                thought = part
                continue
            thought = None
            if isinstance(part, hub.ToolCall):
                self._add_call(part, calls)
                calls += 1
            elif isinstance(part, hub.Image) and part.media.data is not None:
                media = part.media
                self._items.append(image_item(self._new_id("ig"), media.data, media.media_type))
            elif not isinstance(part, hub.ServerTool):
                self._add_content(part)
        return self._items

    def _new_id(self, prefix: str) -> str:
        return item_id(prefix, self._id, len(self._items))

    def _add_reasoning(self, part: hub.Reasoning, before: hub.Reasoning | None) -> None:
        texts = [part.text] if part.text else []
        if before is not None and belongs_to(part, before):
            item = self._items[-1]
            item["summary"] += [{"type": "summary_text", "text": text} for text in texts]
            if (sealed := wrap(part)) is not None:
                item["encrypted_content"] = sealed
            return
        name = name_of(part) or self._new_id("rs")
        self._items.append(reasoning_item(name, "completed", texts, wrap(part)))

    def _add_call(self, part: hub.ToolCall, index: int) -> None:
        namespace, name = self._names.get(part.name, (None, part.name))
        self._items.append(
            call_item(
                self._new_id("ctc" if part.custom else "fc"),
                "completed",
                part.id or item_id("call", self._id, index),
                name,
                part.arguments,
                custom=part.custom,
                namespace=namespace,
            )
        )

    def _add_content(self, part: hub.Part) -> None:
        if isinstance(part, hub.Refusal):
            made = refusal_part(part.text)
        elif isinstance(part, hub.Text):
            if not part.text and not part.annotations:
                return
            notes = [annotation_of(one, len(part.text)) for one in part.annotations]
            made = text_part(part.text, notes, self._logprobs)
            self._logprobs = []
        elif isinstance(part, hub.Audio):
            made = text_part(part.transcript or "", [], [])  # clients of this API cannot ask for sound
        elif isinstance(part, hub.Image):
            made = text_part(f"![image]({part.media.url or ''})", [], [])
        else:
            return
        if not self._items or self._items[-1]["type"] != "message":
            self._items.append(message_item(self._new_id("msg"), "completed", []))
        self._items[-1]["content"].append(made)
