"""Writing Google's `generateContent` requests from the hub's.

Everything that Google can be told is told; what it cannot is noted in `request.dropped`, or refused where
the answer would silently be another one.
"""

from __future__ import annotations

from typing import Any

from raven_proxy.errors import InvalidRequest
from raven_proxy.hub import ChatRequest

from .contents import Conversation, write_contents
from .models import Traits
from .schemas import to_openapi
from .thinking import write_thinking
from .tools import write_tool_config, write_tools

__all__ = ["write_request"]

_UNKNOWN = (
    "logit_bias", "verbosity", "user", "service_tier", "store", "prompt_cache_key",
    "safety_identifier", "prediction",
)  # fmt: skip
_MOST_STOPS = 5
_MODALITIES = {"text": "TEXT", "image": "IMAGE"}

Json = dict[str, Any]


def write_request(request: ChatRequest, known: Conversation) -> Json:
    """Write the body. Raises InvalidRequest; what is lost is in `request.dropped`."""
    body: Json = {}
    system, contents = write_contents(request.messages, known)
    if not contents:
        raise InvalidRequest("messages: there is nothing to answer; send a message.", param="messages")
    if system:
        body["systemInstruction"] = {"parts": system}
    body["contents"] = contents
    tools = write_tools(request, known.traits)
    if tools:
        body["tools"] = tools
        choice = write_tool_config(request.tool_choice) if request.tools else None
        if choice is not None:
            body["toolConfig"] = choice
    config = _write_config(request, known.traits)
    if config:
        body["generationConfig"] = config
    if request.metadata and known.is_vertex and _are_labels(request.metadata):
        body["labels"] = request.metadata
    else:
        request.drop_if_set("metadata")
    request.drop_if_set(*_UNKNOWN)
    for name in request.extra:
        request.drop(name)
    return body


def _write_config(request: ChatRequest, traits: Traits) -> Json:
    config: Json = {
        "temperature": request.temperature,
        "topP": request.top_p,
        "topK": request.top_k,
        "candidateCount": request.n if request.n != 1 else None,
        "maxOutputTokens": request.max_tokens,
        "stopSequences": _write_stops(request),
        "seed": _fold(request.seed),
        "presencePenalty": request.presence_penalty,
        "frequencyPenalty": request.frequency_penalty,
        "responseModalities": _write_modalities(request),
        "thinkingConfig": write_thinking(request, traits),
    }
    if request.logprobs:
        config["responseLogprobs"] = True
        config["logprobs"] = request.top_logprobs or None
    config |= _write_format(request, traits)
    return {name: value for name, value in config.items() if value is not None}


def _write_stops(request: ChatRequest) -> list[str] | None:
    stops = [stop for stop in request.stop if stop]
    if len(stops) > _MOST_STOPS:
        name = request.names.get("stop", "stop")
        raise InvalidRequest(f"{name}: Gemini takes at most {_MOST_STOPS}; send fewer.", param=name)
    return stops or None


def _fold(seed: int | None) -> int | None:
    """Google's seeds have 32 bits: larger ones are folded, always in the same way."""
    if seed is None or -(2**31) <= seed < 2**31:
        return seed
    return seed % 2**31


def _write_modalities(request: ChatRequest) -> list[str] | None:
    if request.audio is not None or "audio" in (request.modalities or ()):
        raise InvalidRequest(
            "modalities: sound as an answer is not available from Gemini here; ask for text.",
            param="modalities",
        )
    if request.modalities in (None, ["text"]):
        return None
    wanted = [_MODALITIES[one] for one in request.modalities or () if one in _MODALITIES]
    if len(wanted) < len(request.modalities or ()):
        request.drop("modalities")
    return wanted or None


def _write_format(request: ChatRequest, traits: Traits) -> Json:
    wanted = request.output_format
    if wanted is None:
        return {}
    config: Json = {"responseMimeType": "application/json"}
    if wanted.schema is not None:
        if traits.json_schema:
            config["responseJsonSchema"] = wanted.schema
        else:
            config["responseSchema"] = to_openapi(wanted.schema, param="response_format")
    return config


def _are_labels(metadata: Json) -> bool:
    """Say whether metadata can be Vertex AI's labels: short words in lower case."""
    return all(
        isinstance(value, str)
        and 0 < len(name) <= 63
        and len(value) <= 63
        and (name + value).lower() == name + value
        and all(letter.isalnum() or letter in "-_" for letter in name + value)
        for name, value in metadata.items()
    )
