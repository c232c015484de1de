"""The usual whole reply, read in one narrow decode; anything unusual is left to `documents` and `usage`.

Most replies have OpenAI's own shape to the letter. Those need no search for fields under other names
and no doubt about their numbers: this halves what metering costs a request.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from raven_proxy.exchange import Usage
from raven_proxy.providers import Tally

from .finish import STANDARD

__all__ = ["read_plain"]

_Count = Annotated[int, Meta(ge=0, le=10**8)]


class _PromptDetails(msgspec.Struct, forbid_unknown_fields=True, frozen=True, gc=False):
    cached_tokens: _Count = 0
    audio_tokens: _Count = 0


class _CompletionDetails(msgspec.Struct, forbid_unknown_fields=True, frozen=True, gc=False):
    reasoning_tokens: _Count = 0
    audio_tokens: _Count = 0
    accepted_prediction_tokens: _Count = 0
    rejected_prediction_tokens: _Count = 0


class _Usage(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    prompt_tokens: _Count
    completion_tokens: _Count
    total_tokens: _Count
    prompt_tokens_details: _PromptDetails = _PromptDetails()
    completion_tokens_details: _CompletionDetails = _CompletionDetails()


class _Choice(msgspec.Struct, gc=False):
    finish_reason: str


class _Reply(msgspec.Struct, gc=False):
    choices: list[_Choice]
    usage: _Usage
    error: None = None


_decode = msgspec.json.Decoder(_Reply).decode


def read_plain(text: bytes) -> Tally | None:
    """Read a chat or text completion of the usual shape; None if anything about it is unusual."""
    try:
        reply = _decode(text)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    usage = reply.usage
    prompt, completion = usage.prompt_tokens, usage.completion_tokens
    sent, made = usage.prompt_tokens_details, usage.completion_tokens_details
    is_usual = (
        bool(reply.choices)
        and reply.choices[0].finish_reason in STANDARD
        and usage.total_tokens == prompt + completion
        and max(sent.cached_tokens, sent.audio_tokens) <= prompt
        and max(made.reasoning_tokens, made.audio_tokens) <= completion
    )
    if not is_usual:
        return None
    return Tally(
        usage=Usage(
            prompt_tokens=prompt,
            completion_tokens=completion,
            total_tokens=usage.total_tokens,
            cached_tokens=sent.cached_tokens,
            reasoning_tokens=made.reasoning_tokens,
            audio_input_tokens=sent.audio_tokens,
            audio_output_tokens=made.audio_tokens,
        ),
        finish_reason=reply.choices[0].finish_reason,
    )
