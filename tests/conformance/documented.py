"""How a documented promise is written down: a request, and what the answer has to look like.

A case's mark names the published systems that promise it: R, RR, PK, AV, RX (contract, first paragraph).
"""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest

from raven_proxy.harness import RunningGateway
from raven_proxy.mock import MockUpstream

__all__ = [
    "CHAT",
    "GATEWAY",
    "REQUEST_ID",
    "VENDOR_KEY",
    "Absent",
    "Case",
    "cases",
    "check",
    "fits",
    "stream_of",
]

VENDOR_KEY = "sk-vendor-0123456789abcdef"
REQUEST_ID = re.compile(r"^req_[A-Za-z0-9]+$")

CHAT: dict[str, Any] = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hello!"}]}
"""The request that all five systems document."""

GATEWAY: dict[str, Any] = {
    "models": [
        {"name": "fast", "target": "openai-main/gpt-4o-mini"},
        {"name": "spread", "targets": ["deepseek-main/deepseek-chat", "openai-main/gpt-4o"]},
    ],
    "max_body_bytes": 64 * 1024,
    "first_byte_timeout_s": 0.5,
    "access_log": False,
}
"""The configuration of the documented gateway; its upstreams are in the fixture `documented`."""


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """One documented request and its documented answer.

    `send` is JSON, or bytes as they are; None sends no body. A header that is "" is not sent; "{key}" in
    one is the gateway's key. `reply` and `sent` (what the provider got)
    are patterns for `fits`. `calls` is how often the provider was asked. `script` is the provider's
    reply, as keywords of `MockUpstream.reply`.
    """

    mark: str
    what: str
    method: str = "POST"
    path: str = "/v1/chat/completions"
    headers: dict[str, str] = {}
    send: Any = None
    script: dict[str, Any] | None = None
    status: int = 200
    reply: Any = ...
    reply_headers: dict[str, Any] = {}
    sent: Any = ...
    sent_headers: dict[str, Any] = {}
    calls: int | None = None

    @property
    def body(self) -> bytes | None:
        """The bytes that the client sends."""
        if self.send is None or isinstance(self.send, bytes):
            return self.send
        return msgspec.json.encode(self.send)


def cases(*found: Case) -> pytest.MarkDecorator:
    """Parametrise a test by cases; its ids begin with their marks."""
    return pytest.mark.parametrize("case", [pytest.param(c, id=f"{c.mark}: {c.what}") for c in found])


async def check(case: Case, gateway: RunningGateway, upstream: MockUpstream) -> None:
    """Send a case's request; raise AssertionError unless client and provider get what it says."""
    if case.script is not None:
        upstream.reply(**case.script)
    headers = {"Content-Type": "application/json", "Authorization": "Bearer {key}"} | case.headers
    sent = {name: value.format(key=gateway.key) for name, value in headers.items() if value}
    del gateway.client.headers["Authorization"]
    async with gateway.client.request(case.method, case.path, data=case.body, headers=sent) as reply:
        body = await reply.read()
    assert reply.status == case.status, body
    fits(case.reply, msgspec.json.decode(body))
    fits({"X-Request-ID": REQUEST_ID} | case.reply_headers, dict(reply.headers))
    if case.calls is not None:
        assert len(upstream.seen) == case.calls
    for seen in upstream.seen:
        fits(case.sent, seen.json)
        fits({"cookie": Absent} | case.sent_headers, seen.headers)
        assert gateway.key.encode() not in seen.raw
        assert seen.key == VENDOR_KEY


def fits(pattern: Any, value: Any, where: str = "$") -> None:
    """Raise AssertionError unless `value` looks like `pattern`.

    `...` is anything that is there, a type is any value of it, a compiled expression a text that it
    finds itself in. A dict fits if the members that it names fit (`Absent` ones are not there), a list
    if all of it does.
    """
    if pattern is ...:
        return
    if isinstance(pattern, dict):
        assert isinstance(value, dict), f"{where}: {value!r}"
        for name, part in pattern.items():
            assert (name in value) == (part is not Absent), f"{where}.{name}: {value!r}"
            if part is not Absent:
                fits(part, value[name], f"{where}.{name}")
    elif isinstance(pattern, list):
        assert isinstance(value, list), f"{where}: {value!r}"
        assert len(value) == len(pattern), f"{where}: {value!r}"
        for index, part in enumerate(pattern):
            fits(part, value[index], f"{where}[{index}]")
    elif isinstance(pattern, re.Pattern):
        assert pattern.search(str(value)), f"{where}: {value!r} has no {pattern.pattern!r}"
    elif isinstance(pattern, type):
        assert isinstance(value, pattern), f"{where}: {value!r}"
    else:
        assert value == pattern, f"{where}: {value!r} is not {pattern!r}"


class Absent:
    """A pattern: the member is not there."""


def stream_of(body: bytes) -> list[Any]:
    """Read a stream's events: decoded JSON, and "[DONE]"."""
    events = [event for event in body.split(b"\n\n") if event]
    assert all(event.startswith(b"data: ") for event in events), body[:400]
    texts = [event.removeprefix(b"data: ") for event in events]
    return [text.decode() if text == b"[DONE]" else msgspec.json.decode(text) for text in texts]
