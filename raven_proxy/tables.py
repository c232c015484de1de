"""A TOML table into a Struct, strictly, and what to write instead where that fails. Sans-IO."""

from __future__ import annotations

import difflib
import re
from typing import Any, TypeVar

import msgspec

from .errors import ConfigError

__all__ = ["decode_table"]

T = TypeVar("T")

_REMEDIES = {
    "key": 'a secret is written { env = "NAME" } or { file = "path" }, never as it is',
    "log_level": "use debug, info, warning or error",
    "strategy": "use priority",
    "counters": "use auto, process or machine",
}


def decode_table(table: dict[str, Any], kind: type[T], where: str) -> T:
    """Decode a TOML table into a Struct, strictly.

    Raises ConfigError: an unknown key comes with the nearest known one.
    """
    try:
        return msgspec.convert(table, kind, strict=True)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{where}: {_explain(error, kind, table)}") from None


def _explain(error: msgspec.ValidationError, kind: Any, table: dict[str, Any]) -> str:
    text = str(error)
    message, _, place = text.partition(" - at `$")
    place = place.rstrip("`").lstrip(".")
    path = _name_entry(place, text, kind, table)
    unknown = re.search(r"unknown field `([^`]*)`", message)
    if unknown is None:
        remedy = next((f"; {text}" for end, text in _REMEDIES.items() if path.endswith(end)), "")
        return f"{path or 'the file'}: {message[0].lower()}{message[1:]}{remedy}"
    known = _fields_at(kind, place)
    near = difflib.get_close_matches(unknown[1], known, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else f"; known keys: {', '.join(sorted(known))}"
    where = f"[{path}] " if path else ""
    return f"{where}unknown key {unknown[1]!r}{hint}"


def _name_entry(path: str, text: str, kind: Any, table: dict[str, Any]) -> str:
    """Put a name where msgspec says "[...]": the first entry of that table with this very fault."""
    head, dots, rest = path.partition("[...]")
    entries = table.get(head)
    for name, entry in entries.items() if dots and isinstance(entries, dict) else ():
        try:
            msgspec.convert({**table, head: {name: entry}}, kind, strict=True)
        except msgspec.ValidationError as error:
            if str(error) == text:
                return f"{head}.{name}{rest}"
    return path


def _fields_at(kind: Any, path: str) -> list[str]:
    info: Any = msgspec.inspect.type_info(kind)
    for name in re.findall(r"[A-Za-z_]\w*", path):
        if isinstance(info, msgspec.inspect.StructType):
            info = next((f.type for f in info.fields if f.encode_name == name), info)
        while not isinstance(info, msgspec.inspect.StructType):
            if isinstance(info, msgspec.inspect.VarTupleType | msgspec.inspect.ListType):
                info = info.item_type
            elif isinstance(info, msgspec.inspect.DictType):
                info = info.value_type
            elif isinstance(info, msgspec.inspect.UnionType):
                info = next(
                    (t for t in info.types if isinstance(t, msgspec.inspect.StructType)), info.types[0]
                )
            else:
                return []
    return [field.encode_name for field in info.fields]
