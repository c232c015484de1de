"""The plugin `idempotency`: a request that is sent again gets the first one's reply, and costs nothing.

Responsible for the header `Idempotency-Key` on what goes to providers. What is the same request is
`identity`'s affair, what every worker knows of it that of `entries`, how replies are kept `vault`'s.
It has to stand before the plugins that count and charge: none of them is asked about a repeat.
"""

from __future__ import annotations

import asyncio
import hmac
from typing import Annotated

import msgspec
import structlog
from msgspec import Meta

from raven_proxy import Exchange, Refused, Reply, Stage, hookimpl
from raven_proxy.gateway import Gateway
from raven_proxy.tasks import Tasks

from .copying import Copy
from .endings import Ending, choose_headers, judge, read_body
from .entries import MIGRATIONS, Entries, Entry, State
from .identity import HEADER, Identity, identify, read_key
from .vault import Kept, Vault, derive

__all__ = ["Idempotency"]

_log = structlog.get_logger("raven_idempotency")
_NOTE = "idempotency"
_SWEEP_EVERY_S = 60.0
_SHUTDOWN_S = 5.0
_TRIES = 5
_PAUSE_S = 1.0
# Faces that cost something. What manages the gateway is left out: replies hold new keys there.
_SCOPES = frozenset("chat:write embeddings:write images:write audio:write video:write files:write".split())
_FINAL = {"x-should-retry": "false"}  # the official clients would try a 409 again


class Claim(msgspec.Struct):
    """What an exchange with a key holds: the key, and a copy of its reply once there is one."""

    identity: Identity
    copy: Copy


