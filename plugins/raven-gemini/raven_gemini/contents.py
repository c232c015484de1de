"""The conversation as Google's `contents`: two speakers in turn, calls with their signatures and ids.

What Google asks for: only the roles "user" and "model", one after the other; the results of a turn's calls
right behind it and named after their functions; on Gemini 3 a signature on the first call of each turn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from raven_proxy import hub

from .media import write_audio, write_file, write_image
from .models import Traits
from .reading import DIALECT, GOOGLE
from .results import write_result
from .signatures import SKIP

__all__ = ["Conversation", "write_contents"]

Json = dict[str, Any]


class Conversation(msgspec.Struct, frozen=True):
    """What has to be known beside the messages. `recall` finds a lost signature by its call's id."""

    traits: Traits
    is_vertex: bool = False
    recall: Callable[[str], str | None] = lambda _: None


_BEGIN = "Begin."  # Google wants the user to speak first


def write_contents(messages: Iterable[hub.Message], known: Conversation) -> tuple[list[Json], list[Json]]:
    """Write (system parts, contents). Raises InvalidRequest for a result that nobody called for."""
    texts, turns = hub.system_texts(messages)
    names = hub.find_call_names(turns)
    system = [{"text": text.text} for text in texts if text.text]
    contents: list[Json] = []
    for turn in hub.merge_neighbours(hub.pair_tool_results(turns)):
        is_model = turn.role == "assistant"
        parts = _write_answer(turn, known) if is_model else _write_question(turn, known, names)
        if not parts:
            continue
        role = "model" if is_model else "user"
        if contents and contents[-1]["role"] == role:  # an empty turn between them is gone
            contents[-1]["parts"] += parts
        else:
            contents.append({"role": role, "parts": parts})
    if system and (not contents or not known.traits.system):
        # There is no request without a question, and Gemma has no place for instructions.
        if contents and contents[0]["role"] == "user":
            contents[0]["parts"] = [*system, *contents[0]["parts"]]
        else:
            contents.insert(0, {"role": "user", "parts": system})
        system = []
    if contents and contents[0]["role"] == "model":
        contents.insert(0, {"role": "user", "parts": [{"text": _BEGIN}]})
    return system, contents


def _write_question(turn: hub.Message, known: Conversation, names: Mapping[str, str]) -> list[Json]:
    parts: list[Json] = []
    shown: list[Json] = []  # of results, for models whose results are text alone
    for part in turn.parts:
        if isinstance(part, hub.ToolResult):
            result, beside = write_result(part, names, known.traits, is_vertex=known.is_vertex)
            parts.append(result)
            shown += beside
        elif (written := _write_part(part, known)) is not None:
            shown.append(written)
    return parts + shown


def _write_answer(turn: hub.Message, known: Conversation) -> list[Json]:
    parts: list[Json] = []
    loose: list[str] = []  # signatures of text
    signed = False
    for part in turn.parts:
        if isinstance(part, hub.Reasoning):
            if part.format == GOOGLE:
                if part.text:
                    parts.append({"text": part.text, "thought": True})
                if part.signature:
                    loose.append(part.signature)
        elif isinstance(part, hub.ToolCall):
            call, signature = _write_call(part, known)
            signed = signed or signature is not None
            parts.append(call)
        elif (written := _write_part(part, known)) is not None:
            parts.append(written)
    if known.traits.is_third and not signed:
        first = next((part for part in parts if "functionCall" in part), None)
        if first is not None:
            first["thoughtSignature"] = SKIP
    for signature in loose:
        _sign_text(parts, signature)
    return parts


def _write_call(call: hub.ToolCall, known: Conversation) -> tuple[Json, str | None]:
    arguments = {"input": call.arguments} if call.custom else hub.parse_arguments(call.arguments)
    inner: Json = {"name": call.name, "args": arguments}
    if known.traits.is_third and call.id:
        inner["id"] = call.id
    written: Json = {"functionCall": inner}
    signature = call.signature if call.format == GOOGLE else None
    signature = signature or known.recall(call.id)
    if signature:
        written["thoughtSignature"] = signature
    return written, signature


def _sign_text(parts: list[Json], signature: str) -> None:
    """Put a text's signature back on a text without one; else on an empty one, as streams have it."""
    for part in reversed(parts):
        if "text" in part and not part.get("thought") and "thoughtSignature" not in part:
            part["thoughtSignature"] = signature
            return
    parts.append({"text": "", "thoughtSignature": signature})


def _write_part(part: hub.Part, known: Conversation) -> Json | None:
    """Write what either speaker can say; None where nothing is left of it."""
    if isinstance(part, hub.Text | hub.Refusal):
        return {"text": part.text} if part.text else None
    if isinstance(part, hub.Image):
        return write_image(part, is_vertex=known.is_vertex)
    if isinstance(part, hub.File):
        return write_file(part, is_vertex=known.is_vertex)
    if isinstance(part, hub.Audio):
        return write_audio(part, is_vertex=known.is_vertex)
    if isinstance(part, hub.ServerTool) and part.dialect == DIALECT:
        return dict(part.native)
    return None
