"""A client's messages in chat completions → the hub's; nothing is lost, and bad parts are named."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from raven_proxy import hub
from raven_proxy.errors import InvalidRequest

from . import shapes

__all__ = ["mark", "read_turns"]

_FORMATS = {"anthropic": "anthropic", "openai": "openai", "google": "google", "bedrock": "bedrock"}


def read_turns(turns: list[shapes.Turn]) -> list[hub.Message]:
    """Read all messages. Raises InvalidRequest with a `param` like `messages[2].tool_call_id`."""
    pending: list[tuple[str, str]] = []  # (name, id) of deprecated function calls without a result
    return [_read_turn(turn, f"messages[{index}]", pending) for index, turn in enumerate(turns)]


def mark(cache: shapes.Cache | None) -> hub.CacheMark | None:
    """Read `cache_control`."""
    return hub.CacheMark(cache.ttl) if cache is not None else None


def _read_turn(turn: shapes.Turn, place: str, pending: list[tuple[str, str]]) -> hub.Message:
    parts = _read_content(turn.content, f"{place}.content")
    if turn.role == "tool" or turn.role == "function":  # mypy narrows this
        return hub.Message(role="tool", parts=[_read_result(turn, parts, place, pending)])
    if turn.role == "assistant":
        parts = _read_assistant(turn, parts, place, pending)
    if turn.cache_control is not None:
        _mark_last(parts, turn.cache_control)
    return hub.Message(role=turn.role, parts=parts, name=turn.name)


def _mark_last(parts: list[hub.Part], cache: shapes.Cache) -> None:
    for part in reversed(parts):
        if isinstance(part, hub.Text | hub.Image | hub.File | hub.ToolCall):
            part.cache = part.cache or mark(cache)
            return


# -- content -------------------------------------------------------------------------


def _read_content(content: str | list[shapes.ContentPart] | None, place: str) -> list[hub.Part]:
    if isinstance(content, str):
        return [hub.Text(text=content)] if content else []
    return [_read_part(part, f"{place}[{index}]") for index, part in enumerate(content or ())]


def _read_part(part: shapes.ContentPart, place: str) -> hub.Part:
    if isinstance(part, shapes.TextPart):
        return hub.Text(text=part.text, cache=mark(part.cache_control))
    if isinstance(part, shapes.ImagePart):
        image = part.image_url
        url, detail, param = (
            (image, None, f"{place}.image_url")
            if isinstance(image, str)
            else (image.url, image.detail, f"{place}.image_url.url")
        )
        return hub.Image(
            media=hub.media_of_url(url, param=param), detail=detail, cache=mark(part.cache_control)
        )
    if isinstance(part, shapes.AudioPart):
        return _read_audio(part, place)
    if isinstance(part, shapes.FilePart):
        return _read_file(part, place)
    if isinstance(part, shapes.RefusalPart):
        return hub.Refusal(text=part.refusal)
    return _read_thinking(part)


def _read_audio(part: shapes.AudioPart, place: str) -> hub.Audio:
    sound = part.input_audio
    data = sound.data
    if data.startswith("data:"):
        data = hub.read_data_url(data, param=f"{place}.input_audio.data").data or ""
    kind = sound.format or "wav"
    media_type = "audio/mpeg" if kind == "mp3" else f"audio/{kind}"
    return hub.Audio(media=hub.Media(data=data, media_type=media_type), format=kind)


def _read_file(part: shapes.FilePart, place: str) -> hub.File:
    file = part.file
    if file.file_data:
        data = file.file_data
        if data.startswith(("data:", "http://", "https://")):
            media = hub.media_of_url(data, param=f"{place}.file.file_data")
        else:
            media = hub.Media(data=data, media_type=hub.sniff(data))
    elif file.file_id:
        is_link = file.file_id.startswith(("http://", "https://", "gs://"))  # LiteLLM puts links here
        place = f"{place}.file.file_id"
        media = hub.media_of_url(file.file_id, param=place) if is_link else hub.Media(file_id=file.file_id)
    else:
        raise InvalidRequest(f"{place}.file: send file_data or file_id.", param=f"{place}.file")
    media.media_type = media.media_type or file.format
    return hub.File(media=media, filename=file.filename, cache=mark(part.cache_control))


def _read_thinking(part: shapes.ThinkingPart | shapes.RedactedPart) -> hub.Reasoning:
    if isinstance(part, shapes.RedactedPart):
        return hub.Reasoning(kind="encrypted", data=part.data, format="anthropic")
    text = part.thinking if isinstance(part.thinking, str) else "".join(_chunk_texts(part.thinking))
    return hub.Reasoning(text=text, signature=part.signature, format="anthropic" if part.signature else None)


def _chunk_texts(chunks: list[Any]) -> Iterator[str]:
    for chunk in chunks:
        text = chunk.get("text") if isinstance(chunk, dict) else chunk
        if isinstance(text, str):
            yield text


# -- the assistant -------------------------------------------------------------------


def _read_assistant(
    turn: shapes.Turn, parts: list[hub.Part], place: str, pending: list[tuple[str, str]]
) -> list[hub.Part]:
    calls = [
        _read_call(call, f"{place}.tool_calls[{index}]") for index, call in enumerate(turn.tool_calls or ())
    ]
    if turn.function_call is not None:
        call_id = f"call_{place[9:-1]}"  # the index of the message: the client's dialect had no ids
        pending.append((turn.function_call.name, call_id))
        calls.append(
            hub.ToolCall(
                id=call_id, name=turn.function_call.name, arguments=turn.function_call.arguments or ""
            )
        )
    if turn.refusal:
        parts.append(hub.Refusal(text=turn.refusal))
    if turn.audio is not None:
        parts.append(hub.Audio(media=hub.Media(data=""), id=turn.audio.id))
    if any(isinstance(part, hub.Reasoning) for part in parts):
        return [*parts, *calls]
    return [*_read_reasoning(turn, calls), *parts, *calls]


def _read_call(call: shapes.ToolCallItem, place: str) -> hub.ToolCall:
    cache = mark(call.cache_control)
    if call.custom is not None:
        return hub.ToolCall(
            id=call.id, name=call.custom.name, arguments=call.custom.input, custom=True, cache=cache
        )
    if call.function is None:
        raise InvalidRequest(
            f"{place}.function: it is missing. Name the function.", param=f"{place}.function"
        )
    google = call.extra_content.google if call.extra_content is not None else None
    signature = google.thought_signature if google is not None else None
    return hub.ToolCall(
        id=call.id,
        name=call.function.name,
        arguments=call.function.arguments or "",
        signature=signature,
        format="google" if signature else None,
        cache=cache,
    )


def _read_reasoning(turn: shapes.Turn, calls: list[hub.ToolCall]) -> list[hub.Reasoning]:
    """Read the richest form that is there: they say the same."""
    text = turn.reasoning_content or (turn.reasoning if isinstance(turn.reasoning, str) else "")
    if turn.reasoning_details:
        parts = _read_details(turn.reasoning_details, calls)
        if text and not any(part.text for part in parts):
            parts.insert(0, hub.Reasoning(text=text))
        return parts
    if turn.thinking_blocks:
        return [_read_thinking(block) for block in turn.thinking_blocks]
    return [hub.Reasoning(text=text)] if text else []


def _read_details(details: list[shapes.ReasoningDetail], calls: list[hub.ToolCall]) -> list[hub.Reasoning]:
    parts: list[hub.Reasoning] = []
    by_id = {call.id: call for call in calls}
    for detail in details:
        family = (detail.format or "").partition("-")[0]
        form = _FORMATS.get(family, detail.format)
        if detail.type == "reasoning.encrypted":
            call = by_id.get(detail.id or "")
            if call is not None and form == "google":  # OpenRouter gives a call's signature so
                call.signature, call.format = call.signature or detail.data, form
                continue
            before = parts[-1] if parts else None
            if (
                before is not None
                and before.kind == "summary"
                and detail.id
                and before.id == detail.id
                and before.data is None
            ):
                before.data = detail.data  # a summary and what it sums up, of one piece of thinking
                continue
            parts.append(hub.Reasoning(kind="encrypted", data=detail.data, format=form, id=detail.id))
        elif detail.type == "reasoning.summary":
            parts.append(hub.Reasoning(kind="summary", text=detail.summary or "", format=form, id=detail.id))
        else:
            _add_text(parts, detail, form)
    return parts


def _add_text(parts: list[hub.Reasoning], detail: shapes.ReasoningDetail, form: str | None) -> None:
    before = parts[-1] if parts else None
    if before is not None and before.kind == "text" and before.text and not detail.text and detail.signature:
        before.signature, before.format = detail.signature, form or before.format  # a stream's pieces
        return
    parts.append(hub.Reasoning(text=detail.text or "", signature=detail.signature, format=form, id=detail.id))


def _read_result(
    turn: shapes.Turn, parts: list[hub.Part], place: str, pending: list[tuple[str, str]]
) -> hub.ToolResult:
    call_id = turn.tool_call_id
    if turn.role == "function":
        found = next((pair for pair in pending if pair[0] == turn.name), None)
        if found is None:
            raise InvalidRequest(
                f"{place}.name: no function call of that name stands before it.", param=f"{place}.name"
            )
        pending.remove(found)
        call_id = found[1]
    if not call_id:
        raise InvalidRequest(
            f"{place}.tool_call_id: it is missing. Name the call that this answers.",
            param=f"{place}.tool_call_id",
        )
    return hub.ToolResult(
        call_id=call_id, content=list(parts), name=turn.name, cache=mark(turn.cache_control)
    )
