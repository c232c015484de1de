"""One request, from accept to finish. Read this first.

    serve → _admit (route, authenticate, body, judge) → _answer | _forward (attempts) → _deliver
          → finish

The gateway knows no vendor and no policy: faces and providers are registered, policy is hooks.
"""

from __future__ import annotations

import asyncio
import time
from random import Random
from typing import TYPE_CHECKING, cast

import structlog
from aiohttp.web import BaseRequest

from . import attempts, delivery
from .counters import Counters, LocalCounters
from .errors import (
    Forbidden,
    GatewayError,
    Overloaded,
    PluginFailed,
    Refused,
    Unauthenticated,
    UpstreamError,
    forget_frames,
)
from .events import Event
from .exchange import Exchange, Outcome, Principal, Reply
from .headers import client_address, collect_request, is_forwarded
from .holdings import Holdings
from .intake import check_protocol, read_body, require_json
from .observation import Observation
from .organizations import Organizations
from .phases import others
from .pipeline import Pipeline, call_first, settle
from .raw import find_raw_face
from .replies import send_error
from .resources import Records, outranks
from .routes import check_path
from .sealing import Sealer
from .server import ClientConnection, Sent
from .tasks import Tasks

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

    from .config import Config
    from .storage import Storage

__all__ = ["Gateway"]

_log = structlog.get_logger("raven_proxy.gateway")


