"""A gateway with the plugin on, and its caller."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from raven_proxy.harness import ADMINISTRATOR

from .caller import Caller

Start = Callable[..., Awaitable[Caller]]


@pytest.fixture
def start(raven: Any, upstream: Any) -> Start:
    """Start gateways: `plugins` and `before` in order around "idempotency", then those of `base`."""

    async def begin(
        plugins: Any = (), *, before: Any = (), base: Any = ("openai",), principal: Any = ADMINISTRATOR,
        config: Any = None, **settings: Any,
    ) -> Caller:  # fmt: skip
        table = {"access_log": False, **(config or {})}
        table["plugin"] = {**table.get("plugin", {}), "idempotency": settings}
        gateway = await raven(
            [*before, "idempotency", *plugins], upstreams=[upstream], base=base, config=table,
            principal=principal,
        )  # fmt: skip
        return Caller(gateway, upstream)

    return begin
