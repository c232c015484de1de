"""JSON Schema for what models answer: compiled once, linear patterns, nothing fetched."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import msgspec

from .rules import InvalidRule

__all__ = ["Schema"]

_REFERENCES = frozenset({"$ref", "$dynamicRef", "$recursiveRef"})


class Schema:
    """One compiled schema. Raises InvalidRule for what is none, or refers to elsewhere."""

    def __init__(self, schema: dict[str, Any]) -> None:
        for reference in _references(schema):
            if not reference.startswith("#"):
                raise InvalidRule("config.schema", f"{reference[:100]!r} refers to elsewhere")
        try:
            self._validator = jsonschema_rs.validator_for(
                schema, offline=True, pattern_options=jsonschema_rs.RegexOptions()
            )
        except (ValueError, TypeError, RecursionError, jsonschema_rs.ReferencingError) as error:
            raise InvalidRule("config.schema", f"not a JSON Schema: {error}"[:200]) from None

    def accepts(self, text: str) -> bool:
        """Say whether a text is one JSON document of this schema."""
        try:
            return self._validator.is_valid(msgspec.json.decode(text))
        except (msgspec.DecodeError, RecursionError, ValueError):
            return False


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for name, inner in value.items():
            if name in _REFERENCES and isinstance(inner, str):
                yield inner
            yield from _references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _references(inner)
