"""`POST /providers/{id}/test`: one call that costs nothing, to see whether address and key work.

Nothing that the other side says is shown but its status; redirects are not followed; the time is short.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import perf_counter

import msgspec

from raven_proxy import ConfigError, GatewayError, Outgoing
from raven_proxy.errors import UpstreamTimeout
from raven_proxy.providers import Listing, Probing
from raven_proxy.resources import Action, ActionCall, Record
from raven_proxy.sealing import SealBroken
from raven_proxy.upstream import Upstream

from .account import Account
from .shelf import lacks_key

__all__ = ["Outcome", "make_trial"]

_TIMEOUT_S = 10.0
_CONNECT_S = 5.0
_WORDS = {
    401: "The provider refuses the key.",
    403: "The provider refuses the key.",
    404: "The provider is there, but has no list of models at this address.",
    429: "The provider is there, and limits this key at the moment.",
}


class Outcome(msgspec.Struct, kw_only=True, rename="camel"):
    """How a trial went. `status` is the provider's, None where it gave none or was only connected to."""

    success: bool
    latency_ms: int
    status: int | None
    message: str


def make_trial(build: Callable[[Record[Account]], Upstream]) -> Action:
    """Declare the action; `build` makes the upstream of an account."""

    async def run(call: ActionCall) -> Outcome:
        record = call.record
        assert record is not None
        outcome = await _try(record, build)
        noted = {"success": outcome.success, "status": outcome.status}
        await call.records.note(call.caller, "providers.test", record.id, noted)
        return outcome

    return Action(name="test", summary="See whether address and key work", run=run, reply=Outcome)


async def _try(record: Record[Account], build: Callable[[Record[Account]], Upstream]) -> Outcome:
    started_at = perf_counter()

    def end(success: bool, status: int | None, message: str) -> Outcome:
        latency_ms = round((perf_counter() - started_at) * 1000)
        return Outcome(success=success, latency_ms=latency_ms, status=status, message=message)

    try:
        upstream = build(record)
    except SealBroken:
        return end(False, None, "The key cannot be opened: the gateway's secret was changed. Store it again.")
    except ConfigError as error:
        return end(False, None, f"{error}.")
    if lacks_key(upstream):
        return end(False, None, "There is no key.")
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            status = await _call(upstream, _find_call(upstream))
    except TimeoutError:
        return end(False, None, f"The provider did not answer within {_TIMEOUT_S:g} s.")
    except UpstreamTimeout:
        return end(False, None, "The provider did not answer in time.")
    except GatewayError as error:
        return end(False, None, error.message)
    except (OSError, ValueError):
        return end(False, None, "The provider could not be called.")
    finally:
        upstream.close()
    if status is None:
        return end(
            True, None, "The provider was reached. It has no call that would show whether the key works."
        )
    return end(200 <= status < 300, status, _word(status))


def _find_call(upstream: Upstream) -> Outgoing | None:
    provider = upstream.provider
    if isinstance(provider, Probing):
        return provider.build_probe(upstream)
    return provider.build_listing(upstream, None) if isinstance(provider, Listing) else None


async def _call(upstream: Upstream, outgoing: Outgoing | None) -> int | None:
    """Send one request and give the reply's status; its body is not read."""
    head = upstream.write_request(outgoing) if outgoing is not None else b""
    connection = await upstream.acquire(_CONNECT_S)
    try:
        if outgoing is None:
            return None
        message = await connection.send(head, outgoing.body, expects_body=True, timeout_s=_TIMEOUT_S)
        return int(message.code)
    finally:
        connection.abort()


def _word(status: int) -> str:
    if status < 300:
        return "The provider answered."
    if status < 400:
        return "The provider answered with a redirect, which is not followed."
    return _WORDS.get(status, "The provider answered with an error.")
