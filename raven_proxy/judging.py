"""Judging a request body with a narrow Struct: whatever the bytes are, a value or a 400 that says where.

For the `read_call` of faces and the `read_request` of dialects. Knows no dialect.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta

from .errors import InvalidRequest
from .splice import find_lone_surrogate

__all__ = ["Limit", "ModelName", "check_model", "judge"]

T = TypeVar("T")
ModelName = Annotated[str, Meta(min_length=1, max_length=512)]
Limit = Annotated[int, Meta(ge=0, le=2**53)]

_MISSING = re.compile(r"missing required field `(\w+)`")
_UNKNOWN = re.compile(r"contains unknown field `([^`]{1,200})`")
_INDEX = re.compile(r"\[\d+\]")


def judge(decode: Callable[[bytes], T], body: bytes, remedies: Mapping[str, str] = {}) -> T:
    """Decode `body`, or raise InvalidRequest whose `param` is written as the client would write it.

    `remedies` maps places ("messages[].role", indexes left out) to what to send instead.
    """
    try:
        return decode(body)
    except RecursionError:
        raise InvalidRequest("The body is nested too deeply.") from None
    except (msgspec.MsgspecError, ValueError) as error:
        lone = find_lone_surrogate(error, body)
        if lone is not None:
            raise InvalidRequest(f"The body is not valid JSON at byte {lone}: a lone surrogate.") from None
        what, _, path = str(error).partition(" - at `$")
    param = path.rstrip("`").lstrip(".")
    for pattern, words in ((_MISSING, "it is missing"), (_UNKNOWN, "there is no such field")):
        named = pattern.search(what)
        if named is not None:
            param = f"{param}.{named[1]}" if param else named[1]
            what = words
    if not param:
        raise InvalidRequest(f"The body cannot be read: {what[:200]}.")
    remedy = remedies.get(_INDEX.sub("[]", param), "Correct it or leave it out.")
    raise InvalidRequest(f"{param}: {what[:1].lower()}{what[1:200].rstrip('.')}. {remedy}", param=param)


def check_model(model: str) -> str:
    """Refuse a name that cannot stand in a reply header and the logs."""
    if not model.isprintable():
        raise InvalidRequest("model: the name holds a control character; remove it.", param="model")
    return model
