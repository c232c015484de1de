"""From a judged request to the head of a provider's reply: candidates, credentials, attempts.

Falls back to the next candidate only before the first byte of a reply, and counts every request
that went out as an attempt.
"""

from __future__ import annotations

from .catalogue import may_call
from .collector import Collector
from .connection import StaleConnection, UpstreamConnection
from .encoding import open_decoder
from .errors import (
    Forbidden,
    GatewayError,
    InvalidRequest,
    NoActiveKey,
    Overloaded,
    UpstreamError,
)
from .exchange import Attempt, Candidate, Credential, Exchange, Outgoing, Principal, ReplyHead
from .headers import read_reply
from .holdings import holding_of, visible_upstreams
from .mask import blot, sent_secrets
from .phases import others
from .pipeline import call_all, call_first

__all__ = ["check_model", "forward", "resolve"]

_MAX_ERROR_BYTES = 256 * 1024


def resolve(exchange: Exchange) -> None:
    """Fill `exchange.candidates` from the model's name.

    Raises InvalidRequest for an unknown one, NoActiveKey for one that nobody serves at the moment.
    """
    model = exchange.call.model
    if exchange.face.serve is not None:
        return
    if exchange.face.raw:
        exchange.candidates = tuple(Candidate(c.upstream, model) for c in exchange.candidates)
    elif model is not None:
        catalogue, holding = exchange.pipeline.catalogue, holding_of(exchange)
        exchange.candidates = (
            catalogue.resolve(model)
            if holding is None
            else catalogue.resolve_in(holding, model, brings_key="x-provider-key" in exchange.headers)
        )
    elif not exchange.face.needs_model:
        exchange.candidates = tuple(
            Candidate(upstream, None)
            for upstream in visible_upstreams(exchange).values()
            if not upstream.implicit
        )
    else:
        raise InvalidRequest("Name a model.", param="model")


def check_model(exchange: Exchange, principal: Principal) -> None:
    """Refuse a model that the key may not call (403, `model_not_allowed`).

    On raw paths only the place counts: there a name means whatever the vendor makes of it. A request
    without a model (files, lists, stored replies) needs a key that may call all of that upstream.
    """
    if principal.allowed_models is None or exchange.face.serve is not None:
        return
    model = exchange.call.model
    if model is None and not exchange.face.needs_model and not exchange.face.raw:
        return  # nobody knows yet where it will go: who chooses the upstream checks it
    name = None if exchange.face.raw else model
    if not may_call(principal, name, exchange.candidates):
        asked = repr(model) if model is not None else "a request that names no model"
        raise Forbidden(f"This key may not call {asked}.", code="model_not_allowed", param="model")


async def forward(exchange: Exchange) -> UpstreamConnection:
    """Try the candidates in order; return the connection whose reply has begun, with `exchange.head`.

    Raises the last candidate's error when none begins to reply.
    """
    candidates = exchange.candidates
    choosers = exchange.pipeline.choose_upstreams
    if choosers and (chosen := await call_first(choosers, exchange)) is not None:
        candidates = tuple(chosen)
    if not candidates:
        raise NoActiveKey("No provider is available for this request.")
    for candidate in candidates[:-1]:
        try:
            return await _attempt(exchange, candidate)
        except Overloaded:
            continue  # at its cap; nobody was asked
        except UpstreamError as error:
            if not error.retryable:
                raise
    return await _attempt(exchange, candidates[-1])


async def _attempt(exchange: Exchange, candidate: Candidate) -> UpstreamConnection:
    exchange.candidate = candidate
    pipeline = exchange.pipeline
    provider = candidate.upstream.provider
    credential: Credential | None = await call_first(pipeline.provide_credential, exchange)
    if credential is None and "x-provider-key" in exchange.headers:
        # Falling back to the stored key would bill the wrong account without a word.
        raise InvalidRequest(
            "X-Provider-Key is not accepted here: the plugin byok is not on.", param="X-Provider-Key"
        )
    exchange.credential = credential or candidate.upstream.credential
    if exchange.credential is None and provider.needs_key(candidate.upstream.preset):
        raise NoActiveKey(
            f"The upstream {candidate.upstream.label} has no key; set one or send X-Provider-Key."
        )
    exchange.hub_request = None  # each vendor drops what it cannot take from a fresh one
    if candidate.upstream.prepare is not None:
        await candidate.upstream.prepare(exchange)
    connection, head = await _send(exchange, candidate, provider.build_request(exchange))
    if head.status < 400:
        return connection
    body = await _read_error(exchange, connection, head)
    revised = provider.revise_request(exchange, head, body)
    if revised is not None:
        connection, head = await _send(exchange, candidate, revised)
        if head.status < 400:
            return connection
        body = await _read_error(exchange, connection, head)
    raise provider.read_refusal(exchange, head, body)


async def _send(
    exchange: Exchange, candidate: Candidate, outgoing: Outgoing
) -> tuple[UpstreamConnection, ReplyHead]:
    """Send one request; once more on a fresh connection if a kept-alive one turned out closed."""
    exchange.outgoing = outgoing
    await others(exchange)
    if exchange.pipeline.before_send:
        await call_all(exchange.pipeline.before_send, exchange)
    try:
        return await _send_once(exchange, candidate, outgoing, fresh=False)
    except StaleConnection:
        # Closed without a byte while it lay idle: the provider did not take the request
        # (RFC 9112 section 9.3.1). It still counts as an attempt.
        return await _send_once(exchange, candidate, outgoing, fresh=True)


async def _send_once(
    exchange: Exchange, candidate: Candidate, outgoing: Outgoing, *, fresh: bool
) -> tuple[UpstreamConnection, ReplyHead]:
    upstream = candidate.upstream
    config = exchange.pipeline.config
    head = upstream.write_request(outgoing)
    exchange.secrets = secrets = sent_secrets(outgoing, exchange.credential)
    attempt = Attempt(upstream.name, upstream.preset, candidate.model)
    exchange.attempts.append(attempt)
    try:
        connection = await upstream.acquire(config.connect_timeout_s, fresh=fresh)
        attempt.reused_connection = connection.reused
        message = await connection.send(
            head,
            outgoing.body,
            expects_body=outgoing.method != "HEAD",
            timeout_s=config.first_byte_timeout_s,
        )
        attempt.status = message.code
        try:
            exchange.head = reply_head = ReplyHead(message.code, read_reply(message.raw_headers, secrets))
            if 300 <= message.code < 400 and message.code != 304:
                raise UpstreamError("The provider answered with a redirect, which is not followed.")
        except UpstreamError:
            connection.abort()
            raise
    except GatewayError as error:
        attempt.error = error.code
        if isinstance(error, Overloaded):  # at our own cap nobody was asked
            exchange.attempts.pop()
        raise
    return connection, reply_head


async def _read_error(exchange: Exchange, connection: UpstreamConnection, head: ReplyHead) -> bytes:
    config = exchange.pipeline.config
    collector = Collector(connection, _MAX_ERROR_BYTES, config.idle_timeout_s, config.idle_timeout_s)
    try:
        body = await collector.wait()
    except UpstreamError:
        connection.abort()
        return b""  # its status says enough
    exchange.attempts[-1].error = str(head.status)
    try:
        decoder = open_decoder(head.headers.get("content-encoding"))
        return blot(decoder.feed(body) if decoder is not None else body, exchange.secrets)
    except UpstreamError:
        return b""
