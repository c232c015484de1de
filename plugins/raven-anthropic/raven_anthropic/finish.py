"""Why a reply ended: Anthropic's `stop_reason` and the hub's finish, both ways."""

from __future__ import annotations

from raven_proxy.hub import Finish

__all__ = ["finish_of", "stop_reason_of"]

_FINISH: dict[str, Finish] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "compaction": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
_STOP_REASONS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
    "error": "end_turn",  # there is no word for it
}


def finish_of(stop_reason: str | None, *, has_calls: bool = False, has_json: bool = False) -> Finish:
    """Give the hub's word; an unknown reason is a stop.

    `has_calls`: the reply calls the client's tools; some vendors end such a turn like any other.
    `has_json`: the call was the gateway's own way to ask for JSON, and the client knows no tool.
    """
    finish = _FINISH.get(stop_reason or "", "stop")
    if has_calls and stop_reason in ("end_turn", None):
        return "tool_calls"
    if finish == "tool_calls" and has_json and not has_calls:
        return "stop"
    return finish


def stop_reason_of(finish: Finish, native: str | None, stop_sequence: str | None) -> str:
    """Give Anthropic's word: the vendor's own where it is one of Anthropic's and means the same."""
    if native is not None and _FINISH.get(native) == finish:
        return native
    if finish == "stop" and stop_sequence is not None:
        return "stop_sequence"
    return _STOP_REASONS[finish]
