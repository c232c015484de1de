"""Whether a model's name, as a request writes it, is one of a catalogue entry's.

The rules are the price library's own: texts are compared in lower case, regular expressions are searched.
"""

from __future__ import annotations

import re

from .entries import Match

__all__ = ["canonical", "matches"]

_COMPACT_DATE = re.compile(r"-(20\d{2})(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])(?=$|[-:@])")


def matches(clause: Match, name: str) -> bool:
    """Say whether `name` (lower case) fits the clause. Raises ValueError for a clause it does not know."""
    [(kind, wanted)] = clause.items()
    match kind:
        case "equals":
            return bool(name == wanted)
        case "in":
            return name in wanted
        case "starts_with":
            return name.startswith(wanted)
        case "ends_with":
            return name.endswith(wanted)
        case "contains":
            return wanted in name
        case "regex":
            return re.search(wanted, name) is not None
        case "or":
            return any(matches(one, name) for one in wanted)
        case "and":
            return all(matches(one, name) for one in wanted)
    raise ValueError(f"a catalogue entry has the unknown clause {kind!r}")


def canonical(name: str) -> str:
    """Write a compact date (`gpt-5.2-20251211`) as the catalogue does (`gpt-5.2-2025-12-11`)."""
    return _COMPACT_DATE.sub(r"-\1-\2-\3", name)