class Gateway:
    """Serves requests on a `Pipeline`, which `reload` replaces.

    Plugins get it in `startup`: `storage`, `records`, `organizations`, `holdings`, `sealer`, `counters`,
    `config`, `data_dir`, `tasks`, `announce`, `publish` are theirs to use.
    """

    def __init__(
        self,
        storage: Storage,
        data_dir: Path,
        secret: bytes,
        counters: Counters | None = None,
        former_secrets: Sequence[bytes] = (),
    ) -> None:
        self.pipeline: Pipeline  # set once the plugins are built, and by each reload
        self.config: Config  # the one in force, and in `startup` the one that comes into force
        self.storage = storage
        self.counters: Counters = counters or LocalCounters()
        self.data_dir = data_dir
        self.sealer = Sealer(secret, former_secrets)  # for what plugins must store and read again
        self.records = Records(storage, self.sealer, lambda: self.pipeline.resources)
        self.organizations = Organizations()
        self.holdings = Holdings()  # of the pipeline in force, and in `startup` of the one that comes
        self.secret = secret  # 32 bytes of key material for what plugins must store encrypted
        self.tasks = Tasks()
        self.log = _log
        self.in_flight = 0
        self._random = Random()  # noqa: S311  # names requests: unique is enough, and it costs no system call
        self.is_draining = False
        self._looks_for_proxies = True
        self.announcements: list[tuple[str, str]] = []
        self.reload: Callable[[], Awaitable[None]] | None = None  # set by the process that serves
        self.observation = Observation(self.tasks)

    def announce(self, kind: str, value: str) -> None:
        """Give the operator something once, on the terminal and never in a log (a first key)."""
        self.announcements.append((kind, value))

    def publish(self, event: Event) -> None:
        """Tell observers that something happened; nobody is waited for."""
        self.observation.publish(self.pipeline, event)

    async def serve(self, request: BaseRequest) -> Sent:
        """Serve one request; every way out ends in exactly one finished exchange."""
        pipeline = self.pipeline
        client = cast("ClientConnection", request.protocol)
        exchange = Exchange(request, pipeline, self._name())
        self.in_flight += 1
        pipeline.in_flight += 1
        try:
            if client.writing_paused:  # earlier replies on this connection are not read yet
                await client.drain()
            ready = await self._admit(exchange)
            if ready is not None:
                return delivery.send_ready(exchange, client, ready)
            return await self._respond(exchange, client)
        except GatewayError as error:
            self._note_refusal(exchange, error)
            return self._send_error(exchange, client, error)
        except asyncio.CancelledError:
            if client.transport is not None and not exchange.status:  # it is we who leave
                _ = send_error(exchange, client, Overloaded("The gateway is shutting down."))
                client.flush()
            self._note_departure(exchange)
            raise
        except Exception as error:
            _log.error("exchange failed", request_id=exchange.id, exc_info=error)
            exchange.error = GatewayError("The gateway could not process this request.")
            return self._send_error(exchange, client, exchange.error)
        finally:
            if exchange.notes.pop("detached", None) is None:
                self.finish(exchange)

    def _name(self) -> str:
        """Name a request: milliseconds, then 48 random bits. Names that rise with time are appended to every
        index that holds them, where random ones would touch a page of their own each.
        """
        return f"req_{time.time_ns() // 1_000_000 << 48 | self._random.getrandbits(48):024x}"

    def _send_error(self, exchange: Exchange, client: ClientConnection, error: GatewayError) -> Sent:
        """Settle, then say what is wrong: plugins may add headers to errors too."""
        if not exchange.face.public:
            exchange.status = exchange.face.dialect.statuses.get(error.status, error.status)
            settle(exchange)
        return send_error(exchange, client, error)

    def finish(self, exchange: Exchange) -> None:
        """Let observers see how it ended, in the background; called once for each exchange."""
        self.in_flight -= 1
        if exchange.error is not None:
            forget_frames(exchange.error)
        if exchange.face.public:
            exchange.pipeline.in_flight -= 1
            return
        settle(exchange)  # unless it was, as part of its reply
        self.observation.add(exchange)

    # -- one request ---------------------------------------------------------------

    async def _admit(self, exchange: Exchange) -> Reply | None:
        """Find the face and pass every gate, or up to one that gives the reply; what they did not see is
        not sent.
        """
        request = exchange.request
        pipeline = exchange.pipeline
        path = check_path(request.raw_path)
        exchange.headers = headers = collect_request(request.headers.items())
        check_protocol(request, headers)
        exchange.face, exchange.params = pipeline.routes.find(request.method, path)
        face = exchange.face
        if face.public:
            exchange.call = face.read_call(b"")
            return None
        if self.in_flight > pipeline.config.max_concurrency:
            raise Overloaded("The gateway is at its concurrency limit.")
        exchange.client_address = client_address(request.remote or "", headers, pipeline.trusted)
        if self._looks_for_proxies and is_forwarded(request.remote or "", headers, pipeline.trusted):
            self._warn_of_proxy(request.remote or "")
        exchange.principal = principal = await self._authenticate(exchange)
        if face.raw:
            exchange.face = face = find_raw_face(exchange)
        if face.scope is not None and face.scope not in principal.scopes:
            raise Forbidden(f"This key lacks the scope {face.scope}.", code="missing_scope")
        if face.role is not None and not outranks(principal.role, face.role):
            raise Forbidden(f"This takes the role {face.role}; yours is {principal.role}.")
        if face.json_body and request.method in {"POST", "PUT", "PATCH"}:
            require_json(headers)
        exchange.body = body = await read_body(exchange, pipeline.config)
        exchange.call = face.read_call(body)
        return await self._judge(exchange, principal)

    def _warn_of_proxy(self, peer: str) -> None:
        """Say it once: everybody behind a proxy that is not trusted shares its address, and its limits."""
        self._looks_for_proxies = False
        _log.warning(
            "a proxy's header was not believed: all of its clients count as one address",
            peer=peer,
            remedy=f"if {peer} is your proxy, add its network to trusted_proxies in the config",
        )

    async def _authenticate(self, exchange: Exchange) -> Principal:
        try:
            principal = await call_first(exchange.pipeline.authenticate, exchange)
        except PluginFailed as failure:
            # The caller may be in the right, so not a 401; and nobody passes.
            failure.status = 503
            failure.code = "service_unavailable"
            raise
        if principal is None:
            raise Unauthenticated("No valid API key was given; send Authorization: Bearer <key>.")
        if type(principal) is not Principal:
            _log.error("authenticate returned something that is not a Principal", request_id=exchange.id)
            raise Unauthenticated("The key could not be checked.")
        return principal

    async def _judge(self, exchange: Exchange, principal: Principal) -> Reply | None:
        attempts.resolve(exchange)
        attempts.check_model(exchange, principal)
        judged = exchange.call.model
        await others(exchange)
        ready: Reply | None = await call_first(exchange.pipeline.check_request, exchange)
        if ready is None and exchange.call.model != judged:  # a plugin replaced the body
            attempts.resolve(exchange)
            attempts.check_model(exchange, principal)
        return ready

    async def _respond(self, exchange: Exchange, client: ClientConnection) -> Sent:
        serve = exchange.face.serve
        if serve is not None:
            return await delivery.deliver_reply(exchange, client, await serve(exchange))
        answer = exchange.pipeline.answer
        if answer and (reply := await call_first(answer, exchange)) is not None:
            exchange.candidate = exchange.candidates[0] if exchange.candidates else None
            return await delivery.deliver_reply(exchange, client, reply)
        connection = await attempts.forward(exchange)
        return await delivery.deliver_upstream(self, exchange, client, connection)

    # -- how it ended ----------------------------------------------------------------

    def _note_refusal(self, exchange: Exchange, error: GatewayError) -> None:
        exchange.error = error
        if isinstance(error, UpstreamError):
            exchange.outcome = Outcome.UPSTREAM_ERROR
        elif isinstance(error, Refused) or error.status < 500:
            exchange.outcome = Outcome.REFUSED
        else:
            exchange.outcome = Outcome.FAILED

    def _note_departure(self, exchange: Exchange) -> None:
        if exchange.outcome is Outcome.FAILED and exchange.error is None:  # else it ended before
            exchange.outcome = Outcome.CANCELLED
        exchange.status = exchange.status or 499
