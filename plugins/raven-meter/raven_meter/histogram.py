"""Counts by latency, in bins that each span a fixed ratio: from them quantiles, in bounded memory.

SQLite has no percentiles and portable SQL no logarithm, so the database finds the bin with a tree of
comparisons. A quantile is right to its bin: within 9 %, of which it is the middle. Sans-IO.
"""

from __future__ import annotations

import math
from collections import Counter

__all__ = ["NO_BIN", "bin_of", "quantile", "word_bin"]

NO_BIN = -1
"""The bin of what does not count."""

_PER_DOUBLING = 8  # bins; 2 ** (1/8) is 1.09
_BINS = 25 * _PER_DOUBLING  # up to 2 ** 25 ms, nine hours
_EDGES = [2 ** (place / _PER_DOUBLING) for place in range(_BINS)]  # ms; bin n ends at edge n


def word_bin(column: str) -> str:
    """Word the SQL expression for the bin of a column of milliseconds."""

    def word(first: int, last: int) -> str:
        if first == last:
            return str(first)
        middle = (first + last) // 2
        under, over = word(first, middle), word(middle + 1, last)
        return f"CASE WHEN {column} < {_EDGES[middle]!r} THEN {under} ELSE {over} END"

    return word(0, _BINS)


def bin_of(latency_ms: float) -> int:
    """Say which bin that expression gives."""
    return next((place for place, edge in enumerate(_EDGES) if latency_ms < edge), _BINS)


def quantile(counts: Counter[int], share: float) -> float | None:
    """Give the latency that `share` of all do not exceed (nearest rank), in ms; None if there are none."""
    total = sum(count for place, count in counts.items() if place != NO_BIN)
    rank = math.ceil(share * total)
    for place in sorted(counts):
        if place != NO_BIN and (rank := rank - counts[place]) <= 0:
            return float(f"{_middle(place):.3g}")
    return None


def _middle(place: int) -> float:
    return 0.5 if not place else 2 ** ((place - 0.5) / _PER_DOUBLING)
