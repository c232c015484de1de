"""The body that a vendor gets: the client's own, byte for byte, but for the fields that must change.

These are: `model` where an alias was used; `stream_options.include_usage` where metering has to ask;
and what the vendor's row in `presets` says of parameter names and the developer role.
"""

from __future__ import annotations

import re

import msgspec

from raven_proxy import splice
from raven_proxy.exchange import Exchange
from raven_proxy.translation import refuse_dropped

from .presets import Preset

__all__ = ["build_body"]

_Change = tuple[str, bytes | None]  # a top-level member and its new value; None takes it out
_DEVELOPER = re.compile(rb'("role"\s*:\s*)"developer"')
_ASK = b'{"include_usage":true}'


def build_body(exchange: Exchange, preset: Preset, *, ask_usage: bool) -> bytes:
    """Change what the vendor needs changed in `exchange.body`.

    Raises InvalidRequest (`unsupported_parameter`) under `X-Raven-Strict: true` that names every
    parameter that would otherwise be dropped.
    """
    call, candidate, body = exchange.call, exchange.candidate, exchange.body
    changes: list[_Change] = []
    if candidate is not None and candidate.model is not None and candidate.model != call.model:
        changes.append(("model", msgspec.json.encode(candidate.model)))
    if preset.renames or preset.unsupported:
        changes += _fit_parameters(exchange, preset)
    if not preset.knows_developer and b'"developer"' in body and "messages" in call.members:
        start, end = call.members["messages"]
        changes.append(("messages", _DEVELOPER.sub(rb'\1"system"', body[start:end])))
    if ask_usage:
        changes.append(("stream_options", _ask_usage(body, call.members)))
    spans = call.members
    for index, (name, value) in enumerate(changes):
        if index:  # the change before moved what stands after it
            spans = splice.scan(body)
        body = splice.remove(body, spans, name) if value is None else splice.put(body, spans, name, value)
    return body


def _ask_usage(body: bytes, members: splice.Spans) -> bytes:
    """Give the client's stream options with `include_usage` set."""
    if "stream_options" not in members:
        return _ASK
    start, end = members["stream_options"]
    theirs = body[start:end]
    if theirs == b"null":
        return _ASK
    return splice.put(theirs, splice.scan(theirs), "include_usage", value=True)


def _fit_parameters(exchange: Exchange, preset: Preset) -> list[_Change]:
    members, body = exchange.call.members, exchange.body
    changes: list[_Change] = []
    dropped: list[str] = []
    for name in preset.renames.keys() & members.keys():
        start, end = members[name]
        new = preset.renames[name]
        if body[start:end] != b"null":
            if new in members:
                dropped.append(name)
            else:
                changes.append((new, body[start:end]))
        changes.append((name, None))
    for name in preset.unsupported & members.keys():
        start, end = members[name]
        if body[start:end] != b"null":
            dropped.append(name)
        changes.append((name, None))
    if dropped:
        refuse_dropped(exchange, sorted(dropped))
    return changes
