"""What is told in the background: `finish_exchange`, `observe_event`, the access log.

Observers fail quietly: what they raise is logged and counted, and no client sees it.
"""

from __future__ import annotations

import structlog

from .errors import GatewayError, PluginFailed
from .events import Event
from .exchange import Exchange
from .pipeline import HookCall, Pipeline, call_all
from .tasks import Tasks

__all__ = ["Observation"]


class Observation:
    """Hands finished exchanges to observers, those of one turn of the event loop in one task.

    `failures` counts what failed, by plugin and hook: gates and stages too.
    """

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks
        self._finished: list[Exchange] = []
        self._log = structlog.get_logger("raven_proxy.access").bind()
        self.failures: dict[tuple[str, str], int] = {}

    def add(self, exchange: Exchange) -> None:
        """Take a finished exchange; its observers run as soon as the loop is free."""
        if isinstance(exchange.error, PluginFailed):
            self.count(exchange.error)
        pipeline = exchange.pipeline
        if not (pipeline.finish_exchange or pipeline.logs_access):
            pipeline.in_flight -= 1
            return
        if not self._finished:
            self._tasks.loop().call_soon(self._begin)
        self._finished.append(exchange)

    def publish(self, pipeline: Pipeline, event: Event) -> None:
        """Tell a pipeline's observers of an event, as soon as the loop is free."""
        if pipeline.observe_event:
            pipeline.in_flight += 1  # its plugins are there until it is told
            self._tasks.launch(self._tell(pipeline, event), "observe_event")

    def count(self, failure: PluginFailed) -> None:
        """Count a plugin's failure under its name."""
        key = (failure.plugin, failure.hook)
        self.failures[key] = self.failures.get(key, 0) + 1

    def _begin(self) -> None:
        batch, self._finished = self._finished, []
        watched = []
        for exchange in batch:
            if exchange.pipeline.logs_access:
                self._log_access(exchange)
            if exchange.pipeline.finish_exchange:
                watched.append(exchange)
            else:
                exchange.pipeline.in_flight -= 1
        if watched:
            self._tasks.launch(self._observe(watched), "finish_exchange")

    async def _observe(self, batch: list[Exchange]) -> None:
        for exchange in batch:
            pipeline = exchange.pipeline  # observers may do to the exchange what they like
            try:
                for call in pipeline.finish_exchange:
                    await self._show(exchange, call)
            finally:
                pipeline.in_flight -= 1

    async def _tell(self, pipeline: Pipeline, event: Event) -> None:
        try:
            for call in pipeline.observe_event:
                await self._show(event, call)
        finally:
            pipeline.in_flight -= 1

    async def _show(self, subject: Exchange | Event, call: HookCall) -> None:
        try:
            await call_all((call,), subject)
        except GatewayError as error:
            if not isinstance(error, PluginFailed):  # too late to refuse anything
                self._log.error("plugin failed", plugin=call.plugin, hook=call.hook, reason=str(error))
            self.count(PluginFailed(call.plugin, call.hook))

    def _log_access(self, exchange: Exchange) -> None:
        principal = exchange.principal
        candidate = exchange.candidate
        self._log.info(
            "exchange",
            request_id=exchange.id,
            face=exchange.face.name,
            method=exchange.request.method,
            status=exchange.status,
            outcome=exchange.outcome.value,
            key=principal.key_id if principal is not None else None,
            model=exchange.model,
            upstream=candidate.upstream.name if candidate is not None else None,
            client=exchange.client_address,
            latency_ms=round(exchange.elapsed_ms(), 1),
        )
