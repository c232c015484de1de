"""Between a resource's Struct and its row: which column holds what, and in what form.

Sans-IO: rows are dicts. Secrets are sealed on the way in and masked on the way out.
"""

from __future__ import annotations

import datetime as dt
import typing
from collections.abc import Iterable, Mapping
from functools import cache
from types import NoneType, UnionType
from typing import Any, Generic, Literal, TypeVar

import msgspec

from raven_proxy.sealing import Sealer

from .resource import Record, Resource

__all__ = ["MASK", "Columns", "columns_of", "owned_by", "place_of", "read_record", "show_plainly"]

B = TypeVar("B", bound=msgspec.Struct)
MASK = "********"
"""What stands in a decoded body for a secret that is set."""

_Kind = Literal["plain", "flag", "time", "json", "secret", "unkept"]


class _Column(msgspec.Struct, frozen=True):
    field: str  # as in the Struct, and the column's name
    name: str  # as in JSON
    kind: _Kind


class Columns(Generic[B]):
    """The columns of one Struct type."""

    def __init__(self, body: type[B]) -> None:
        self._body = body
        hints = typing.get_type_hints(body, include_extras=True)
        names = zip(body.__struct_fields__, body.__struct_encode_fields__, strict=True)
        every = tuple(_Column(field, name, _kind_of(hints[field])) for field, name in names)
        self.names = {column.name: column.field for column in every}
        self.unkept = tuple(column for column in every if column.kind == "unkept")
        self._columns = tuple(column for column in every if column.kind != "unkept")
        self.secrets = tuple(column for column in self._columns if column.kind == "secret")
        self._times = tuple(column for column in self._columns if column.kind == "time")

    def to_row(
        self, body: B, sealer: Sealer | None, bound_to: str, *, without: Iterable[str] = ()
    ) -> dict[str, Any]:
        """Give the columns of a body. `bound_to` ties sealed values to their row."""
        row: dict[str, Any] = {}
        for column in self._columns:
            if column.field in without:
                continue
            value = getattr(body, column.field)
            row[column.field] = value if value is None else _store(column, value, sealer, bound_to)
        return row

    def from_row(self, row: Mapping[str, Any]) -> B:
        """Read a body back. Raises msgspec.ValidationError for a row that the type does not know."""
        fields = {}
        for column in self._columns:
            value = row[column.field]
            fields[column.name] = value if value is None else _load(column, value)
        return msgspec.convert(fields, self._body)

    def find_outside(self, body: B) -> str | None:
        """Name a time that its column could not give back: its offset leads out of the years of UTC."""
        for column in self._times:
            value = getattr(body, column.field)
            try:
                _ = value is None or value.astimezone(dt.UTC)
            except (ValueError, OverflowError):
                return column.name
        return None

    def show(self, body: B, row: Mapping[str, Any]) -> dict[str, Any]:
        """Give a body as JSON shows it: a secret only by its last four characters."""
        shown: dict[str, Any] = msgspec.to_builtins(body, builtin_types=(dt.datetime,))
        for column in self.secrets:
            del shown[column.name]
            shown[f"{column.name}Hint"] = hint_of(row[column.field])
        for column in self.unkept:
            del shown[column.name]
        return shown


@cache
def columns_of(body: type[B]) -> Columns[B]:
    """Give the columns of a type; looked at once."""
    return Columns(body)


def read_record(resource: Resource[B], row: Mapping[str, Any]) -> Record[B]:
    """Read a record back. Raises msgspec.ValidationError for a row that its type does not know."""
    return Record(
        id=str(row["id"]),
        organization_id=row["organization_id"],
        created_at=dt.datetime.fromtimestamp(row["created_at"], dt.UTC),
        body=columns_of(resource.body).from_row(row),
        columns=dict(row),
    )


def show_plainly(resource: Resource[B], record: Record[B]) -> dict[str, Any]:
    """Give a record's own fields as they may be shown, for the audit log."""
    return columns_of(resource.body).show(record.body, record.columns)


def hint_of(sealed: bytes | None) -> str | None:
    """Give what may be shown of a sealed secret: "…abcd", or "…" for a short one."""
    return None if sealed is None else Sealer.hint(sealed)


def owned_by(organizations: tuple[str, ...] | None) -> tuple[str, list[Any]]:
    """Give the condition on the rows of these organisations (None: of all), and its values."""
    if organizations is None:
        return "1 = 1", []
    if len(organizations) == 1:
        return "organization_id = ?", list(organizations)
    places = ", ".join("?" * len(organizations))
    return (f"organization_id IN ({places})" if organizations else "1 = 0"), list(organizations)


def _store(column: _Column, value: Any, sealer: Sealer | None, bound_to: str) -> Any:
    if column.kind == "flag":
        return int(value)
    if column.kind == "time":
        return int(value.timestamp())
    if column.kind == "json":
        return msgspec.json.encode(value).decode()
    if column.kind == "secret":
        assert sealer is not None, "these records were opened without the gateway's secret"
        return sealer.seal(value, f"{bound_to}/{column.field}")
    return msgspec.to_builtins(value)


def _load(column: _Column, value: Any) -> Any:
    if column.kind == "flag":
        return bool(value)
    if column.kind == "time":
        return dt.datetime.fromtimestamp(value, dt.UTC)
    if column.kind == "json":
        return msgspec.json.decode(value)
    if column.kind == "secret":
        return MASK
    return value


def _kind_of(hint: Any) -> _Kind:
    marks: set[str] = set()
    while True:
        origin = typing.get_origin(hint)
        if origin is typing.Annotated:
            hint, *notes = typing.get_args(hint)
            for note in notes:
                marks |= set(note.extra or ()) if isinstance(note, msgspec.Meta) else set()
        elif origin in (typing.Union, UnionType):
            rest = [one for one in typing.get_args(hint) if one is not NoneType]
            if len(rest) != 1:
                return "json"
            hint = rest[0]
        else:
            break
    if "secret" in marks:
        return "secret"
    if "unkept" in marks:
        return "unkept"
    if hint is bool:
        return "flag"
    if isinstance(hint, type) and issubclass(hint, dt.datetime):
        return "time"
    is_plain = typing.get_origin(hint) is Literal or hint in (str, int, float)
    return "plain" if is_plain else "json"


def place_of(resource: Resource[Any], record_id: str) -> str:
    """Name the place that a record's secrets are sealed for."""
    return f"{resource.table}/{record_id}"
