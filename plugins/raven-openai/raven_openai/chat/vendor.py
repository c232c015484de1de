"""The vendor's half of `openai.chat`: whole replies; `reader` has the streams, `asking` the requests."""

from __future__ import annotations

from typing import Any

from raven_openai import documents, finish
from raven_openai.presets import Preset
from raven_openai.usage import read_usage
from raven_proxy import hub
from raven_proxy.dialects import SSEReader
from raven_proxy.errors import UpstreamError
from raven_proxy.exchange import Exchange, Usage
from raven_proxy.providers import estimate_prompt, estimate_tokens
from raven_proxy.refusals import refuse_event, scrub

from . import answers
from .asking import write_chat_request
from .reader import ChunkReader

__all__ = ["PROVIDER_SIDE", "VENDOR", "ChatSide"]


class ChatSide:
    """Reads what one vendor sends; a `dialects.ProviderSide`. Without an exchange nothing is estimated."""

    def __init__(self, preset: Preset, exchange: Exchange | None = None) -> None:
        self._preset = preset
        self._exchange = exchange

    def open_reader(self) -> SSEReader:
        """Begin a stream."""
        reader = ChunkReader(self._preset, self._count)
        return reader.reader(lambda body: hub.events_of(self.read_reply(body)))

    def read_reply(self, body: bytes) -> hub.ChatReply:
        """Read a whole chat completion. Raises GatewayError for an error under a status of 200."""
        document = answers.decode(body)
        failure = answers.find_failure(document)
        if failure is not None:
            if self._exchange is not None:
                raise refuse_event(self._exchange, failure)
            raise UpstreamError(scrub(failure.message))
        started = document.started()
        found = [self._read_choice(answer, started.id, i) for i, answer in enumerate(document.choices or ())]
        if not found:
            raise ValueError("a chat completion without choices")
        if citations := answers.read_citations(document):
            _cite(found[0], citations)
        written = sum(
            len(part.text)
            for choice in found
            for part in choice.parts
            if isinstance(part, hub.Text | hub.Reasoning)
        )
        return hub.ChatReply(
            id=started.id,
            model=started.model,
            created=started.created,
            choices=found,
            usage=self._count(document, written),
            service_tier=started.service_tier,
            system_fingerprint=started.system_fingerprint,
        )

    def _read_choice(self, answer: answers.Answer, reply_id: str, index: int) -> hub.Choice:
        message = answer.message or answer.delta or answers.Message()
        parts: list[hub.Part] = [*_read_thinking(message), *_read_text(message)]
        calls = _read_calls(message, f"call_{reply_id[-16:] or 'x'}_{index}")
        _sign(parts, calls)
        parts += calls
        if message.refusal:
            parts.append(hub.Refusal(text=message.refusal))
        images = [answers.read_image(item) for item in message.images or ()]
        parts += [image for image in images if image is not None]
        if (audio := answers.read_audio(message.audio)) is not None:
            audio_id, data, transcript, expires_at = audio
            parts.append(
                hub.Audio(
                    media=hub.Media(data=data), id=audio_id, transcript=transcript, expires_at=expires_at
                )
            )
        native = answer.finish_reason or ("tool_calls" if calls else "stop")
        word = finish.normalize(native, self._preset.finish_words or {})
        if (calls and word == "stop") or word == "function_call":
            word = "tool_calls"
        theirs = answer.native_finish_reason
        logprobs = answer.logprobs if answer.logprobs and any(answer.logprobs.values()) else None
        return hub.Choice(
            parts=parts,
            finish=word,  # type: ignore[arg-type]
            native_finish=theirs or (native if native != word else None),
            logprobs=logprobs,
        )

    def _count(self, document: answers.Document, written: int) -> Usage | None:
        table: Any = document.usage
        if not isinstance(table, dict):
            found = [answer.usage for answer in document.choices or () if isinstance(answer.usage, dict)]
            table = found[0] if found else documents.groq_usage(document.x_groq)
        if table is None:
            return None
        exchange = self._exchange
        return read_usage(
            table,
            lambda: estimate_prompt(exchange.body) if exchange is not None else 0,
            lambda: estimate_tokens(written),
            reasoning_apart=self._preset.reasoning_apart,
        )


def _read_thinking(message: answers.Message) -> list[hub.Part]:
    parts: dict[Any, hub.Reasoning] = {}
    for key, part in answers.read_details(message.reasoning_details or []):
        known = parts.get(key)
        if known is None or part.kind == "encrypted":
            parts[len(parts) if part.kind == "encrypted" else key] = part
        else:  # the pieces of a stream that somebody gathered
            known.text += part.text
            known.signature = part.signature or known.signature
            known.format = part.format or known.format
    found: list[hub.Part] = [*parts.values()]
    text = answers.thinking_text(message)
    if text and not any(part.text for part in parts.values()):
        found.insert(0, hub.Reasoning(text=text))
    return found


def _read_text(message: answers.Message) -> list[hub.Part]:
    content = message.content
    parts: list[hub.Part] = []
    if isinstance(content, str):
        if content:
            parts.append(hub.Text(text=content))
    else:
        for kind, piece in answers.read_content(content or []):
            if kind == "text":
                parts.append(hub.Text(text=piece))
            elif kind == "thinking":
                parts.append(hub.Reasoning(text=piece[0], signature=piece[1]))
            else:
                parts.append(piece)
    first = next((part for part in parts if isinstance(part, hub.Text)), None)
    if first is not None:
        annotations = [answers.read_annotation(item) for item in message.annotations or ()]
        first.annotations = [annotation for annotation in annotations if annotation is not None]
    return parts


def _read_calls(message: answers.Message, prefix: str) -> list[hub.ToolCall]:
    calls: list[hub.ToolCall] = []
    for call in message.tool_calls or ():
        custom = call.is_custom()
        arguments = call.arguments()
        signature = answers.read_signature(call)
        calls.append(
            hub.ToolCall(
                id=call.id or f"{prefix}_{len(calls)}",
                name=call.name(),
                arguments=arguments if arguments.strip() or custom else "{}",
                custom=custom,
                signature=signature,
                format="google" if signature is not None else None,
            )
        )
    if message.function_call is not None and message.function_call.name and not calls:
        old = answers.Call(function=message.function_call)
        calls.append(hub.ToolCall(id=f"{prefix}_0", name=old.name(), arguments=old.arguments() or "{}"))
    return calls


def _sign(parts: list[hub.Part], calls: list[hub.ToolCall]) -> None:
    """Give calls the signatures that OpenRouter keeps among the thinking."""
    by_id = {call.id: call for call in calls}
    for part in [*parts]:
        if isinstance(part, hub.Reasoning) and part.kind == "encrypted" and part.format == "google":
            call = by_id.get(part.id or "")
            if call is not None:
                call.signature, call.format = call.signature or part.data, "google"
                parts.remove(part)


def _cite(choice: hub.Choice, citations: list[hub.Annotation]) -> None:
    text = next((part for part in choice.parts if isinstance(part, hub.Text)), None)
    if text is not None and not text.annotations:
        text.annotations = citations


PROVIDER_SIDE = ChatSide(Preset())
"""OpenAI's own replies, and those of vendors that differ in nothing."""


class _ChatVendor:
    """How a chat of another dialect is written for vendors of this family."""

    endpoint = "chat/completions"

    def write_request(self, request: hub.ChatRequest, exchange: Exchange, preset: Preset) -> bytes:
        return write_chat_request(request, exchange, preset)

    def provider_side(self, exchange: Exchange, preset: Preset) -> ChatSide:
        return ChatSide(preset, exchange)


VENDOR = _ChatVendor()
