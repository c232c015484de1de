"""A model that calls one tool and then says what it read: in each vendor's dialect, streamed or whole.

For tests of agents and tool loops: what `MockUpstream.handler` is set to.
"""

from __future__ import annotations

from typing import Any

import msgspec

from raven_proxy.mock import ScriptedReply, Seen

from .meaning import Json

__all__ = ["ScriptedModel"]


class ScriptedModel:
    """Calls `tool` with `arguments` until it sees a result, and then says `text`.

    `results` keeps the tool results that it was sent, as text; `tools` the names that it was offered.
    """

    def __init__(self, tool: str, arguments: Json, text: str) -> None:
        self.tool = tool
        self.arguments = arguments
        self.text = text
        self.results: list[str] = []
        self.tools: list[str] = []

    async def answer(self, seen: Seen) -> ScriptedReply | None:
        """Answer a request by its path."""
        request = seen.json
        if not isinstance(request, dict):
            return ScriptedReply(status=200)
        if seen.path.endswith("/messages"):
            return self._reply(request, self._anthropic, [_results_of_messages(request)])
        if seen.path.endswith("/chat/completions"):
            return self._reply(request, self._chat, [_results_of_chat(request)])
        if seen.path.endswith("/responses"):
            return self._reply(request, self._responses, [_results_of_responses(request)])
        return ScriptedReply(status=404)

    def _reply(self, request: Json, write: Any, results: list[list[str]]) -> ScriptedReply:
        [found] = results
        self.results += found
        self.tools += [name for tool in request.get("tools") or () for name in _names(tool)]
        stream = bool(request.get("stream"))
        is_asked = any(self.tool in _names(tool) for tool in request.get("tools") or ())
        body = write(is_calling=is_asked and not found, stream=stream)
        kind = "text/event-stream" if stream else "application/json"
        return ScriptedReply(headers={"Content-Type": kind}, chunks=body)

    def _arguments(self) -> str:
        return msgspec.json.encode(self.arguments).decode()

    def _anthropic(self, *, is_calling: bool, stream: bool) -> list[bytes]:
        block: Json = {"type": "text", "text": self.text}
        if is_calling:
            block = {"type": "tool_use", "id": "toolu_scripted", "name": self.tool, "input": self.arguments}
        reason = "tool_use" if is_calling else "end_turn"
        head = {"id": "msg_scripted", "type": "message", "role": "assistant", "model": "scripted"}
        usage = {"input_tokens": 10, "output_tokens": 5}
        whole = head | {"content": [block], "stop_reason": reason, "stop_sequence": None, "usage": usage}
        if not stream:
            return [msgspec.json.encode(whole)]
        empty = block | ({"input": {}} if is_calling else {"text": ""})
        delta: Json = {"type": "text_delta", "text": self.text}
        if is_calling:
            delta = {"type": "input_json_delta", "partial_json": self._arguments()}
        start = head | {"content": [], "stop_reason": None, "stop_sequence": None, "usage": usage}
        return _named(
            [
                {"type": "message_start", "message": start},
                {"type": "content_block_start", "index": 0, "content_block": empty},
                {"type": "content_block_delta", "index": 0, "delta": delta},
                {"type": "content_block_stop", "index": 0},
                {"type": "message_delta", "usage": usage}
                | {"delta": {"stop_reason": reason, "stop_sequence": None}},
                {"type": "message_stop"},
            ]
        )

    def _chat(self, *, is_calling: bool, stream: bool) -> list[bytes]:
        function = {"name": self.tool, "arguments": self._arguments()}
        call = {"id": "call_scripted", "type": "function", "function": function}
        said: Json = {"role": "assistant", "content": None if is_calling else self.text}
        said |= {"tool_calls": [call | {"index": 0}]} if is_calling else {}
        reason = "tool_calls" if is_calling else "stop"
        usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
        head = {"id": "chatcmpl-scripted", "created": 1, "model": "scripted"}
        if not stream:
            choice = {"index": 0, "message": said, "finish_reason": reason, "logprobs": None}
            return [
                msgspec.json.encode(head | {"object": "chat.completion", "choices": [choice], "usage": usage})
            ]
        choices = [[{"index": 0, "delta": said, "finish_reason": None}]]
        choices += [[{"index": 0, "delta": {}, "finish_reason": reason}], []]
        chunks: list[Json] = [head | {"object": "chat.completion.chunk", "choices": one} for one in choices]
        chunks[-1]["usage"] = usage
        return [*(b"data: %b\n\n" % msgspec.json.encode(chunk) for chunk in chunks), b"data: [DONE]\n\n"]

    def _responses(self, *, is_calling: bool, stream: bool) -> list[bytes]:
        part = {"type": "output_text", "text": self.text, "annotations": []}
        item: Json = {"type": "message", "id": "msg_scripted", "role": "assistant", "content": [part]}
        if is_calling:
            item = {"type": "function_call", "id": "fc_scripted", "call_id": "call_scripted"}
            item |= {"name": self.tool, "arguments": self._arguments()}
        item["status"] = "completed"
        details = {
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens_details": {"reasoning_tokens": 0},
        }
        usage = {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15} | details
        head: Json = {"id": "resp_scripted", "object": "response", "created_at": 1, "model": "scripted"}
        head |= {"parallel_tool_calls": True, "tool_choice": "auto", "tools": []}
        done = head | {"status": "completed", "output": [item], "usage": usage}
        if not stream:
            return [msgspec.json.encode(done)]
        begun = head | {"status": "in_progress", "output": []}
        events: list[Json] = [{"type": "response.created", "response": begun}]
        events.append({"type": "response.in_progress", "response": begun})
        events.append(
            {"type": "response.output_item.added", "output_index": 0, "item": item | _EMPTY[item["type"]]}
        )
        place: Json = {"item_id": item["id"], "output_index": 0}
        if is_calling:
            events.append(
                {"type": "response.function_call_arguments.delta", "delta": item["arguments"]} | place
            )
            events.append(
                {"type": "response.function_call_arguments.done", "arguments": item["arguments"]} | place
            )
        else:
            place["content_index"] = 0
            events.append({"type": "response.content_part.added", "part": part | {"text": ""}} | place)
            events.append({"type": "response.output_text.delta", "delta": self.text, "logprobs": []} | place)
            events.append({"type": "response.output_text.done", "text": self.text, "logprobs": []} | place)
            events.append({"type": "response.content_part.done", "part": part} | place)
        events.append({"type": "response.output_item.done", "output_index": 0, "item": item})
        events.append({"type": "response.completed", "response": done})
        return _named([event | {"sequence_number": place} for place, event in enumerate(events)])


_EMPTY: dict[str, Json] = {
    "message": {"content": [], "status": "in_progress"},
    "function_call": {"arguments": "", "status": "in_progress"},
}


def _named(events: list[Json]) -> list[bytes]:
    return [b"event: %b\ndata: %b\n\n" % (e["type"].encode(), msgspec.json.encode(e)) for e in events]


def _names(tool: Json) -> list[str]:
    found = tool.get("function", tool).get("name")
    return [found] if found else []


def _text(content: Any) -> str:
    if isinstance(content, list):
        return "".join(part.get("text") or "" for part in content)
    return str(content)


def _results_of_messages(request: Json) -> list[str]:
    blocks = [b for m in request["messages"] if isinstance(m["content"], list) for b in m["content"]]
    return [_text(block["content"]) for block in blocks if block["type"] == "tool_result"]


def _results_of_chat(request: Json) -> list[str]:
    return [_text(m["content"]) for m in request["messages"] if m["role"] == "tool"]


def _results_of_responses(request: Json) -> list[str]:
    items = request["input"] if isinstance(request["input"], list) else []
    return [_text(item["output"]) for item in items if item.get("type") == "function_call_output"]
