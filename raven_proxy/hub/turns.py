"""Arranging turns as a vendor wants them: merged, paired, alternating. Nothing is lost or invented."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from raven_proxy.errors import InvalidRequest

from .parts import Message, Text, ToolCall, ToolResult

__all__ = ["find_call_names", "merge_neighbours", "pair_tool_results", "parse_arguments", "system_texts"]


def system_texts(messages: Iterable[Message]) -> tuple[list[Text], list[Message]]:
    """Part the system and developer texts, wherever they stand, from the turns; both keep their order."""
    texts: list[Text] = []
    turns: list[Message] = []
    for message in messages:
        if message.role in ("system", "developer"):
            texts += [part for part in message.parts if isinstance(part, Text)]
        else:
            turns.append(message)
    return texts, turns


def find_call_names(messages: Iterable[Message]) -> dict[str, str]:
    """Map each tool call's id to its function's name: for vendors whose results name the function."""
    return {
        part.id: part.name for message in messages for part in message.parts if isinstance(part, ToolCall)
    }


def merge_neighbours(messages: Iterable[Message]) -> list[Message]:
    """Merge turns that follow each other and are the same speaker's; tool results are the user's.

    Gives messages of the roles "user" and "assistant" only, in alternation. Tool results come first in
    their turn, because vendors want them right behind the calls.
    """
    merged: list[Message] = []
    for message in messages:
        role = "assistant" if message.role == "assistant" else "user"
        if merged and merged[-1].role == role:
            merged[-1].parts += message.parts
        else:
            merged.append(Message(role=role, parts=[*message.parts], name=message.name))  # type: ignore[arg-type]
    for message in merged:
        if message.role == "user":
            message.parts.sort(key=lambda part: not isinstance(part, ToolResult))  # stable
    return merged


def pair_tool_results(messages: list[Message]) -> list[Message]:
    """Put each result right behind the turn that called for it, in the order of the calls.

    Raises InvalidRequest for a result that nobody called for, and leaves calls without a result alone.
    """
    results = {
        part.call_id: message
        for message in messages
        for part in message.parts
        if message.role == "tool" and isinstance(part, ToolResult)
    }
    called = find_call_names(messages)
    for call_id in results:
        if call_id not in called:
            raise InvalidRequest(
                f"messages: there is a tool result for {call_id!r}, but no call of that id before it.",
                param="messages",
            )
    arranged: list[Message] = []
    for message in messages:
        if message.role == "tool":
            continue
        arranged.append(message)
        if message.role == "assistant":
            ids = [part.id for part in message.parts if isinstance(part, ToolCall)]
            arranged += [results.pop(one) for one in ids if one in results]
    return arranged


def parse_arguments(arguments: str) -> dict[str, Any]:
    """Read a tool call's arguments for a vendor that wants an object.

    Text that is no JSON object (models write such) becomes `{}` if it is empty, else `{"arguments": text}`:
    the conversation can go on, and nothing is lost.
    """
    if not arguments.strip():
        return {}
    try:
        found = msgspec.json.decode(arguments)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        found = None
    return found if isinstance(found, dict) else {"arguments": arguments}
