"""What the configured plugins come to: one frozen tuple per hook, and how each is called.

pluggy found, checked and ordered the plugins at start-up; no request touches it. A reload builds
a second `Pipeline` and swaps one attribute: an exchange ends on the pipeline on which it began.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
import structlog

from .config import Config
from .errors import PLUGIN_FAULTS, GatewayError, PluginFailed
from .exchange import Exchange
from .faces import Face
from .headers import Network
from .openapi import describe
from .organizations import Organizations
from .tasks import resume

if TYPE_CHECKING:
    from .catalogue import Catalogue
    from .plugin_list import ListedPlugin
    from .plugins import Plugin
    from .resources import Resource
    from .routes import Routes
    from .upstream import Upstream

__all__ = [
    "HookCall",
    "Pipeline",
    "PlainCall",
    "call_all",
    "call_each",
    "call_first",
    "is_cancelled",
    "settle",
]

_log = structlog.get_logger("raven_proxy.pipeline")


class HookCall(msgspec.Struct, frozen=True):
    """One plugin's implementation of an asynchronous hook."""

    plugin: str
    hook: str
    function: Callable[[Any], Coroutine[Any, Any, Any]]
    timeout_s: float


class PlainCall(msgspec.Struct, frozen=True):
    """One plugin's implementation of a synchronous hook: `open_stage`, `settle_exchange`."""

    plugin: str
    function: Callable[[Exchange], Any]


class Pipeline:
    """An immutable snapshot of config, plugins, routes and upstreams.

    `hooks` maps each hook's name to its calls; the hot ones are attributes too. `in_flight`
    counts the exchanges that live on this snapshot: its plugins are shut down when it is the old
    one and the count is back at zero.
    """

    def __init__(
        self,
        config: Config,
        plugins: tuple[Plugin, ...],
        hooks: Mapping[str, tuple[HookCall, ...]],
        plain: Mapping[str, tuple[PlainCall, ...]],
        routes: Routes,
        catalogue: Catalogue,
        upstreams: Mapping[str, Upstream],
        resources: tuple[Resource[Any], ...] = (),
        listed: tuple[ListedPlugin, ...] = (),
    ) -> None:
        self.config = config
        self.plugins = plugins
        self.hooks = hooks
        self.routes = routes
        self.catalogue = catalogue
        self.upstreams = upstreams
        self.resources = resources
        self.listed = listed  # the plugins, as they are shown
        self.trusted: tuple[Network, ...] = config.proxies()
        self.authenticate = hooks["authenticate"]
        self.check_request = hooks["check_request"]
        self.answer = hooks["answer"]
        self.choose_upstreams = hooks["choose_upstreams"]
        self.provide_credential = hooks["provide_credential"]
        self.before_send = hooks["before_send"]
        self.open_stage = plain["open_stage"]
        self.settle_exchange = plain["settle_exchange"]
        self.check_reply = hooks["check_reply"]
        self.finish_exchange = hooks["finish_exchange"]
        self.observe_event = hooks["observe_event"]
        self.find_principal = hooks["find_principal"]
        self.explain_exchange = hooks["explain_exchange"]
        self.logs_access = config.access_log and config.log_level in {"debug", "info"}
        self.organizations = Organizations()  # the gateway's, once it is assembled
        self._document = b""
        self.in_flight = 0
        self.is_draining = False  # replies then ask clients to close

    def faces(self) -> tuple[Face, ...]:
        """List every registered face and route."""
        return self.routes.faces

    def document(self) -> bytes:
        """Give `/openapi.json`; made when it is first asked for."""
        if not self._document:
            self._document = msgspec.json.encode(describe(self.routes.faces))
        return self._document


async def call_each(calls: tuple[HookCall, ...], subject: Any) -> list[tuple[str, Any]]:
    """Call every plugin in order; give each one's name and answer."""
    return [(call.plugin, await _call((call,), subject, until_answered=True)) for call in calls]


def settle(exchange: Exchange) -> None:
    """Tell every `settle_exchange` how an exchange ended, the first time this is called for it.

    A plugin that fails there is logged; the reply goes out all the same, and the others are told.
    """
    if exchange.is_settled:
        return
    exchange.is_settled = True
    exchange.written = None
    for call in exchange.pipeline.settle_exchange:
        try:
            call.function(exchange)
        except PLUGIN_FAULTS as error:
            _log.error(
                "plugin failed",
                plugin=call.plugin,
                hook="settle_exchange",
                request_id=exchange.id,
                exc_info=error,
            )


async def _call(calls: tuple[HookCall, ...], subject: Any, *, until_answered: bool) -> Any:
    """Call hooks in order, each within its time; anything but a GatewayError becomes PluginFailed.

    With `until_answered` the first answer other than None ends it. Most hooks never suspend: their first step
    is taken without a timer, which would cost more than the hook. One that suspends is put under its limit.
    """
    for call in calls:
        try:
            coroutine = call.function(subject)
            waiting_for = coroutine.send(None)
        except StopIteration as stop:
            answer = stop.value
        except GatewayError:
            raise
        except PLUGIN_FAULTS as error:
            raise _failed(call, subject, error) from error
        else:
            answer = await _wait(call, subject, coroutine, waiting_for)
        if until_answered and answer is not None:
            return answer
    return None


call_first = partial(_call, until_answered=True)
"""Call in order until one answers something other than None."""

call_all = partial(_call, until_answered=False)
"""Call every plugin in order."""


async def _wait(call: HookCall, subject: Any, coroutine: Coroutine[Any, Any, Any], waiting_for: Any) -> Any:
    try:
        async with asyncio.timeout(call.timeout_s) as limit:
            return await resume(coroutine, waiting_for)
    except GatewayError:
        raise
    except PLUGIN_FAULTS as error:
        if is_cancelled(error):
            raise
        reason = f"outlasted its limit of {call.timeout_s:g} s" if limit.expired() else None
        raise _failed(call, subject, error, reason) from error


def is_cancelled(error: BaseException) -> bool:
    """Say whether this task was cancelled (a client left), not just something that a plugin waited for."""
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling() > 0


def _failed(call: HookCall, subject: Any, error: BaseException, reason: str | None = None) -> PluginFailed:
    _log.error(
        "plugin failed",
        plugin=call.plugin,
        hook=call.hook,
        request_id=getattr(subject, "id", None),
        reason=reason or type(error).__name__,
        exc_info=error if reason is None else None,
    )
    return PluginFailed(call.plugin, call.hook)
