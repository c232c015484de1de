"""What somebody sent to create or change a record: from bytes to a judged Struct.

Sans-IO. What reading adds is passed over, so that what was read can be sent back unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec

from raven_proxy.errors import InvalidRequest
from raven_proxy.judging import judge

from .resource import Record, Resource, invalid
from .rows import MASK, Columns, columns_of

__all__ = ["as_validation", "attributes_of", "decode", "drop_read_only", "merge", "names_of", "read_fields"]

B = TypeVar("B", bound=msgspec.Struct)
T = TypeVar("T")
_ALWAYS_SHOWN = frozenset({"id", "organizationId", "createdAt"})
_decode_fields = msgspec.json.Decoder(dict[str, Any]).decode


def read_fields(given: bytes) -> dict[str, Any]:
    """Read a JSON object. Raises InvalidRequest."""
    return as_validation(lambda: judge(_decode_fields, given))


def decode(resource: Resource[B], fields: Mapping[str, Any]) -> B:
    """Decode fields strictly. Raises InvalidRequest with `param`."""
    decode: Callable[[bytes], B] = msgspec.json.Decoder(resource.body).decode
    body = as_validation(lambda: judge(decode, msgspec.json.encode(fields)))
    outside = columns_of(resource.body).find_outside(body)
    if outside is not None:
        raise invalid(outside, "must be in the years 1 to 9999 of UTC")
    return body


def as_validation(work: Callable[[], T]) -> T:
    """Let what is wrong with a body be a `validation_error`, as everywhere in the management API."""
    try:
        return work()
    except InvalidRequest as error:
        error.type = "validation_error"
        raise


def drop_read_only(resource: Resource[B], fields: dict[str, Any]) -> dict[str, Any]:
    """Pass over what reading adds, so that what was read can be sent back."""
    added = set(_ALWAYS_SHOWN) | {f"{column.name}Hint" for column in columns_of(resource.body).secrets}
    for shown in (resource.shown, resource.created):
        added.update(shown.__struct_encode_fields__ if shown is not None else ())
    return {name: value for name, value in fields.items() if name not in added or name in names_of(resource)}


def names_of(resource: Resource[B]) -> Mapping[str, str]:
    """Map a resource's JSON names to the Struct's."""
    return columns_of(resource.body).names


def attributes_of(resource: Resource[B], fields: Mapping[str, Any]) -> frozenset[str]:
    """Give the fields that were sent, by the Struct's names."""
    names = names_of(resource)
    return frozenset(names[name] for name in fields if name in names)


def merge(
    columns: Columns[B], before: Record[B], fields: Mapping[str, Any], *, replace: bool
) -> Mapping[str, Any]:
    """Lay what was sent over what is there, or over the defaults. Secrets stay as they are."""
    kept: dict[str, Any] = msgspec.to_builtins(before.body)
    if replace:  # secrets cannot be read, so they cannot be sent back either
        kept = {column.name: MASK for column in columns.secrets if before.columns[column.field] is not None}
    return {**kept, **fields}
