"""The hub's messages → a vendor's, in OpenAI's shape, with what its row in `presets` says of them."""

from __future__ import annotations

import hashlib
import re
from typing import Any

from raven_openai.presets import Preset
from raven_openai.traits import ChatTraits
from raven_proxy import hub
from raven_proxy.errors import InvalidRequest

from .replies import render_detail

__all__ = ["write_messages"]

_FAMILY = re.compile(r"(?P<anthropic>claude)|(?P<google>gemini)|(?P<openai>(?:^|/)(?:gpt-\d|o\d))")
_OTHERS = re.compile("llama|mi[sx]tral|deepseek|qwen|grok|kimi|glm|command|phi|nova|gpt-oss")
_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def write_messages(request: hub.ChatRequest, preset: Preset, where: str) -> list[dict[str, Any]]:
    """Write all messages. Raises InvalidRequest for a part that the vendor `where` cannot take."""
    speaker = _Speaker(request, preset, where)
    for message in hub.pair_tool_results(request.messages):
        speaker.add(message)
    speaker.flush()
    return speaker.written


class _Speaker:
    def __init__(self, request: hub.ChatRequest, preset: Preset, where: str) -> None:
        self.written: list[dict[str, Any]] = []
        self._request = request
        self._traits: ChatTraits = preset.chat
        self._roles = {} if preset.knows_developer else {"developer": "system"}
        self._where = where
        self._family = preset.chat.family or _family_of(request.model)
        self._waiting: list[dict[str, Any]] = []  # pictures in tool results, which only a user may show

    def add(self, message: hub.Message) -> None:
        if message.role == "tool":
            for part in message.parts:
                if isinstance(part, hub.ToolResult):
                    self.written.append(self._write_result(part))
            return
        self.flush()
        if message.role == "assistant":
            written = self._write_assistant(message)
        elif message.role == "user":
            written = {"role": "user", "content": self._write_user(message.parts)}
        else:
            written = {
                "role": self._roles.get(message.role, message.role),
                "content": self._write_system(message.parts),
            }
        if message.name is not None:
            if self._traits.names:
                written["name"] = message.name
            else:
                self._request.drop("messages.name")
        self.written.append(written)

    def flush(self) -> None:
        """Show what the tools' results held, once the last of them is written."""
        if self._waiting:
            self.written.append({"role": "user", "content": self._waiting})
            self._waiting = []

    # -- content ---------------------------------------------------------------------------

    def _write_system(self, parts: list[hub.Part]) -> Any:
        texts = [part for part in parts if isinstance(part, hub.Text)]
        if self._takes_marks(parts):
            return [self._write_text(text) for text in texts]
        return "\n\n".join([text.text for text in texts])

    def _write_user(self, parts: list[hub.Part]) -> Any:
        if len(parts) == 1 and isinstance(parts[0], hub.Text) and not self._takes_marks(parts):
            return parts[0].text
        return [self._write_part(part) for part in parts] or ""

    def _write_part(self, part: hub.Part) -> dict[str, Any]:
        if isinstance(part, hub.Text):
            return self._write_text(part)
        if isinstance(part, hub.Image):
            written = self._write_image(part)
        elif isinstance(part, hub.File):
            written = self._write_file(part)
        elif isinstance(part, hub.Audio):
            return self._write_audio(part)
        else:
            raise InvalidRequest(
                f"messages: {type(part).__name__} is nothing that a user says.", param="messages"
            )
        return self._mark(written, part.cache)

    def _write_text(self, part: hub.Text) -> dict[str, Any]:
        return self._mark({"type": "text", "text": part.text}, part.cache)

    def _mark(self, written: dict[str, Any], cache: hub.CacheMark | None) -> dict[str, Any]:
        if cache is not None:
            if self._traits.cache_marks:
                written["cache_control"] = {"type": "ephemeral"} | ({"ttl": cache.ttl} if cache.ttl else {})
            else:
                self._request.drop("cache_control")
        return written

    def _takes_marks(self, parts: list[hub.Part]) -> bool:
        marked = any(getattr(part, "cache", None) is not None for part in parts)
        if marked and not self._traits.cache_marks:
            self._request.drop("cache_control")
            return False
        return marked

    def _write_image(self, part: hub.Image) -> dict[str, Any]:
        media = part.media
        url = hub.make_data_url(media, "image/png") if media.file_id is None else ""
        if self._traits.images == "no":
            raise self._cannot("takes no images", "choose a model that sees")
        if not url.startswith(("data:", "http://", "https://")):
            raise self._cannot("takes images as bytes or links", "send a data: URL or an https URL")
        if self._traits.images == "data" and media.url is not None:
            raise self._cannot("takes images as bytes alone", "send a data: URL")
        image = {"url": url} | ({"detail": part.detail} if part.detail else {})
        return {"type": "image_url", "image_url": image}

    def _write_file(self, part: hub.File) -> dict[str, Any]:
        media, taken = part.media, self._traits.files
        if part.text is not None and media.data is None and media.url is None and media.file_id is None:
            title = f"{part.filename}:\n" if part.filename else ""
            return {"type": "text", "text": title + part.text}
        if taken == "no":
            raise self._cannot("takes no files", "send the text of it")
        if media.file_id is not None:
            if not self._traits.openai_models or not self._request.family.startswith("openai."):
                raise self._cannot("does not have this file", "send its bytes")
            return {"type": "file", "file": {"file_id": media.file_id}}
        if media.url is not None and taken == "data":
            raise self._cannot("takes files as bytes alone", "send a data: URL")
        url = hub.make_data_url(media, "application/pdf")
        if taken == "document_url":
            named = {"document_name": part.filename} if part.filename else {}
            return {"type": "document_url", "document_url": url, **named}
        return {"type": "file", "file": {"filename": part.filename or "document.pdf", "file_data": url}}

    def _write_audio(self, part: hub.Audio) -> dict[str, Any]:
        if not self._traits.audio or part.media.data is None:
            raise self._cannot("takes no sound", "send its transcript")
        kind = part.format or (part.media.media_type or "audio/wav").partition("/")[2]
        kind = {"mpeg": "mp3", "x-wav": "wav"}.get(kind, kind)
        return {"type": "input_audio", "input_audio": {"data": part.media.data, "format": kind}}

    def _cannot(self, what: str, remedy: str) -> InvalidRequest:
        return InvalidRequest(f"messages: {self._where} {what}; {remedy}.", param="messages")

    # -- the assistant and its tools ---------------------------------------------------------

    def _write_assistant(self, message: hub.Message) -> dict[str, Any]:
        texts: list[str] = []
        calls: list[dict[str, Any]] = []
        thoughts: list[hub.Reasoning] = []
        written: dict[str, Any] = {"role": "assistant"}
        for part in message.parts:
            if isinstance(part, hub.Text):
                texts.append(part.text)
            elif isinstance(part, hub.ToolCall):
                calls.append(self._write_call(part))
                if part.signature is not None:  # OpenRouter keeps it among the thinking
                    sealed = hub.Reasoning(kind="encrypted", data=part.signature, format=part.format)
                    sealed.id = part.id
                    thoughts.append(sealed)
            elif isinstance(part, hub.Reasoning):
                thoughts.append(part)
            elif isinstance(part, hub.Refusal):
                if self._traits.openai_models:
                    written["refusal"] = part.text
                else:
                    texts.append(part.text)
            elif isinstance(part, hub.Audio):
                if part.id is not None and self._traits.openai_models:
                    written["audio"] = {"id": part.id}
                elif part.transcript:
                    texts.append(part.transcript)
            elif isinstance(part, hub.Image | hub.File):
                self._request.drop("messages.images")  # nobody lets an assistant show something
        written["content"] = "".join(texts) if texts or not (calls or len(written) > 1) else None
        if self._takes_marks([part for part in message.parts if isinstance(part, hub.Text)]) and texts:
            written["content"] = [self._write_text(p) for p in message.parts if isinstance(p, hub.Text)]
        if calls:
            written["tool_calls"] = calls
        if thoughts:
            self._write_thoughts(thoughts, written)
        return written

    def _write_call(self, call: hub.ToolCall) -> dict[str, Any]:
        call_id = self._call_id(call.id)
        if call.custom and self._traits.openai_models:
            return {
                "id": call_id,
                "type": "custom",
                "custom": {"name": call.name, "input": call.arguments},
            }
        function = {"name": call.name, "arguments": call.arguments or "{}"}
        written: dict[str, Any] = {"id": call_id, "type": "function", "function": function}
        if call.signature is not None and call.format == self._family == "google":
            written["extra_content"] = {"google": {"thought_signature": call.signature}}
        return written

    def _write_thoughts(self, thoughts: list[hub.Reasoning], written: dict[str, Any]) -> None:
        """Give thinking back where the vendor wants it; signatures only to the family that issued them."""
        field = self._traits.reasoning_field
        text = "".join([part.text for part in thoughts])
        if field and text:
            written[field] = text
        if self._traits.reasoning == "reasoning":
            details: list[dict[str, Any]] = []
            for part in thoughts:
                # A gateway whose model's name tells nothing sorts them by their format itself.
                if part.format is not None and self._family in (part.format, ""):
                    details += render_detail(part, len(details))
            if details:
                written["reasoning_details"] = details

    def _write_result(self, result: hub.ToolResult) -> dict[str, Any]:
        texts: list[str] = []
        shown: list[dict[str, Any]] = []
        for part in result.content:
            if isinstance(part, hub.Text):
                texts.append(part.text)
            elif isinstance(part, hub.Image | hub.File):
                written = self._write_part(part)
                if written["type"] == "text":
                    texts.append(written["text"])
                else:
                    shown.append(written)
        text = "\n".join(texts)
        if result.is_error:
            text = f"Error: {text}"
        if shown:
            text = text or "It is in the next message."
            self._waiting += [{"type": "text", "text": f"Result of the tool call {result.call_id}:"}, *shown]
        if result.cache is not None:
            self._takes_marks([hub.Text(text="", cache=result.cache)])
        written_result: dict[str, Any] = {
            "role": "tool",
            "tool_call_id": self._call_id(result.call_id),
            "content": text,
        }
        if result.cache is not None and self._traits.cache_marks:
            written_result["content"] = [self._mark({"type": "text", "text": text}, result.cache)]
        return written_result

    def _call_id(self, call_id: str) -> str:
        """Give an id that the vendor takes: its own stay, others become the same one each time."""
        length = self._traits.tool_id_length
        if not length or re.fullmatch(rf"[A-Za-z0-9]{{{length}}}", call_id):
            return call_id
        number = int.from_bytes(hashlib.sha256(call_id.encode("utf-8", "replace")).digest()[:16])
        made = ""
        for _ in range(length):
            number, rest = divmod(number, len(_ALPHABET))
            made += _ALPHABET[rest]
        return made


def _family_of(model: str) -> str:
    """Tell whose signatures a model reads, by its name; "" where the name does not tell."""
    found = _FAMILY.search(model.lower())
    if found is not None:
        return next(name for name, value in found.groupdict().items() if value)
    return "another" if "/" in model or _OTHERS.search(model.lower()) else ""
