"""A drop-in plugin that writes a row for each exchange: who, what, how it ended, how much.

What a gateway without any policy does for its log. `added` measures limits and money against it.
"""

from __future__ import annotations

import time

from raven_proxy import Exchange, hookimpl
from raven_proxy.gateway import Gateway
from raven_proxy.storage import Storage

_COLUMNS = (
    "request_id", "created_at", "key_id", "organization_id", "face", "model", "provider", "upstream_model",
    "status", "outcome", "stream", "prompt_tokens", "completion_tokens", "cached_tokens", "reasoning_tokens",
    "total_tokens", "attempts", "latency_ms", "finish_reason", "error_code",
)  # fmt: skip
_TABLE = (
    f"CREATE TABLE bench_rows (id INTEGER PRIMARY KEY, {', '.join(_COLUMNS)});"
    "CREATE INDEX bench_rows_by_key ON bench_rows (key_id, created_at);"
)
_INSERT = f"INSERT INTO bench_rows ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"


class Plugin:
    """Queues one row for each finished exchange."""

    def __init__(self) -> None:
        self._storage: Storage

    @hookimpl
    async def startup(self, gateway: Gateway) -> None:
        """Make the table."""
        self._storage = gateway.storage
        await gateway.storage.migrate("rows", (_TABLE,))

    @hookimpl
    async def finish_exchange(self, exchange: Exchange) -> None:
        """Queue the row."""
        principal, candidate, usage, error = (
            exchange.principal, exchange.candidate, exchange.usage, exchange.error,
        )  # fmt: skip
        self._storage.write_behind(
            _INSERT,
            (
                exchange.id,
                int(time.time()),
                principal.key_id if principal is not None else None,
                principal.organization_id if principal is not None else None,
                exchange.face.name,
                exchange.model,
                candidate.upstream.name if candidate is not None else None,
                candidate.model if candidate is not None else None,
                exchange.status,
                exchange.outcome.value,
                int(exchange.stream),
                usage.prompt_tokens if usage is not None else 0,
                usage.completion_tokens if usage is not None else 0,
                usage.cached_tokens if usage is not None else 0,
                usage.reasoning_tokens if usage is not None else 0,
                usage.total_tokens if usage is not None else 0,
                len(exchange.attempts),
                exchange.elapsed_ms(),
                exchange.finish_reason,
                error.code if error is not None else None,
            ),
        )
