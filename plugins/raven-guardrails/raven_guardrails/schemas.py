"""JSON Schema for what models answer: compiled once, linear patterns, nothing fetched."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import msgspec

from .expansion import TooMuch, check_expansion
from .rules import InvalidRule

__all__ = ["Schema"]

_MOST_PATTERN = 256 * 1024  # bytes of one compiled pattern
_MOST_AUTOMATON = 2**20
_REFERENCES = frozenset({"$ref", "$dynamicRef", "$recursiveRef"})


class Schema:
    """One compiled schema. Raises InvalidRule for what is none, refers elsewhere, or could take for ever."""

    def __init__(self, schema: dict[str, Any]) -> None:
        for reference in _references(schema):
            if not reference.startswith("#"):
                raise InvalidRule("config.schema", f"{reference[:100]!r} refers to elsewhere")
        try:
            check_expansion(schema)
        except TooMuch as error:
            raise InvalidRule("config.schema", str(error)) from None
        patterns = jsonschema_rs.RegexOptions(size_limit=_MOST_PATTERN, dfa_size_limit=_MOST_AUTOMATON)
        try:
            self._validator = jsonschema_rs.validator_for(schema, offline=True, pattern_options=patterns)
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
