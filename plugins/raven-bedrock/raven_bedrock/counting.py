"""Counts tokens for clients of Anthropic's `messages/count_tokens`, by Bedrock's CountTokens.

Source: docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_CountTokens.html. It takes no ids of
cross-region profiles, so their prefix is cut off.
"""

from __future__ import annotations

import base64
import re

import msgspec

from raven_proxy import splice
from raven_proxy.errors import UpstreamTruncated
from raven_proxy.exchange import Usage
from raven_proxy.providers import Tally
from raven_proxy.translation import JSON, Translation

__all__ = ["bare_id", "open_count", "write_count"]

_PREFIX = re.compile(r"(?:us|us-gov|eu|apac|ap|jp|au|ca|global)\.(?=[a-z0-9-]+\.)")


class _Count(msgspec.Struct, rename="camel"):
    input_tokens: int


def bare_id(model_id: str) -> str:
    """Cut a cross-region prefix off a model id."""
    return _PREFIX.sub("", model_id, count=1) if _PREFIX.match(model_id) else model_id


def write_count(body: bytes) -> bytes:
    """Wrap a body for InvokeModel, which must have `max_tokens`, into a request to count it."""
    spans = splice.scan(body)
    if "max_tokens" not in spans:
        body = splice.put(body, spans, "max_tokens", 1)
    return msgspec.json.encode({"input": {"invokeModel": {"body": base64.b64encode(body).decode()}}})


def open_count() -> Translation:
    """Give the stage that makes `{"input_tokens": n}` of the reply."""
    parts: list[bytes] = []

    def feed(data: bytes) -> bytes:
        parts.append(data)
        return b""

    def close() -> bytes:
        try:
            count = msgspec.json.decode(b"".join(parts), type=_Count).input_tokens
        except (msgspec.MsgspecError, ValueError) as error:
            raise UpstreamTruncated("The provider's reply cannot be read.") from error
        return b'{"input_tokens":%d}' % count

    return Translation(JSON, feed, close, lambda: Tally(Usage()))
