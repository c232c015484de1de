"""From the head of a reply to its last byte: whole or as a stream, through tap and stages."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from typing import TYPE_CHECKING

import structlog

from .chain import Chain, open_chain
from .collector import Collector
from .connection import UpstreamConnection
from .documents import check_json, check_kind, check_whole, is_close_delimited, is_collected, wants_document
from .errors import PluginFailed, UpstreamError, UpstreamTimeout, UpstreamTruncated
from .exchange import Exchange, Outcome, Reply, ReplyHead
from .headers import forward_reply, guard_headers
from .phases import others
from .pipeline import call_all, settle
from .relay import Kind, Relay
from .replies import is_ours, reply_head, send_whole
from .server import SENT, SENT_AND_CLOSE, ClientConnection, Sent

if TYPE_CHECKING:
    from .config import Config
    from .gateway import Gateway

__all__ = ["deliver_reply", "deliver_upstream", "send_ready"]

_ORIGIN = frozenset({"x-raven-provider", "x-raven-model"})

_log = structlog.get_logger("raven_proxy.delivery")


async def deliver_upstream(
    gateway: Gateway, exchange: Exchange, client: ClientConnection, connection: UpstreamConnection
) -> Sent:
    """Pass a provider's reply to the client.

    JSON is collected first, so that a broken reply is a 502 and not half a document; everything
    else goes out as it comes, and so does JSON that is the stream itself.
    """
    head = exchange.head
    assert head is not None
    exchange.first_byte_at = exchange.started_at + exchange.elapsed_ms() / 1000.0
    try:
        check_kind(exchange, head)
        chain = open_chain(exchange, head, from_provider=True)
    except BaseException:
        connection.abort()  # nobody will take the body
        raise
    if is_collected(exchange) or _is_bodiless(exchange, head):
        return await _deliver_whole(exchange, client, connection, chain)
    return await _deliver_stream(gateway, exchange, client, connection, chain)


async def deliver_reply(exchange: Exchange, client: ClientConnection, reply: Reply) -> Sent:
    """Pass a reply that no upstream gave to the client, through tap and stages all the same."""
    lower = {name.lower(): value for name, value in reply.headers.items()}
    headers = {name: value for name, value in lower.items() if not is_ours(name)}
    exchange.head = head = ReplyHead(reply.status, headers)
    exchange.first_byte_at = exchange.started_at + exchange.elapsed_ms() / 1000.0
    if isinstance(reply.body, bytes) and (reply.status >= 400 or exchange.face.public):
        exchange.outcome = Outcome.REFUSED if reply.status >= 400 else Outcome.COMPLETED
        return send_whole(exchange, client, reply.status, dict(headers), reply.body)
    chain = open_chain(exchange, head, from_provider=False)
    body = reply.body
    if not isinstance(body, bytes) and exchange.request.method == "HEAD":
        body = await _skip(body)
    elif not isinstance(body, bytes) and exchange.collects:
        body = await _join(body, exchange.pipeline.config)
    if isinstance(body, bytes):
        return await _send_collected(exchange, client, chain, body, dict(headers))
    return await _deliver_iterator(exchange, client, chain, body)


def send_ready(exchange: Exchange, client: ClientConnection, reply: Reply) -> Sent:
    """Send the reply that a `check_request` hook gave, as it is: no tap, no stage, no provider.

    It may say which provider and model it came from when it was made. Raises TypeError for anything
    but a `Reply` whose body is bytes.
    """
    if type(reply) is not Reply or not isinstance(reply.body, bytes):
        raise TypeError(f"check_request gives None or a whole Reply, not {type(reply).__name__}")
    lower = {name.lower(): value for name, value in reply.headers.items()}
    headers = {name: value for name, value in lower.items() if name in _ORIGIN or not is_ours(name)}
    if "x-raven-provider" in headers:
        headers["X-Raven-Latency-Ms"] = str(int(exchange.elapsed_ms()))
    exchange.first_byte_at = exchange.started_at + exchange.elapsed_ms() / 1000.0
    exchange.outcome = Outcome.REFUSED if reply.status >= 400 else Outcome.REPLAYED
    exchange.status = reply.status
    settle(exchange)
    return send_whole(exchange, client, reply.status, headers, reply.body)


async def _deliver_whole(
    exchange: Exchange, client: ClientConnection, connection: UpstreamConnection, chain: Chain
) -> Sent:
    head = exchange.head
    assert head is not None
    config = exchange.pipeline.config
    body = connection.take()
    if body is None:
        limits = config.max_stream_bytes, config.idle_timeout_s, config.total_timeout_s
        body = await Collector(connection, *limits).wait()
    return await _send_collected(exchange, client, chain, body, _headers(head, chain), from_provider=True)


async def _send_collected(
    exchange: Exchange,
    client: ClientConnection,
    chain: Chain,
    body: bytes,
    headers: dict[str, str],
    *,
    from_provider: bool = False,
) -> Sent:
    head = exchange.head
    assert head is not None
    if from_provider and is_close_delimited(head):
        check_whole(body, head)
    body = (chain.feed(body) if body else b"") + chain.close()
    is_metered = chain.is_metered
    tally = chain.settle()
    if not tally.complete and not _is_bodiless(exchange, head):
        raise UpstreamTruncated("The provider's reply is not a whole document.")
    if from_provider and not is_metered and wants_document(exchange):
        check_json(body)
    if exchange.pipeline.check_reply:
        exchange.reply_body = body
        await call_all(exchange.pipeline.check_reply, exchange)
        body = exchange.reply_body
    await others(exchange)  # whoever leaves here has not had the reply
    exchange.outcome = Outcome.COMPLETED
    if tally.error is not None:  # some say it under a status of 200; the bytes are theirs
        exchange.outcome = Outcome.UPSTREAM_ERROR
        exchange.error = UpstreamError(tally.error)
    exchange.status = head.status
    settle(exchange)
    return send_whole(exchange, client, head.status, headers, body)


def _headers(head: ReplyHead, chain: Chain) -> dict[str, str]:
    headers = forward_reply(head.headers)
    if chain.content_type:
        headers["content-type"] = chain.content_type
    headers.update(guard_headers(chain.content_type))
    return headers


def _is_bodiless(exchange: Exchange, head: ReplyHead) -> bool:
    return head.status in (204, 304) or exchange.request.method == "HEAD"


async def _deliver_stream(
    gateway: Gateway,
    exchange: Exchange,
    client: ClientConnection,
    connection: UpstreamConnection,
    chain: Chain,
) -> Sent:
    head = exchange.head
    assert head is not None
    try:
        relay = _open_relay(exchange, client, chain, connection, _headers(head, chain))
    except BaseException:
        connection.abort()
        raise
    connection.attach(relay)
    relay.begin()
    try:
        may_live = await relay.done
    except asyncio.CancelledError:
        principal = exchange.principal
        if not relay.done.cancelled():
            pass  # it ended before the client left: its connection may serve another exchange by now
        elif principal is not None and principal.on_disconnect == "drain" and not gateway.is_draining:
            exchange.notes["detached"] = True
            relay.drop_client()
            gateway.tasks.launch(_drain(gateway, exchange, relay), "drain")
        else:
            relay.leave()
        raise
    return SENT if may_live and exchange.request.keep_alive else SENT_AND_CLOSE


async def _drain(gateway: Gateway, exchange: Exchange, relay: Relay) -> None:
    """Read a stream to its end for its usage, after the client left."""
    try:
        await relay.done
    finally:
        exchange.outcome = Outcome.CANCELLED
        gateway.finish(exchange)


def _open_relay(
    exchange: Exchange,
    client: ClientConnection,
    chain: Chain,
    source: UpstreamConnection | _Iterating,
    headers: dict[str, str],
) -> Relay:
    head = exchange.head
    assert head is not None
    chunked = exchange.request.version >= (1, 1)
    kind = _kind(chain.content_type)
    if chunked:
        headers["Transfer-Encoding"] = "chunked"
    if kind == "events":
        headers["cache-control"] = "no-cache"
        headers["x-accel-buffering"] = "no"  # nginx passes the frames on as they come
    keep_alive = chunked and exchange.request.keep_alive and not exchange.pipeline.is_draining
    data = reply_head(exchange, head.status, headers, keep_alive=keep_alive)
    return Relay(exchange, source, client, chain, data, chunked=chunked, kind=kind)


def _kind(content_type: str) -> Kind:
    if content_type.startswith("text/event-stream"):
        return "events"
    return "lines" if content_type.startswith(("application/x-ndjson", "application/jsonl")) else "bytes"


async def _skip(pieces: AsyncIterator[bytes]) -> bytes:
    """Let a stream be: to HEAD its head alone is sent, since a body would be read as the next reply."""
    if isinstance(pieces, AsyncGenerator):
        await pieces.aclose()
    return b""


async def _join(pieces: AsyncIterator[bytes], config: Config) -> bytes:
    body = bytearray()
    try:
        async with asyncio.timeout(config.total_timeout_s) as limit:
            async for piece in pieces:
                body += piece
                if len(body) > config.max_stream_bytes:
                    raise UpstreamError("The stream is over the size limit.")
    except TimeoutError:
        if limit.expired():
            raise UpstreamTimeout("The reply took longer than the total limit.") from None
        raise
    finally:
        if isinstance(pieces, AsyncGenerator):
            await pieces.aclose()
    return bytes(body)


class _Iterating:
    """An async iterator as a relay's source; within `limit` it can be stopped while it waits, too."""

    def __init__(self) -> None:
        self.may_go_on = asyncio.Event()
        self.may_go_on.set()
        self.limit = asyncio.timeout(None)

    def hold(self) -> None:
        self.may_go_on.clear()

    def resume(self) -> None:
        self.may_go_on.set()

    def abort(self) -> None:
        with contextlib.suppress(RuntimeError):  # it has ended by itself
            self.limit.reschedule(0.0)


async def _deliver_iterator(
    exchange: Exchange, client: ClientConnection, chain: Chain, pieces: AsyncIterator[bytes]
) -> Sent:
    head = exchange.head
    assert head is not None
    source = _Iterating()
    relay = _open_relay(exchange, client, chain, source, dict(head.headers))
    try:
        async with source.limit:
            async for piece in pieces:
                relay.feed(piece)
                await asyncio.sleep(0)  # an iterator that never waits must not keep everybody waiting
                await source.may_go_on.wait()
        relay.end()
    except asyncio.CancelledError:
        relay.leave()
        raise
    except Exception as error:
        if not source.limit.expired():  # else it was the relay that stopped it, and said why
            _log.error("answer failed", face=exchange.face.name, request_id=exchange.id, exc_info=error)
            relay.fail(PluginFailed("answer", "answer"))
    finally:
        if isinstance(pieces, AsyncGenerator):
            await pieces.aclose()
    may_live = await relay.done
    return SENT if may_live and exchange.request.keep_alive else SENT_AND_CLOSE
