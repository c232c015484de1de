"""What clients get, whole and streamed, as the five published systems document it (contract 2.3 and 2.4)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from raven_proxy.mock import MockUpstream

from .conftest import VendorStarter
from .documented import CHAT, REQUEST_ID, Absent, Case, cases, check, fits, stream_of


def _finished(word: str) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": word}
    return {"json": {"id": "x", "object": "chat.completion", "choices": [choice]}}


REPLIES = [
    Case(
        mark="RR",
        what="a finish reason of the vendor's own",
        send=CHAT | {"model": "deepseek-chat"},
        script=_finished("insufficient_system_resource"),
        reply={
            "choices": [{"finish_reason": "error", "native_finish_reason": "insufficient_system_resource"}]
        },
    ),
    Case(
        mark="RR",
        what="a finish reason of another dialect",
        send=CHAT | {"model": "deepseek-chat"},
        script=_finished("end_turn"),
        reply={"choices": [{"finish_reason": "stop", "native_finish_reason": "end_turn"}]},
    ),
    Case(
        mark="RR",
        what="a standard finish reason",
        send=CHAT | {"model": "deepseek-chat"},
        script=_finished("length"),
        reply={"choices": [{"finish_reason": "length", "native_finish_reason": Absent}]},
    ),
    Case(
        mark="R",
        what="a request id on every error",
        path="/v1/none",
        send=CHAT,
        status=404,
        reply={"error": {"request_id": REQUEST_ID}},
        reply_headers={"X-Request-ID": REQUEST_ID},
    ),
    Case(
        mark="R",
        what="a request id on health",
        method="GET",
        path="/health/live",
        reply_headers={"X-Request-ID": REQUEST_ID},
    ),
    Case(
        mark="R",
        what="no header of the vendor's account",
        send=CHAT,
        reply_headers={"X-RateLimit-Limit": Absent},
        script=_finished("stop") | {"headers": {"X-RateLimit-Limit": "7", "Set-Cookie": "a=b"}},
    ),
]
