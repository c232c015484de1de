"""Requests are built, revised and answered as the vendor's row says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from raven_openai.dialect import FACES
from raven_openai.taps import StreamTap, WholeTap

from raven_proxy.errors import InvalidRequest, RateLimited
from raven_proxy.exchange import Exchange, ReplyHead
from raven_proxy.faces import ENVELOPE, Face, read_nothing

from .conftest import SECRET  # type: ignore[import-not-found]

Make = Callable[..., Exchange]
STREAM = b'{"model":"m","messages":[{"role":"user","content":"Hi"}],"stream":true}'
WHOLE = STREAM.replace(b"true", b"false")
EVENTS = ReplyHead(200, {"content-type": "text/event-stream; charset=utf-8"})
JSON = ReplyHead(200, {"content-type": "application/json"})
REFUSED = b'{"detail":[{"type":"extra_forbidden","loc":["body","stream_options"],"msg":"no"}]}'