class Idempotency:
    """Lets one request of each key run, and gives its reply to the others."""

    class Config(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
        """`[plugin.idempotency]`. Times are in seconds, sizes in bytes.

        `keep_s` is how long a reply is given again, from its end. One over `max_reply_bytes` is not kept,
        nor one that all together would be over `max_total_bytes` with: their repeats are a 409. A worker
        that died blocks the keys of what it had under way for `lease_s`.
        """

        keep_s: Annotated[float, Meta(gt=0)] = 86_400.0
        max_reply_bytes: Annotated[int, Meta(ge=1)] = 2**20
        max_total_bytes: Annotated[int, Meta(ge=1)] = 2**30
        lease_s: Annotated[float, Meta(ge=1)] = 30.0

    def __init__(self, config: Config | None = None) -> None:
        self._config = config or Idempotency.Config()
        self._entries: Entries
        self._vault: Vault
        self._secret = b""
        self._held: dict[str, str] = {}  # request id → entry id, of what is under way here
        self._tasks = Tasks()
        self._background: asyncio.Task[None] | None = None

    @hookimpl
    async def startup(self, gateway: Gateway) -> None:
        """Bring the table up to date, and look after leases and old entries from now on."""
        config = self._config
        await gateway.storage.migrate("idempotency", MIGRATIONS)
        self._entries = Entries(
            gateway.storage,
            lease_s=config.lease_s,
            keep_s=config.keep_s,
            max_total_bytes=config.max_total_bytes,
        )
        self._vault = Vault(gateway.secret)
        self._secret = derive(gateway.secret, "identity")
        self._background = self._tasks.spawn(self._look_after(), "idempotency")

    @hookimpl
    async def shutdown(self) -> None:
        """Write what has ended, and stop."""
        if self._background is not None:
            self._background.cancel()
        await self._tasks.settle(_SHUTDOWN_S)

    @hookimpl
    async def check_request(self, exchange: Exchange) -> Reply | None:
        """Let the first request with a key pass; answer the others. Raises Refused (400, 409)."""
        if HEADER not in exchange.headers or not _applies(exchange):
            return None
        principal = exchange.principal
        assert principal is not None
        identity = identify(exchange, principal, read_key(exchange), self._secret)
        # Under the gateway's own account at a provider two callers with one key would meet.
        del exchange.headers[HEADER]
        # Noted before the wait: who is cancelled within it lets go too.
        exchange.notes[_NOTE] = Claim(identity, Copy(self._config.max_reply_bytes))
        entry = await self._entries.take(identity, exchange.id)
        if entry is None:
            self._held[exchange.id] = identity.id
            return None
        del exchange.notes[_NOTE]
        return self._repeat(identity, entry)

    @hookimpl(trylast=True)  # after the stages of every other plugin: what they took out must not be kept
    def open_stage(self, exchange: Exchange) -> Stage | None:
        """Copy what goes out, if there is a key."""
        claim = exchange.notes.get(_NOTE)
        return claim.copy if claim is not None else None

    @hookimpl
    def settle_exchange(self, exchange: Exchange) -> None:
        """Keep the reply or let go of the key."""
        claim = exchange.notes.get(_NOTE)
        if claim is not None:
            # A task of its own: it begins when the reply's head is written, and before the client has it.
            self._tasks.launch(self._end(exchange, claim, judge(exchange)), "idempotency-end")

    def _repeat(self, identity: Identity, entry: Entry) -> Reply:
        if not hmac.compare_digest(entry.fingerprint, identity.fingerprint):
            raise Refused(
                "This Idempotency-Key was used for another request. Use a new key for each new request.",
                status=409,
                code="idempotency_key_reused",
                param="Idempotency-Key",
                headers=dict(_FINAL),
            )
        if entry.state is State.RUNNING:
            raise Refused(
                "The first request with this Idempotency-Key is still under way.",
                status=409,
                param="Idempotency-Key",
                headers={"Retry-After": "1"},
            )
        kept = self._vault.open(identity, entry.reply) if entry.reply is not None else None
        if kept is None:
            raise Refused(
                f"The request with this Idempotency-Key was served as {entry.request_id}, but "
                f"{self._why_not_kept(entry.state)}. Use a new key to run it once more.",
                status=409,
                code="idempotency_reply_not_kept",
                param="Idempotency-Key",
                headers=dict(_FINAL),
            )
        headers = {**kept.headers, "idempotent-replayed": "true", "original-request": kept.request_id}
        return Reply(kept.status, headers, kept.body)

    def _why_not_kept(self, state: State) -> str:
        if state is State.TOO_LONG:
            return f"its reply was longer than the {self._config.max_reply_bytes} bytes that are kept"
        if state is State.NO_ROOM:
            return "there was no room to keep its reply"
        return "its reply cannot be read any more"

    async def _end(self, exchange: Exchange, claim: Claim, ending: Ending) -> None:
        if ending is Ending.REPLY and exchange.error is not None:
            ending = Ending.NOTHING  # its head could not be written
        try:
            for _ in range(_TRIES if exchange.id in self._held else 1):  # meanwhile the lease is renewed
                try:
                    await self._write_end(exchange, claim, ending)
                    return
                except Exception as error:
                    _log.error("an ending has to wait", request_id=exchange.id, reason=str(error))
                await asyncio.sleep(_PAUSE_S)
        finally:
            self._held.pop(exchange.id, None)

    async def _write_end(self, exchange: Exchange, claim: Claim, ending: Ending) -> None:
        identity, request_id = claim.identity, exchange.id
        if ending is Ending.NOTHING:
            await self._entries.release(identity, request_id)
            return
        body = read_body(exchange, ending, claim.copy)
        sealed = None
        if body is not None and len(body) <= self._config.max_reply_bytes:
            kept = Kept(exchange.status, choose_headers(exchange), body, request_id)
            sealed = self._vault.seal(identity, kept)
        if await self._entries.keep(identity, request_id, sealed) is State.NO_ROOM:
            _log.warning("no room to keep a reply", request_id=request_id)

    async def _look_after(self) -> None:
        """Renew the leases of what is under way and delete what is over; runs until it is cancelled."""
        pause_s = min(self._config.lease_s / 3, _SWEEP_EVERY_S)
        next_sweep = 0.0
        loop = asyncio.get_running_loop()
        while True:
            try:
                if self._held:
                    await self._entries.renew(dict(self._held))
                if loop.time() >= next_sweep:
                    await self._entries.sweep()
                    next_sweep = loop.time() + min(_SWEEP_EVERY_S, self._config.keep_s)
            except Exception as error:
                _log.error("idempotency keys cannot be looked after", reason=str(error))
            await asyncio.sleep(pause_s)


def _applies(exchange: Exchange) -> bool:
    return exchange.request.method == "POST" and exchange.face.scope in _SCOPES
