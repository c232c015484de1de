"""Promises about `tests/conformance/WIRE.md`: every fact has its test or a decision, and the tests exist."""

from __future__ import annotations

import ast
import re
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "tests" / "conformance" / "WIRE.md").read_text(encoding="utf-8")
ROWS = [
    tuple(cell.strip() for cell in line.strip("|").split(" | "))
    for line in TEXT.splitlines()
    if re.match(r"\| \d", line)
]
NAMED = re.compile(r"`([\w./-]+\.py)::(\w+)`")
SECTIONS = 13


@cache
def names_of(path: Path) -> frozenset[str]:
    """Name the test functions of a file, none if there is no such file."""
    if not path.is_file():
        return frozenset()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return frozenset(one.name for one in functions if one.name.startswith("test_"))


def find(name: str) -> Path:
    """Find the file that a line names: a plugin's, or one under the root."""
    plugin, _, rest = name.partition("/")
    return ROOT / name if plugin == "tests" else ROOT / "plugins" / f"raven-{plugin}" / "tests" / rest


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_a_fact_has_a_test_or_a_decision(row: tuple[str, ...]) -> None:
    """Each line names tests that exist, or says what was decided."""
    assert len(row) == 3
    _, fact, what = row
    assert fact
    named = NAMED.findall(what)
    assert named or what.startswith("**Decision:** "), "neither a test nor a decision"
    missing = [f"{file}::{test}" for file, test in named if test not in names_of(find(file))]
    assert missing == []


def test_the_keys_are_in_order_and_every_section_is_there() -> None:
    """A key stands once, and no item of a section is left out."""
    keys = [re.fullmatch(r"(\d+)\.(\d+)([a-z]?)", row[0]) for row in ROWS]
    assert all(keys)
    places = [(int(key[1]), int(key[2]), key[3]) for key in keys if key is not None]
    assert places == sorted(set(places))
    assert {section for section, _, _ in places} == set(range(1, SECTIONS + 1))
    for (section, item, _), (following, successor, _) in pairwise(places):
        assert successor - item in ((0, 1) if following == section else (1 - item,))
