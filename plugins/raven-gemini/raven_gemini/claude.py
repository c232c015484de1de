"""Claude at Vertex AI: Anthropic's Messages, with the model in the path and the version in the body.

Clients that speak Messages pass byte for byte but for those members. Others are translated by the package
`raven_anthropic`, which owns that dialect. Source: docs.claude.com, "Claude on Vertex AI".
"""

from __future__ import annotations

from typing import Any

import msgspec
from raven_anthropic import PROVIDER_SIDE, AnthropicSide, requests

from raven_proxy import hub, splice, translation
from raven_proxy.errors import InvalidRequest
from raven_proxy.exchange import Exchange, Outgoing, ReplyHead
from raven_proxy.faces import Stage
from raven_proxy.metering import EventTap, WholeTap
from raven_proxy.providers import UsageTap

from .links import has_links
from .native import RAW_CLAUDE
from .places import Place

__all__ = ["FETCHED", "ClaudeOnVertex", "is_claude", "may_link", "passes_untouched"]

FETCHED = "gemini_fetched"  # the key in `exchange.notes`; there while links of a native request are bytes now

_VERSION = "vertex-2023-10-16"
_MESSAGES, _COUNT = "anthropic.messages", "anthropic.count_tokens"
_SIDE = "gemini_claude"  # the key in `exchange.notes`: how the reply to this attempt is read
_NOT_ITS = ("openai-", "x-stainless-")


def is_claude(model: str) -> bool:
    """Say whether a model of Vertex AI's is Anthropic's."""
    return (
        model.removeprefix("publishers/")
        .removeprefix("anthropic/")
        .removeprefix("models/")
        .startswith("claude")
    )


def passes_untouched(exchange: Exchange) -> bool:
    """Say whether a request speaks the dialect of the Claude that it is for."""
    model = exchange.candidate.model if exchange.candidate is not None else None
    return is_claude(model or "") and exchange.face.dialect.name in (_MESSAGES, _COUNT)


def may_link(exchange: Exchange) -> bool:
    """Say whether a native request could hold a link, which Vertex AI refuses."""
    return exchange.face.dialect.name == _MESSAGES and b'"url"' in exchange.body


class ClaudeOnVertex:
    """Requests and replies of Claude at Vertex AI. Stateless."""

    def build_request(self, exchange: Exchange, place: Place, headers: dict[str, str]) -> Outgoing:
        """Make the request. Raises InvalidRequest for a dialect that cannot be translated."""
        exchange.notes.pop(_SIDE, None)
        headers = {name: value for name, value in headers.items() if not name.startswith(_NOT_ITS)}
        headers.pop("anthropic-version", None)  # it stands in the body here
        model = _name(exchange)
        dialect = exchange.face.dialect.name
        if dialect == _COUNT:  # the only request whose body names the model
            body = splice.put(exchange.body, exchange.call.members, "model", model)
            return Outgoing("POST", place.target(_path("count-tokens"), "rawPredict"), headers, body)
        verb = "streamRawPredict" if exchange.stream else "rawPredict"
        is_fetched = exchange.notes.pop(FETCHED, False)
        if dialect == _MESSAGES and not is_fetched:
            if may_link(exchange):
                _refuse_links(translation.read_request(exchange, hub.ChatRequest))
            body = _pass(exchange)
        else:
            body = _translate(exchange, model, headers)
        return Outgoing("POST", place.target(_path(model), verb), headers, body)

    def open_translator(self, exchange: Exchange, head: ReplyHead) -> Stage | None:
        """Give the stage of a translated reply; None where the client speaks Messages."""
        side = exchange.notes.get(_SIDE)
        if side is None:
            return None
        return translation.open_translation(exchange, side, streamed=_is_streamed(head))

    def open_usage_tap(self, exchange: Exchange, head: ReplyHead) -> UsageTap | None:
        """Meter Messages that pass untouched; None for anything else."""
        dialect = exchange.face.dialect
        if dialect.name == _MESSAGES:
            side = dialect.provider_side
        else:
            side = PROVIDER_SIDE if dialect is RAW_CLAUDE else None
        if side is None:
            return None
        if _is_streamed(head):
            return EventTap(exchange, side.open_reader())
        return WholeTap(exchange, side.read_reply)


def _pass(exchange: Exchange) -> bytes:
    """Take the model out of the client's body and put the version in."""
    body, spans = exchange.body, exchange.call.members
    if "model" in spans:
        body = splice.remove(body, spans, "model")
        spans = splice.scan(body)
    return splice.put(body, spans, "anthropic_version", _VERSION)


def _translate(exchange: Exchange, model: str, headers: dict[str, str]) -> bytes:
    request = translation.read_request(exchange, hub.ChatRequest)
    _refuse_links(request)
    request.model = model
    longest = (
        exchange.candidate.upstream.describe(model).max_tokens if exchange.candidate is not None else None
    )
    written = requests.write(request, default_max_tokens=longest)
    translation.refuse_dropped(exchange, request.dropped)
    if written.betas:
        theirs = headers.get("anthropic-beta")
        headers["anthropic-beta"] = ",".join([*([theirs] if theirs else []), *written.betas])
    if exchange.face.dialect.name != _MESSAGES:  # whose reply passes as it is
        exchange.notes[_SIDE] = AnthropicSide(written.reading)
    head: dict[str, Any] = {"anthropic_version": _VERSION, **({"stream": True} if exchange.stream else {})}
    body: bytes = msgspec.json.encode(head | written.body)
    return body


def _refuse_links(request: hub.ChatRequest) -> None:
    if has_links(request):
        raise InvalidRequest(
            "messages: Claude takes no links at Vertex AI; send base64, or have the gateway fetch links with "
            "the upstream's option fetch_images.",
            param="messages",
        )


def _name(exchange: Exchange) -> str:
    model = (exchange.candidate.model if exchange.candidate is not None else None) or ""
    return model.rpartition("/")[2]


def _path(model: str) -> str:
    return f"publishers/anthropic/models/{model}"


def _is_streamed(head: ReplyHead) -> bool:
    return "event-stream" in head.headers.get("content-type", "")
